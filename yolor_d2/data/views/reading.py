"""Reading the files of a data set dict: pixels, semantic labels, objects."""

from collections.abc import Callable
from typing import Any

import numpy as np
from detectron2.structures import BoxMode

from ...errors import BadFileError
from ..files.images import ArrayCache, read_image, shrink
from ..files.panoptic_maps import read_segment_ids, segment_annotations, segment_labels
from ..files.semantic_files import read_index_png
from .targets import Objects, read_objects

Record = dict[str, Any]


class RecordReader:
    """Reads the files of records, each once per sample, or once per batch.

    Args:
        cache_bytes: size of the cache that is kept between samples; 0 disables it.
        num_sem_seg_classes: semantic maps with labels beyond it, except 255, are bad files; None
            disables the check.
    """

    def __init__(self, *, cache_bytes: int = 0, num_sem_seg_classes: int | None = None) -> None:
        self.num_sem_seg_classes = num_sem_seg_classes
        self._cache = ArrayCache(cache_bytes)
        self._batch: tuple[int, ...] = ()
        self._shared: dict[tuple[str, int], np.ndarray] = {}  # files of the current batch
        self._own: dict[tuple[str, int], np.ndarray] = {}  # files of the current sample alone
        self._objects: dict[str, tuple[Record, Objects]] = {}  # by image, of the current batch

    def start_sample(self, batch: tuple[int, ...] = ()) -> None:
        """Release the files of the previous sample, or keep them if it is of the same batch.

        Args:
            batch: images of the batch; empty if samples do not share images.
        """
        self._own.clear()
        if batch != self._batch or not batch:
            self._shared.clear()
            self._objects.clear()
        self._batch = batch

    def pixels(
        self, record: Record, *, reduction: int = 1, shared_reduction: int = 1
    ) -> np.ndarray:
        """Return the image, uint8 RGB, with each side divided by `reduction`.

        Args:
            record: a data set dict.
            reduction: 1, 2, 4 or 8.
            shared_reduction: at which the image is decoded once for all samples of a batch. A lower
                `reduction` decodes it for this sample alone.
        """
        path = record["file_name"]
        is_shared = bool(self._batch) and reduction >= shared_reduction
        decoded = shared_reduction if is_shared else reduction

        def read() -> np.ndarray:
            size = {"width": record["width"], "height": record["height"]}
            return read_image(path, **size, reduction=decoded)

        image = self._cached((path, decoded), read, is_shared=is_shared)
        if decoded == reduction:
            return image
        key = (path, reduction)
        if key not in self._own:
            self._own[key] = shrink(image, reduction // decoded)
        return self._own[key]

    def labels(self, record: Record) -> np.ndarray:
        """Return the semantic map, uint8 (height, width)."""

        def read() -> np.ndarray:
            labels = read_index_png(path)
            expected = (record["height"], record["width"])
            if labels.shape != expected:
                raise BadFileError(path, f"is {labels.shape}, its image is {expected}")
            # 255 wraps to 0, so this is the largest label except 255, in two fast passes.
            last = int((labels + np.uint8(1)).max()) - 1
            if self.num_sem_seg_classes is not None and last >= self.num_sem_seg_classes:
                raise BadFileError(path, f"has label {last}, of {self.num_sem_seg_classes} classes")
            return labels

        if "sem_seg_file_name" not in record:
            return segment_labels(self._segment_ids(record), record["segments_info"])
        path = record["sem_seg_file_name"]
        return self._cached((path, 0), read)

    def objects(self, record: Record) -> Objects:
        """Return the objects of a record, without crowds; the same record is read once."""
        path = record["file_name"]
        if path not in self._objects or self._objects[path][0] is not record:
            whole = record
            if record.get("from_panoptic"):
                whole = {**record, "annotations": self.annotations(record)}
            self._objects[path] = (record, read_objects(whole))
        return self._objects[path][1]

    def annotations(self, record: Record) -> list[Record]:
        """Return the annotations of a record, crowds included; [] if it has none."""
        if not record.get("from_panoptic"):
            return record.get("annotations", [])
        found = segment_annotations(self._segment_ids(record), record["segments_info"])
        return [{**each, "bbox_mode": BoxMode.XYXY_ABS} for each in found]

    def _segment_ids(self, record: Record) -> np.ndarray:
        """Return the panoptic map, int32 (height, width)."""
        path = record["pan_seg_file_name"]

        def read() -> np.ndarray:
            ids = read_segment_ids(path)
            expected = (record["height"], record["width"])
            if ids.shape != expected:
                raise BadFileError(path, f"is {ids.shape}, its image is {expected}")
            return ids

        return self._cached((path, 0), read)

    def _cached(
        self, key: tuple[str, int], read: Callable[[], np.ndarray], *, is_shared: bool = True
    ) -> np.ndarray:
        if key in self._shared:
            return self._shared[key]
        kept = self._shared if is_shared and self._batch else self._own
        if key not in kept:
            kept[key] = self._cache.get(key, read)
        return kept[key]
