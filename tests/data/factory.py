"""Small made-up images and records for tests of the pipeline."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from detectron2.structures import BoxMode

from yolor_d2.data.files.semantic_files import write_index_png

Record = dict[str, Any]


def rectangle(x0: float, y0: float, x1: float, y1: float) -> list[float]:
    """A polygon."""
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def annotation(x0: float, y0: float, x1: float, y1: float, category: int = 0) -> Record:
    """A rectangular object."""
    return {
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": category,
        "iscrowd": 0,
        "segmentation": [rectangle(x0, y0, x1, y1)],
    }


def make_record(
    folder: Path,
    name: str,
    *,
    width: int = 64,
    height: int = 48,
    boxes: list[tuple[float, float, float, float]] | None = None,
    color: tuple[int, int, int] = (200, 60, 20),
    suffix: str = "png",
    stuff: int = 5,
    **more: Any,
) -> Record:
    """Make an image with objects of one color on black, and a semantic map that agrees with it.

    Object k is of class k % 3, its semantic label as well; the background is of class `stuff`.
    """
    image = np.zeros((height, width, 3), np.uint8)
    labels = np.full((height, width), stuff, np.uint8)
    annotations = []
    for index, (x0, y0, x1, y1) in enumerate(boxes or []):
        rows, columns = slice(int(y0), int(y1)), slice(int(x0), int(x1))
        image[rows, columns] = color
        labels[rows, columns] = index % 3
        annotations.append(annotation(x0, y0, x1, y1, index % 3))
    path = folder / f"{name}.{suffix}"
    cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    semantic = folder / f"{name}_semantic.png"
    write_index_png(semantic, labels)
    return {
        "file_name": str(path),
        "image_id": name,
        "height": height,
        "width": width,
        "annotations": annotations,
        "sem_seg_file_name": str(semantic),
        **more,
    }
