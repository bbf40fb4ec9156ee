"""A tiny made-up data set in COCO's formats, for tests of registering, reading and evaluating."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from pycocotools import mask as mask_util

from yolor_d2.data.catalog.datasets import register_coco_multitask
from yolor_d2.data.files.semantic_files import write_index_png

Json = dict[str, Any]

KINDS = ("instances", "captions", "semantic", "panoptic")
SIZES = {3: (32, 24), 7: (40, 30), 12: (24, 36)}  # image id -> width, height
LISTED = {"instances": (3, 7), "captions": (7, 12), "panoptic": (3, 12)}
THINGS = {5: "cat", 2: "dog", 9: "kite"}
PANOPTIC = [
    {"id": 5, "name": "cat", "isthing": 1, "color": [250, 0, 0]},
    {"id": 2, "name": "dog", "isthing": 1, "color": [0, 250, 0]},
    {"id": 40, "name": "sky", "isthing": 0, "color": [0, 0, 250]},
]
SEMANTIC = ["cat", "dog", "sky"]


@contextlib.contextmanager
def restored_catalogs() -> Iterator[None]:
    """Restore detectron2's catalogs on exit."""
    datasets, metadata = dict(DatasetCatalog.data), dict(MetadataCatalog.data)
    try:
        yield
    finally:
        DatasetCatalog.data = datasets
        MetadataCatalog.data = metadata


def rectangle_mask(image_id: int, x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    width, height = SIZES[image_id]
    mask = np.zeros((height, width), np.uint8, order="F")
    mask[y0:y1, x0:x1] = 1
    return mask


def compressed(mask: np.ndarray) -> Json:
    rle = mask_util.encode(mask)
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def uncompressed(mask: np.ndarray) -> Json:
    """Return the lengths of alternating runs of 0 and 1, down the columns."""
    flat = mask.flatten(order="F")
    ends = np.append(np.flatnonzero(np.diff(flat)) + 1, flat.size)
    lengths = np.diff(ends, prepend=0).tolist()
    return {"size": list(mask.shape), "counts": [0, *lengths] if flat[0] else lengths}


class Album:
    """Three images, each listed by some of the files.

    Objects: image 3 has a cat (polygon), a dog (compressed RLE) and a crowd of cats (uncompressed);
    image 7 has none.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.images = root / "images"
        self.semantic = root / "semantic"
        self.panoptic = root / "panoptic"
        for folder in (self.images, self.semantic, self.panoptic):
            folder.mkdir()
        for image_id, (width, height) in SIZES.items():
            self.add_image(f"{image_id:06d}.jpg", width=width, height=height, shade=image_id * 20)
        self.add_image("000050.jpg", width=9, height=9, shade=0)  # in no file
        self._write("instances", self._instances(), _categories(THINGS))
        self._write("captions", self._captions())
        self._write("panoptic", self._segments(), PANOPTIC)
        self.add_semantic_map(3, label=1)
        self.add_semantic_map(12, label=2)
        write_index_png(self.semantic / "000099.png", np.zeros((5, 5), np.uint8))  # of no image

    def path(self, kind: str) -> Path:
        return self.root / f"{kind}.json"

    def add_image(self, name: str, *, width: int, height: int, shade: int) -> None:
        image = np.full((height, width, 3), shade, np.uint8)
        image[:, : width // 3] = (0, 0, 255)
        (self.images / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(self.images / name), image)

    def add_semantic_map(self, image_id: int, *, label: int) -> None:
        """Write a map of one label, with the left half 0 and an ignored corner."""
        width, height = SIZES[image_id]
        labels = np.full((height, width), label, np.uint8)
        labels[:, : width // 2] = 0
        labels[:4, :4] = 255
        write_index_png(self.semantic / f"{image_id:06d}.png", labels)

    @contextlib.contextmanager
    def changed(self, kind: str) -> Iterator[Json]:
        """Yield the content of a JSON file, and write it back on exit."""
        content = json.loads(self.path(kind).read_text())
        yield content
        self.path(kind).write_text(json.dumps(content))

    def register(self, name: str, *kinds: str, **more: Any) -> None:
        """Register with some of KINDS."""
        arguments = {
            "instances": {"instances_json": self.path("instances")},
            "captions": {"captions_json": self.path("captions")},
            "semantic": {"sem_seg_root": self.semantic, "sem_seg": SEMANTIC},
            "panoptic": {
                "panoptic_root": self.panoptic,
                "panoptic_json": self.path("panoptic"),
            },
        }
        chosen = {key: value for kind in kinds for key, value in arguments[kind].items()}
        register_coco_multitask(name, self.images, **(chosen | more))

    def load(self, *kinds: str, **more: Any) -> list[Json]:
        """Register and read."""
        name = f"album {len(DatasetCatalog)}"
        self.register(name, *kinds, **more)
        return DatasetCatalog.get(name)

    def _write(self, kind: str, annotations: list[Json], categories: Any = None) -> None:
        images = [
            {"id": i, "file_name": f"{i:06d}.jpg", "width": SIZES[i][0], "height": SIZES[i][1]}
            for i in LISTED[kind]
        ]
        content = {"images": images, "annotations": annotations}
        if categories is not None:
            content["categories"] = categories
        self.path(kind).write_text(json.dumps(content))

    def _instances(self) -> list[Json]:
        shapes = [
            (5, 0, [[4, 5, 20, 5, 20, 15, 4, 15]], [4, 5, 16, 10]),
            (2, 0, compressed(rectangle_mask(3, 22, 2, 30, 20)), [22, 2, 8, 18]),
            (5, 1, uncompressed(rectangle_mask(3, 0, 16, 20, 24)), [0, 16, 20, 8]),
        ]
        return [
            {
                "id": number,
                "image_id": 3,
                "category_id": category,
                "iscrowd": crowd,
                "bbox": box,
                "area": box[2] * box[3],
                "segmentation": segmentation,
            }
            for number, (category, crowd, segmentation, box) in enumerate(shapes, start=1)
        ]

    def _captions(self) -> list[Json]:
        texts = {7: ["a red bar", 'a sign says "categories": []'], 12: ["categories"]}
        pairs = [(image_id, text) for image_id, group in texts.items() for text in group]
        return [{"id": n, "image_id": i, "caption": text} for n, (i, text) in enumerate(pairs)]

    def _segments(self) -> list[Json]:
        """Image 3: a dog (id 300) under the sky (id 70000)."""
        ids = np.full((24, 32), 70000, np.int64)
        ids[10:20, 5:25] = 300
        bgr = np.stack([ids // 65536, ids // 256 % 256, ids % 256], axis=2).astype(np.uint8)
        cv2.imwrite(str(self.panoptic / "000003.png"), bgr)
        segments = [
            {"id": 300, "category_id": 2, "iscrowd": 0, "area": 200, "bbox": [5, 10, 20, 10]},
            {"id": 70000, "category_id": 40, "iscrowd": 0, "area": 568, "bbox": [0, 0, 32, 24]},
        ]
        return [{"image_id": 3, "file_name": "000003.png", "segments_info": segments}]


def _categories(names: dict[int, str]) -> list[Json]:
    return [{"id": category_id, "name": name} for category_id, name in names.items()]
