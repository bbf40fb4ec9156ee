"""A data set of three images with all kinds of annotations, for tests that damage it."""

import itertools
import json
from pathlib import Path

import cv2
import numpy as np

from yolor_d2.data import register_coco_multitask
from yolor_d2.data.files.semantic_files import write_index_png

WIDTH, HEIGHT = 48, 32
NUM_IMAGES = 3
CATEGORIES = [{"id": 5, "name": "cat", "isthing": 1}, {"id": 9, "name": "dog", "isthing": 1}]
STUFF = [{"id": 20, "name": "lawn", "isthing": 0}]
_numbers = itertools.count()


class SmallDataset:
    """A data set in a folder, whose JSON content can be changed until it is registered."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.name = f"check_data_{next(_numbers)}"
        rng = np.random.default_rng(0)
        for folder in ("images", "semantic", "panoptic"):
            (root / folder).mkdir()
        images = [
            {"id": n, "file_name": f"{n}.jpg", "width": WIDTH, "height": HEIGHT}
            for n in range(1, NUM_IMAGES + 1)
        ]
        self.instances = {"images": images, "annotations": [], "categories": CATEGORIES}
        self.captions = {"images": images, "annotations": []}
        self.panoptic = {"images": images, "annotations": [], "categories": CATEGORIES + STUFF}
        for image in images:
            pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
            cv2.imwrite(str(self.image(image["id"])), pixels)
            self._annotate(image["id"])
        # Captions and objects are optional: image 3 has none.
        self.captions["annotations"] = [
            {"id": n, "image_id": n, "caption": "a cat and a dog"} for n in (1, 2)
        ]
        annotations = self.instances["annotations"]
        annotations[:] = [a for a in annotations if a["image_id"] != 3]

    def _annotate(self, image_id: int) -> None:
        crowd = np.zeros((HEIGHT, WIDTH), np.uint8)
        crowd[20:30, 30:40] = 1
        flat = crowd.ravel(order="F")
        edges = np.flatnonzero(np.diff(flat)) + 1
        runs = np.diff([0, *edges, flat.size]).tolist()
        common = {"image_id": image_id, "iscrowd": 0}
        self.instances["annotations"] += [
            {
                "id": image_id * 10,
                "category_id": 5,
                "bbox": [4, 4, 10, 10],
                "segmentation": [[4, 4, 14, 4, 14, 14, 4, 14]],
                **common,
            },
            {"id": image_id * 10 + 1, "category_id": 9, "bbox": [20, 2, 5, 6.5], **common},
            {
                "id": image_id * 10 + 2,
                "category_id": 5,
                "bbox": [30, 20, 9, 9],  # a pixel smaller than the mask, like COCO's crowds
                "segmentation": {"size": [HEIGHT, WIDTH], "counts": runs},
                **common,
                "iscrowd": 1,
            },
        ]
        ids = np.where(crowd, 70_000, 300).astype(np.int64)
        ids[0] = 0  # unlabeled
        self.write_panoptic(image_id, ids)
        segments = [
            {"id": 70_000, "category_id": 5, "area": 100, "iscrowd": 1},
            {"id": 300, "category_id": 20, "area": (HEIGHT - 1) * WIDTH - 100},
        ]
        entry = {"image_id": image_id, "file_name": f"{image_id}.png", "segments_info": segments}
        self.panoptic["annotations"].append(entry)
        labels = np.where(crowd, 0, 2).astype(np.uint8)
        labels[0] = 255
        self.write_semantic(image_id, labels)

    def image(self, image_id: int) -> Path:
        return self.root / "images" / f"{image_id}.jpg"

    def change_object(self, number: int = 0, **changes) -> None:
        """Change object 0 (polygon), 1 (box only) or 2 (crowd) of image 2."""
        self.instances["annotations"][3 + number].update(changes)

    def change_segment(self, number: int, **changes) -> None:
        """Change a segment of image 2."""
        self.panoptic["annotations"][1]["segments_info"][number].update(changes)

    def add_caption(self, text: object) -> None:
        """Add a caption to image 2."""
        self.captions["annotations"].append({"id": 77, "image_id": 2, "caption": text})

    def write_semantic(self, image_id: int, labels: np.ndarray) -> None:
        write_index_png(self.root / "semantic" / f"{image_id}.png", labels)

    def write_panoptic(self, image_id: int, ids: np.ndarray) -> None:
        colors = np.stack([ids >> 16, ids >> 8 & 255, ids & 255], axis=-1).astype(np.uint8)  # BGR
        cv2.imwrite(str(self.root / "panoptic" / f"{image_id}.png"), colors)

    def register(self, **changes) -> None:
        for kind in ("instances", "captions", "panoptic"):
            (self.root / f"{kind}.json").write_text(json.dumps(getattr(self, kind)))
        files = {
            "instances_json": self.root / "instances.json",
            "captions_json": self.root / "captions.json",
            "sem_seg_root": self.root / "semantic",
            "panoptic_root": self.root / "panoptic",
            "panoptic_json": self.root / "panoptic.json",
        }
        register_coco_multitask(self.name, self.root / "images", **(files | changes))
