"""Panoptic PNGs in COCO's format: the id of a pixel's segment is R + 256 G + 256^2 B."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as mask_util

from ...errors import BadFileError

UNKNOWN = 255  # label of pixels without a class

Segments = Sequence[Mapping[str, Any]]


def read_segment_ids(path: str) -> np.ndarray:
    """Return the segment id of each pixel, int32 (height, width); raise a BadFileError."""
    try:
        with Image.open(path) as file:
            return segment_ids(np.asarray(file.convert("RGB")))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadFileError(path, f"cannot be decoded ({error})") from None


def segment_ids(colors: np.ndarray) -> np.ndarray:
    """(height, width, 3) uint8 -> (height, width) int32"""
    ids = colors[..., 2].astype(np.int32)
    for channel in (1, 0):  # in place: a product of matrices would take three times the memory
        ids <<= 8
        ids |= colors[..., channel]
    return ids


def segment_labels(ids: np.ndarray, segments: Segments) -> np.ndarray:
    """Return a semantic map, uint8, of the "sem_seg_label" of each segment; 255 elsewhere."""
    labels = np.full(ids.shape, UNKNOWN, np.uint8)
    for segment in segments:
        labels[ids == segment["id"]] = segment["sem_seg_label"]
    return labels


def segment_annotations(ids: np.ndarray, segments: Segments) -> list[dict[str, Any]]:
    """Return the things of a map as annotations with a box (XYXY) and an RLE mask."""
    annotations = []
    for segment in segments:
        mask = ids == segment["id"]
        if not segment["isthing"] or not mask.any():
            continue
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        annotations.append(
            {
                "bbox": [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1],
                "category_id": segment["category_id"],
                "iscrowd": segment.get("iscrowd", 0),
                "segmentation": mask_util.encode(np.asfortranarray(mask, np.uint8)),
            }
        )
    return annotations
