"""Evaluator of boxes and masks."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.data import Metadata
from detectron2.evaluation import DatasetEvaluator

from ...data.catalog.records import labeled_classes, read_metadata
from ...errors import DataError
from ...files import write_json
from ...structures import instances_to_coco_json
from ..gathering import gather
from ..mistakes.box_confusion import box_confusion
from ..mistakes.plots import draw_confusion, draw_precision_recall
from .ground_truth import read_ground_truth
from .scoring import Json, Scores, score

logger = logging.getLogger(__name__)


class InstanceEvaluator(DatasetEvaluator):
    """COCO's twelve metrics of boxes and masks, and `AP-<name>` of each class.

    A metric is 0 if nothing was found and NaN if the ground truth has no such object. All objects
    of an image without results (a broken file, say) count as missed. Results for images that are
    not in the ground truth do not count, nor do classes that are not labeled in the data set.
    """

    def __init__(
        self,
        dataset_name: str,
        *,
        tasks: Sequence[str] = ("bbox", "segm"),
        output_dir: str | None = None,
        processes: int = 1,
        plots: bool = False,
    ) -> None:
        """
        Args:
            dataset_name: data set with the metadata "json_file", or with annotated records.
            tasks: "bbox", "segm"; masks are skipped if the data set has none.
            output_dir: folder of coco_instances_results.json, in COCO's result format, and of
                plots; None writes nothing.
            processes: number of scoring processes.
            plots: draw precision-recall curves, and a confusion matrix of boxes.
        """
        self._metadata = read_metadata(dataset_name)
        self._dataset: Json = _labeled_only(read_ground_truth(dataset_name), self._metadata)
        self._image_ids = {image["id"] for image in self._dataset["images"]}
        self._tasks = tuple(tasks)
        self._folder = None if output_dir is None else Path(output_dir)
        self._processes = processes
        self._plots = plots
        self.reset()

    def reset(self) -> None:
        """Discard all images."""
        self._predictions: list[Json] = []

    def process(self, inputs: Sequence[Json], outputs: Sequence[Json]) -> None:
        """Store the results of a batch."""
        for sample, output in zip(inputs, outputs, strict=True):
            image_id = sample["image_id"]
            if image_id in self._image_ids:
                results = instances_to_coco_json(output["instances"], image_id)
                self._predictions.append({"image_id": image_id, "instances": results})

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Return the metrics by task in the main process, {} in the others."""
        predictions = gather(self._predictions)
        if predictions is None:
            return {}
        self._warn_about_missing({prediction["image_id"] for prediction in predictions})
        results = self._with_coco_ids([r for p in predictions for r in p["instances"]])
        if self._folder is not None:
            write_json(self._folder / "coco_instances_results.json", results)
        annotations = self._dataset.get("annotations")
        if annotations is None:
            logger.warning("%s has no annotations: nothing is scored", self._metadata.name)
            return {}
        tasks = set(self._tasks)
        if "segm" in tasks and not any(a.get("segmentation") for a in annotations):
            logger.info("%s has no masks: masks are not scored", self._metadata.name)
            tasks.remove("segm")
        return {task: self._score(results, task) for task in sorted(tasks)}

    def _warn_about_missing(self, evaluated: set[Any]) -> None:
        if len(evaluated) < len(self._image_ids):
            logger.warning(
                "%d of %d images have no results; all their objects count as missed",
                len(self._image_ids) - len(evaluated),
                len(self._image_ids),
            )

    def _with_coco_ids(self, results: list[Json]) -> list[Json]:
        """Replace class indices by the category ids of the annotation file."""
        # Read here: detectron2's own data sets set it only when they are loaded.
        to_index = self._metadata.get("thing_dataset_id_to_contiguous_id")
        if to_index is None:
            return results
        ids = {index: category_id for category_id, index in to_index.items()}
        unknown = {result["category_id"] for result in results} - ids.keys()
        # In detectron2's panoptic sets, thing_classes includes stuff, which is not scored here.
        if max(unknown, default=-1) >= len(self._metadata.get("thing_classes") or ids):
            raise DataError(
                f"class {max(unknown)} is predicted, "
                f"but {self._metadata.name} has {len(ids)} classes"
            )
        results = [result for result in results if result["category_id"] not in unknown]
        return [{**result, "category_id": ids[result["category_id"]]} for result in results]

    def _score(self, results: list[Json], task: str) -> dict[str, float]:
        scores = score(self._dataset, results, task, processes=self._processes)
        headline = scores.headline()
        names = {category["id"]: category["name"] for category in self._dataset["categories"]}
        if self._plots and self._folder is not None:
            self._draw_curves(self._folder / task, scores, names)
            if task == "bbox":
                self._draw_confusion(self._folder / task, results, names)
        values = zip(sorted(names), scores.average_precision(), strict=True)
        return headline | {f"AP-{names[category]}": value for category, value in values}

    def _draw_curves(self, folder: Path, scores: Scores, names: dict[int, str]) -> None:
        curves = scores.precision[0, :, :, 0, -1].T  # (C, 101), at an IoU of 0.5
        ordered = [names[category] for category in sorted(names)]
        draw_precision_recall(folder / "precision_recall.png", curves, ordered)

    def _draw_confusion(self, folder: Path, results: list[Json], names: dict[int, str]) -> None:
        categories = sorted(names)
        annotations, results = (
            [item for item in items if item["category_id"] in names]
            for items in (self._dataset["annotations"], results)
        )
        confusion = box_confusion(annotations, results, categories)
        labels = [*(names[category] for category in categories), "nothing"]
        draw_confusion(folder / "confusion.png", confusion, labels)


def _labeled_only(dataset: Json, metadata: Metadata) -> Json:
    """Return the ground truth without the categories that are not labeled in the data set."""
    labeled = labeled_classes(metadata)
    if labeled is None:
        return dataset
    # Without a table, category ids are class indices.
    to_index = metadata.get("thing_dataset_id_to_contiguous_id") or {
        i: i for i in range(len(labeled))
    }
    kept = {category_id for category_id, index in to_index.items() if labeled[index]}
    names = [name for name, ok in zip(metadata.thing_classes, labeled, strict=True) if not ok]
    logger.info("%s: not labeled, not scored: %s", metadata.name, ", ".join(names))
    return {**dataset, "categories": [c for c in dataset["categories"] if c["id"] in kept]}
