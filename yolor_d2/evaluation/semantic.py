"""Semantic maps, by one definition of the mean whatever the version of detectron2."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog
from detectron2.evaluation import SemSegEvaluator

from ..files import write_json
from .gathering import gather
from .missing import Missing
from .mistakes.plots import draw_confusion
from .truth_maps import read_map

logger = logging.getLogger(__name__)

Json = dict[str, Any]

MAX_CLASSES = 255  # that maps of 8 bits hold beside what is ignored
NO_PIXEL = "no pixel is labelled"


class SemanticEvaluator(SemSegEvaluator):
    """Intersection over union of all classes of the semantic maps, and of the stuff among them.

    Images without a map that can be used, and pixels that it ignores, do not count. The numbers are
    defined in docs/evaluation.md. `classes` and `stuff_classes` say how many a number is of.
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
            dataset_name: its metadata have "stuff_classes", the classes of the maps, things among
                them where "thing_classes" has the same names.
            output_dir: for what the following ask for.
            save_predictions: write sem_seg_predictions.json, in COCO's format for stuff, which is
                large.
            plots: draw a confusion matrix.
        """
        # Not detectron2's constructor, which wants a map for every image.
        metadata = MetadataCatalog.get(dataset_name)
        self._dataset_name = dataset_name
        self._class_names = list(metadata.stuff_classes)
        self._is_thing = thing_flags(metadata)
        ids = metadata.get("stuff_dataset_id_to_contiguous_id")
        self._contiguous_id_to_dataset_id = ids and {index: i for i, index in ids.items()}
        self._folder = None if output_dir is None else Path(output_dir)
        self._save_predictions = save_predictions and output_dir is not None
        self._plots = plots
        self._maps = {
            record["file_name"]: record["sem_seg_file_name"]
            for record in DatasetCatalog.get(dataset_name)
            if "sem_seg_file_name" in record
        }
        count = len(self._class_names)
        if count > MAX_CLASSES:
            raise ValueError(
                f"{dataset_name}: has {count} semantic classes, maps of 8 bits hold {MAX_CLASSES}"
            )
        # Label of a map's pixel -> row of the counts: classes, then ignored, then what may not be.
        self._rows = np.full(256, count + 1)
        self._rows[:count] = np.arange(count)
        self._rows[metadata.ignore_label] = count
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        count = len(self._class_names)
        self._confusion = np.zeros((count, count), np.int64)  # (true, predicted) pixels
        self._images = 0
        self._predictions: list[Json] = []

    def process(self, inputs: Sequence[Json], outputs: Sequence[Json]) -> None:
        """Count the pixels of some images."""
        for sample, output in zip(inputs, outputs, strict=True):
            path = self._maps.get(sample["file_name"])
            if path is None:
                continue
            predicted = output["sem_seg"].argmax(dim=0).cpu().numpy()  # (H, W)
            truth = read_map(path, shape=predicted.shape)
            if truth is None:
                continue
            self._confusion += self._count(predicted, truth, path)
            self._images += 1
            if self._save_predictions:
                self._predictions += self.encode_json_sem_seg(predicted, sample["file_name"])

    def _count(self, predicted: np.ndarray, truth: np.ndarray, path: str) -> np.ndarray:
        """The confusion matrix of one image."""
        if truth.dtype != np.uint8 or truth.ndim != 2:
            raise ValueError(f"{path}: has no class indices of 8 bits")
        count = len(self._class_names)
        positions = predicted * (count + 2) + self._rows[truth]  # (H, W)
        pixels = np.bincount(positions.ravel(), minlength=count * (count + 2))
        if len(pixels) > count * (count + 2):
            raise ValueError(
                f"there are predictions of class {predicted.max()}, "
                f"but {self._dataset_name} has {count} semantic classes"
            )
        table = pixels.reshape(count, count + 2)
        if table[:, -1].any():
            raise ValueError(f"{path}: has labels that are no class of {self._dataset_name}")
        return table[:, :count].T

    def evaluate(self) -> dict[str, dict[str, float]]:
        """The numbers in percent, in the main process; nothing elsewhere."""
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
        per_class = zip(self._class_names, scores.overlap, scores.accuracy, strict=True)
        for name, overlap, accuracy in per_class:
            headline |= {f"IoU-{name}": float(overlap), f"ACC-{name}": float(accuracy)}
        return {"sem_seg": headline}


def thing_flags(metadata: Metadata) -> np.ndarray:
    """Which classes of the semantic maps are things: (S,) bool."""
    # detectron2 has maps where one class, "things", is all of them.
    things = {*metadata.get("thing_classes", ()), "things"}
    return np.array([name in things for name in metadata.stuff_classes])


class SemanticScores(NamedTuple):
    """Of S classes, in percent; NaN where a class does not occur."""

    overlap: np.ndarray  # (S,) intersection over union
    accuracy: np.ndarray  # (S,) share of the class's pixels that are found
    frequency: np.ndarray  # (S,) share of all pixels that are of the class, 0..1

    @classmethod
    def of(cls, confusion: np.ndarray) -> "SemanticScores":
        """From counts of pixels (true class, predicted class)."""
        correct = confusion.diagonal()
        truth, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
        with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN that is wanted
            return cls(
                overlap=100 * correct / (truth + predicted - correct),
                accuracy=100 * correct / truth,
                frequency=truth / truth.sum(),
            )

    def headline(self) -> dict[str, float]:
        """Means over the classes that occur, in the truth or, for IoU, in the prediction."""
        return {
            "mIoU": _mean(self.overlap),
            "fwIoU": self.weighted(self.overlap),
            "mACC": _mean(self.accuracy),
            "pACC": self.weighted(self.accuracy),
        }

    def weighted(self, values: np.ndarray) -> float:
        """The mean over pixels rather than classes."""
        occurs = self.frequency > 0  # of no class, where the shares are 0 / 0
        if not occurs.any():
            return Missing(NO_PIXEL)
        return float(np.sum((self.frequency * values)[occurs]))


def _stuff_headline(confusion: np.ndarray, is_stuff: np.ndarray) -> dict[str, float]:
    """The numbers of stuff where the truth is stuff, as if all else was ignored."""
    scores = SemanticScores.of(np.where(is_stuff[:, None], confusion, 0))
    return {
        "stuff_mIoU": _mean(scores.overlap[is_stuff]),
        "stuff_fwIoU": scores.weighted(scores.overlap),
        "stuff_classes": float(is_stuff.sum()),
    }


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else Missing(NO_PIXEL)
