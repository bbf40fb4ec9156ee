"""Tiny made-up data sets in the official formats that detectron2 registers.

Each has three images with a cat (a rectangle) and a dog (another) on grass.
"""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as mask_util

Json = dict[str, Any]

WIDTH, HEIGHT = 64, 48
IMAGES = (1, 2, 3)
BOXES = {0: (6, 8, 20, 24), 1: (36, 14, 22, 26)}  # by thing: x, y, width, height


def draw(number: int) -> np.ndarray:
    """Return an image, BGR (HEIGHT, WIDTH, 3)."""
    image = np.full((HEIGHT, WIDTH, 3), (40, 130 + 10 * number, 40), np.uint8)
    for thing, (x, y, width, height) in BOXES.items():
        image[y : y + height, x : x + width] = (60, 60 + 150 * thing, 220)
    return image


def label_map(*, background: int, labels: tuple[int, int], dtype: Any = np.uint8) -> np.ndarray:
    """Return a map of the background and of the two things, (HEIGHT, WIDTH)."""
    labeled = np.full((HEIGHT, WIDTH), background, dtype)
    for thing, (x, y, width, height) in BOXES.items():
        labeled[y : y + height, x : x + width] = labels[thing]
    return labeled


def write(path: Path, content: np.ndarray | Json | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, np.ndarray):
        assert cv2.imwrite(str(path), content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def polygon(box: tuple[int, int, int, int]) -> list[float]:
    x, y, width, height = box
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def rle(box: tuple[int, int, int, int]) -> Json:
    (encoded,) = mask_util.frPyObjects([polygon(box)], HEIGHT, WIDTH)
    return {**encoded, "counts": encoded["counts"].decode()}


def write_images(folder: Path, *, name: str = "{:012d}.jpg") -> None:
    for number in IMAGES:
        write(folder / name.format(number), draw(number))


def write_coco(
    path: Path, categories: list[Json], *, ids: tuple[int, int], is_lvis: bool = False
) -> str:
    """Write the instances of images {:012d}.jpg, with polygons and RLE; return the path.

    Args:
        path: of the file.
        categories: all categories.
        ids: category ids of the two things.
        is_lvis: write LVIS's keys, and no RLE.
    """
    annotations = [
        {
            "id": 10 * number + thing,
            "image_id": number,
            "category_id": ids[thing],
            "bbox": list(box),
            "area": box[2] * box[3],
            "iscrowd": 0,
            "segmentation": rle(box) if number == 3 and not is_lvis else [polygon(box)],
        }
        for number in IMAGES
        for thing, box in BOXES.items()
    ]
    images = [
        {"id": i, "file_name": f"{i:012d}.jpg", "width": WIDTH, "height": HEIGHT} for i in IMAGES
    ]
    if is_lvis:
        for image in images:
            image |= {"neg_category_ids": [], "not_exhaustive_category_ids": []}
            image["coco_url"] = f"http://images.cocodataset.org/train2017/{image['file_name']}"
    content = {"images": images, "annotations": annotations, "categories": categories}
    return str(write(path, content))


def write_panoptic(
    root: Path, folder: str, *, categories: list[Json], name: str = "{:012d}", ids: Any = IMAGES
) -> None:
    """Write panoptic PNGs and `<folder>.json`.

    Args:
        root: parent of both.
        folder: of the PNGs.
        categories: the background, and the two things.
        name: of the PNGs.
        ids: of the images.
    """
    values = (300, 5, 70_000)
    segment_ids = label_map(background=values[0], labels=values[1:], dtype=np.int64)
    colors = np.stack([segment_ids // 256**k % 256 for k in (2, 1, 0)], axis=2)  # BGR
    annotations = []
    for number, image_id in zip(IMAGES, ids, strict=True):
        file = f"{name.format(number)}.png"
        write(root / folder / file, colors.astype(np.uint8))
        segments = [
            {"id": value, "category_id": category["id"], "iscrowd": 0, "area": 9, "bbox": [0] * 4}
            for value, category in zip(values, categories, strict=True)
        ]
        annotations.append({"image_id": image_id, "file_name": file, "segments_info": segments})
    content = {"annotations": annotations, "categories": categories, "images": []}
    write(root / f"{folder}.json", content)


def write_voc(root: Path) -> None:
    names = [f"2007_{number:06d}" for number in IMAGES]
    write_images(root / "JPEGImages", name="2007_{:06d}.jpg")
    write(root / "ImageSets/Main/train.txt", "\n".join(names))
    objects = "".join(
        f"<object><name>{name}</name><pose>Left</pose><truncated>0</truncated>"
        f"<difficult>0</difficult><bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin>"
        f"<xmax>{x + width}</xmax><ymax>{y + height}</ymax></bndbox></object>"
        for name, (x, y, width, height) in zip(("cat", "dog"), BOXES.values(), strict=True)
    )
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
    for name in names:
        write(root / f"Annotations/{name}.xml", f"<annotation>{size}{objects}</annotation>")


def write_cityscapes(root: Path, split: str) -> None:
    """Write a city with all kinds of files; the two things are a car and a person, on a road."""
    for number in IMAGES:
        stem = f"aachen_{number:06d}_000019"
        write(root / f"leftImg8bit/{split}/aachen/{stem}_leftImg8bit.png", draw(number))
        truth = root / f"gtFine/{split}/aachen"
        ids = label_map(background=7, labels=(26, 24))
        write(truth / f"{stem}_gtFine_labelIds.png", ids)
        write(truth / f"{stem}_gtFine_labelTrainIds.png", label_map(background=0, labels=(13, 11)))
        instances = label_map(background=7, labels=(26000, 24000), dtype=np.uint16)
        write(truth / f"{stem}_gtFine_instanceIds.png", instances)
        frame = [[0, 0], [WIDTH, 0], [WIDTH, HEIGHT], [0, HEIGHT]]
        objects = [{"label": "road", "polygon": frame}]
        for label, box in zip(("car", "person"), BOXES.values(), strict=True):
            corners = np.reshape(polygon(box), (-1, 2)).tolist()
            objects.append({"label": label, "polygon": corners})
        content = {"imgHeight": HEIGHT, "imgWidth": WIDTH, "objects": objects}
        write(truth / f"{stem}_gtFine_polygons.json", content)
