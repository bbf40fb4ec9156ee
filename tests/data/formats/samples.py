"""Small labeled data in each format: eight images of a bright ball or box with the same labels.

Each writer makes one format in an empty folder, below 50 kB.
"""

import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from yolor_d2.data.files.semantic_files import write_index_png

WIDTH, HEIGHT = 32, 24
NUMBER = 8
NAMES = ("ball", "box")
CATEGORIES = [{"id": 10, "name": "ball"}, {"id": 20, "name": "box"}]

Json = dict[str, Any]


def box_of(number: int) -> tuple[int, int, int, int]:
    """The box (x, y, width, height) of the object in an image."""
    return number, number + 2, 12, 10


def class_of(number: int) -> int:
    return number % 2


def polygon_of(number: int) -> list[int]:
    x, y, w, h = box_of(number)
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def draw(path: Path, number: int) -> None:
    """Write an image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = np.full((HEIGHT, WIDTH, 3), 30, np.uint8)
    x, y, w, h = box_of(number)
    picture[y : y + h, x : x + w] = (0, 200, 200) if class_of(number) else (200, 60, 0)
    cv2.imwrite(str(path), picture)


def images(folder: Path, numbers: Sequence[int] = range(NUMBER), suffix: str = "png") -> list[str]:
    """Write images, and return their names."""
    names = [f"{number}.{suffix}" for number in numbers]
    for number, name in zip(numbers, names, strict=True):
        draw(folder / name, number)
    return names


def write(path: Path, content: str | Json) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def coco_content(numbers: Sequence[int] = range(NUMBER), suffix: str = "png") -> Json:
    listed = [
        {"id": n + 100, "file_name": f"{n}.{suffix}", "width": WIDTH, "height": HEIGHT}
        for n in numbers
    ]
    annotations = [
        {
            "id": n + 1,
            "image_id": n + 100,
            "category_id": CATEGORIES[class_of(n)]["id"],
            "bbox": list(box_of(n)),
            "segmentation": [polygon_of(n)],
            "area": 120,
            "iscrowd": 0,
        }
        for n in numbers
    ]
    return {"images": listed, "annotations": annotations, "categories": CATEGORIES}


def caption_content(numbers: Sequence[int] = range(NUMBER), suffix: str = "png") -> Json:
    entries = [
        {"id": n + 1, "image_id": n + 100, "caption": f"a {NAMES[class_of(n)]}"} for n in numbers
    ]
    return {"images": coco_content(numbers, suffix)["images"], "annotations": entries}


def coco_json(root: Path) -> None:
    images(root / "images")
    write(root / "labels.json", coco_content())


def coco_export(root: Path) -> None:
    for folder, numbers in (("train", range(6)), ("valid", range(6, 8))):
        images(root / folder, numbers)
        content = coco_content(numbers)
        parent = {"id": 0, "name": "shapes", "supercategory": "none"}
        children = [{**c, "supercategory": "shapes"} for c in CATEGORIES]
        write(
            root / folder / "_annotations.coco.json", content | {"categories": [parent, *children]}
        )


def coco_folders(root: Path) -> None:
    for split, numbers in (("train2017", range(6)), ("val2017", range(6, 8))):
        images(root / split, numbers, "jpg")
        write(root / f"annotations/instances_{split}.json", coco_content(numbers, "jpg"))
        write(root / f"annotations/captions_{split}.json", caption_content(numbers, "jpg"))


def coco_zip(root: Path) -> None:
    """The layout of COCO's own archives."""
    loose = root / "loose"
    coco_folders(loose)
    for split in ("train2017", "val2017"):
        pack(root / f"{split}.zip", loose, loose / split)
    pack(root / "annotations_trainval2017.zip", loose, loose / "annotations")
    for file in sorted(loose.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    loose.rmdir()


def pack(archive: Path, root: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive, "w") as file:
        for path in [folder, *sorted(folder.rglob("*"))]:
            file.write(path, path.relative_to(root))


def yolo_line(number: int, *, polygon: bool) -> str:
    x, y, w, h = box_of(number)
    values = [(x + w / 2) / WIDTH, (y + h / 2) / HEIGHT, w / WIDTH, h / HEIGHT]
    if polygon:
        values = [v / (WIDTH, HEIGHT)[k % 2] for k, v in enumerate(polygon_of(number))]
    return " ".join([str(class_of(number)), *map(str, values)]) + "\n"


def yolo(root: Path, *, polygon: bool = False) -> None:
    for folder, numbers in (("train", range(6)), ("val", range(6, 8))):
        images(root / "images" / folder, numbers)
        for n in numbers:
            write(root / "labels" / folder / f"{n}.txt", yolo_line(n, polygon=polygon))
    write(root / "data.yaml", "train: images/train\nval: images/val\nnames: [ball, box]\n")


def yolo_polygons(root: Path) -> None:
    yolo(root, polygon=True)


def voc_text(number: int) -> str:
    x, y, w, h = box_of(number)
    corners = f"<xmin>{x}</xmin><ymin>{y}</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax>"
    thing = f"<name>{NAMES[class_of(number)]}</name><bndbox>{corners}</bndbox>"
    return f"<annotation>\n<object>{thing}</object>\n</annotation>\n"


def voc(root: Path) -> None:
    images(root / "JPEGImages")
    for n in range(NUMBER):
        write(root / f"Annotations/{n}.xml", voc_text(n))
    write(root / "ImageSets/Main/train.txt", "".join(f"{n}\n" for n in range(6)))
    write(root / "ImageSets/Main/val.txt", "6\n7\n")


def labelme_content(number: int) -> Json:
    points = np.reshape(polygon_of(number), (-1, 2)).tolist()
    shape = {"label": NAMES[class_of(number)], "points": points, "shape_type": "polygon"}
    return {"shapes": [shape], "imagePath": f"{number}.png"}


def labelme(root: Path) -> None:
    images(root)
    for n in range(NUMBER):
        write(root / f"{n}.json", labelme_content(n))


def csv_line(number: int) -> str:
    x, y, w, h = box_of(number)
    return f"{number}.png,{NAMES[class_of(number)]},{x},{y},{x + w},{y + h}\n"


def box_csv(root: Path) -> None:
    images(root / "images")
    lines = ["filename,class,xmin,ymin,xmax,ymax\n", *map(csv_line, range(NUMBER))]
    write(root / "boxes.csv", "".join(lines))


def caption_lines(root: Path) -> None:
    images(root)
    lines = [{"file_name": f"{n}.png", "text": f"a {NAMES[class_of(n)]}"} for n in range(NUMBER)]
    write(root / "metadata.jsonl", "".join(json.dumps(line) + "\n" for line in lines))


def semantic_png(root: Path) -> None:
    images(root / "images")
    for n in range(NUMBER):
        x, y, w, h = box_of(n)
        labels = np.zeros((HEIGHT, WIDTH), np.uint8)
        labels[y : y + h, x : x + w] = 1 + class_of(n)
        write_index_png(root / f"masks/{n}.png", labels)
    write(root / "classes.txt", "background\nball\nbox\n")


# Name of the folder in docs/reference/data_formats.md, and its writer.
WRITERS: dict[str, Callable[[Path], None]] = {
    "coco_json": coco_json,
    "coco_export": coco_export,
    "coco_folders": coco_folders,
    "coco_zip": coco_zip,
    "yolo": yolo,
    "yolo_polygons": yolo_polygons,
    "voc": voc,
    "labelme": labelme,
    "box_csv": box_csv,
    "caption_lines": caption_lines,
    "semantic_png": semantic_png,
}


def total_bytes(root: Path) -> int:
    def sizes() -> Iterator[int]:
        yield from (path.stat().st_size for path in root.rglob("*") if path.is_file())

    return sum(sizes())
