"""Semantic segmentation metrics, defined independently of the detectron2 version."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from detectron2.data import Metadata
from detectron2.evaluation import DatasetEvaluator
from pycocotools import mask as coco_mask

from ..data.catalog.categories import IGNORE_LABEL
from ..data.catalog.records import read_metadata, read_records
from ..data.files.panoptic_maps import segment_ids, segment_labels
from ..errors import DataError, LabelError
from ..files import write_json
from .gathering import gather
from .missing import Missing
from .mistakes.plots import draw_confusion
from .truth_maps import read_map

logger = logging.getLogger(__name__)

Json = dict[str, Any]

MAX_CLASSES = 255  # of 8-bit maps, which also need the ignore label
NO_PIXEL = "no pixel is labeled"


class SemanticEvaluator(DatasetEvaluator):
    """Intersection over union of all classes of the semantic maps, and of the stuff classes.

    Images without a usable ground truth map and ignored pixels do not count.
    docs/reference/metrics.md defines the metrics; `classes` and `stuff_classes` are the numbers
    of classes.
    """

    def __init__(
        self,
        dataset_name: str,
        *,
        output_dir: str | None = None,
        save_predictions: bool = False,
        plots: bool = False,
    ) -> None:
        """
        Args:
            dataset_name: data set with the metadata "stuff_classes", the classes of the maps.
                Those that are also in "thing_classes" are things.
            output_dir: folder for the optional outputs below; None writes nothing.
            save_predictions: write sem_seg_predictions.json in COCO's stuff format (large).
            plots: draw a confusion matrix.
        """
        records = read_records(dataset_name)
        metadata = read_metadata(dataset_name)
        self._dataset_name = dataset_name
        self._class_names = list(metadata.stuff_classes)
        self._is_thing = thing_flags(metadata)
        to_index = metadata.get("stuff_dataset_id_to_contiguous_id") or {}
        self._dataset_ids = {index: dataset_id for dataset_id, index in to_index.items()}
        self._folder = None if output_dir is None else Path(output_dir)
        self._save_predictions = save_predictions and output_dir is not None
        self._plots = plots
        self._maps = {
            record["file_name"]: record["sem_seg_file_name"]
            for record in records
            if "sem_seg_file_name" in record
        }
        # Without semantic maps, labels are those of the panoptic maps.
        self._panoptic = {
            record["file_name"]: (record["pan_seg_file_name"], record["segments_info"])
            for record in records
            if record.get("from_panoptic") and "sem_seg_file_name" not in record
        }
        count = len(self._class_names)
        if count > MAX_CLASSES:
            raise DataError(
                f"{dataset_name}: has {count} semantic classes, 8-bit maps hold {MAX_CLASSES}"
            )
        # Label of a pixel -> row of the counts: the classes, then ignored, then invalid.
        self._rows = np.full(256, count + 1)
        self._rows[:count] = np.arange(count)
        self._rows[metadata.get("ignore_label", IGNORE_LABEL)] = count
        self.reset()

    def reset(self) -> None:
        """Discard all images."""
        count = len(self._class_names)
        self._confusion = np.zeros((count, count), np.int64)  # (true, predicted) pixels
        self._images = 0
        self._predictions: list[Json] = []

    def process(self, inputs: Sequence[Json], outputs: Sequence[Json]) -> None:
        """Count the pixels of a batch."""
        for sample, output in zip(inputs, outputs, strict=True):
            name = sample["file_name"]
            if name not in self._maps and name not in self._panoptic:
                continue
            predicted = output["sem_seg"].argmax(dim=0).cpu().numpy()  # (H, W)
            truth = self._read_truth(name, predicted.shape)
            if truth is None:
                continue
            self._confusion += self._count(predicted, truth, self._path(name))
            self._images += 1
            if self._save_predictions:
                self._predictions += self._to_coco_stuff(predicted, sample["file_name"])

    def _path(self, file_name: str) -> str:
        """Return the file of the labels of an image."""
        return self._maps[file_name] if file_name in self._maps else self._panoptic[file_name][0]

    def _read_truth(self, file_name: str, shape: tuple[int, ...]) -> np.ndarray | None:
        """Return the labels of an image, (H, W); None if its map is broken."""
        if file_name in self._maps:
            return read_map(self._maps[file_name], shape=shape)
        path, segments = self._panoptic[file_name]
        colors = read_map(path, shape=shape, mode="RGB")  # (H, W, 3)
        if colors is None:
            return None
        return segment_labels(segment_ids(colors), segments)

    def _count(self, predicted: np.ndarray, truth: np.ndarray, path: str) -> np.ndarray:
        """Return the confusion matrix of one image."""
        if truth.dtype != np.uint8 or truth.ndim != 2:
            raise LabelError(f"{path}: is not a map of 8-bit class indices")
        count = len(self._class_names)
        positions = predicted * (count + 2) + self._rows[truth]  # (H, W)
        pixels = np.bincount(positions.ravel(), minlength=count * (count + 2))
        if len(pixels) > count * (count + 2):
            raise DataError(
                f"class {predicted.max()} is predicted, "
                f"but {self._dataset_name} has {count} semantic classes"
            )
        table = pixels.reshape(count, count + 2)
        if table[:, -1].any():
            raise LabelError(f"{path}: has labels that are not classes of {self._dataset_name}")
        return table[:, :count].T

    def _to_coco_stuff(self, labels: np.ndarray, file_name: str) -> list[Json]:
        """Convert a predicted map (H, W) to COCO's stuff format, one entry per class."""
        entries = []
        for label in np.unique(labels).tolist():
            rle = coco_mask.encode(np.asfortranarray(labels == label, np.uint8))
            entries.append(
                {
                    "file_name": file_name,
                    "category_id": self._dataset_ids[label] if self._dataset_ids else label,
                    "segmentation": {**rle, "counts": rle["counts"].decode()},
                }
            )
        return entries

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Return the metrics in percent in the main process, {} in the others."""
        parts = gather([(self._confusion, self._images, self._predictions)])
        if parts is None:
            return {}
        confusion = np.sum([part for part, _, _ in parts], axis=0)  # (S, S)
        if not any(images for _, images, _ in parts):
            logger.warning("%s: no image with a semantic map was evaluated", self._dataset_name)
            return {}
        scores = SemanticScores.of(confusion)
        headline = {**scores.headline(), "classes": float(len(self._class_names))}
        if self._is_thing.any() and not self._is_thing.all():
            headline |= _stuff_headline(confusion, ~self._is_thing)
        if self._folder is not None and self._save_predictions:
            predictions = [prediction for _, _, part in parts for prediction in part]
            write_json(self._folder / "sem_seg_predictions.json", predictions)
        if self._folder is not None and self._plots:
            path = self._folder / "sem_seg/confusion.png"
            draw_confusion(path, confusion, self._class_names)
        per_class = zip(self._class_names, scores.iou, scores.accuracy, strict=True)
        for name, iou, accuracy in per_class:
            headline |= {f"IoU-{name}": float(iou), f"ACC-{name}": float(accuracy)}
        return {"sem_seg": headline}


def thing_flags(metadata: Metadata) -> np.ndarray:
    """Return which classes of the semantic maps are things, (S,) bool."""
    # Some maps of detectron2 merge all things into one class, "things".
    things = {*metadata.get("thing_classes", ()), "things"}
    return np.array([name in things for name in metadata.stuff_classes])


class SemanticScores(NamedTuple):
    """Per-class scores in percent; NaN where a class does not occur."""

    iou: np.ndarray  # (S,) intersection over union
    accuracy: np.ndarray  # (S,) share of the class's pixels that are predicted correctly
    frequency: np.ndarray  # (S,) the class's share of all pixels, 0..1

    @classmethod
    def of(cls, confusion: np.ndarray) -> "SemanticScores":
        """Compute the scores from pixel counts (true class, predicted class)."""
        correct = confusion.diagonal()
        truth, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
        with np.errstate(invalid="ignore"):  # 0 / 0 is meant to be NaN
            return cls(
                iou=100 * correct / (truth + predicted - correct),
                accuracy=100 * correct / truth,
                frequency=truth / truth.sum(),
            )

    def headline(self) -> dict[str, float]:
        """Return means over the classes in the ground truth or, for IoU, in the predictions."""
        return {
            "mIoU": _mean(self.iou),
            "fwIoU": self.weighted_mean(self.iou),
            "mACC": _mean(self.accuracy),
            "pACC": self.weighted_mean(self.accuracy),
        }

    def weighted_mean(self, values: np.ndarray) -> float:
        """Return the mean of per-class values, weighted by class frequency."""
        occurs = self.frequency > 0  # all False without labeled pixels: the shares are 0 / 0
        if not occurs.any():
            return Missing(NO_PIXEL)
        return float(np.sum((self.frequency * values)[occurs]))


def _stuff_headline(confusion: np.ndarray, is_stuff: np.ndarray) -> dict[str, float]:
    """Return the stuff metrics, with all pixels ignored whose true class is a thing."""
    scores = SemanticScores.of(np.where(is_stuff[:, None], confusion, 0))
    return {
        "stuff_mIoU": _mean(scores.iou[is_stuff]),
        "stuff_fwIoU": scores.weighted_mean(scores.iou),
        "stuff_classes": float(is_stuff.sum()),
    }


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else Missing(NO_PIXEL)
