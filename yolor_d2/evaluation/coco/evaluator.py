"""Boxes and masks by COCO's rules."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.evaluation import COCOEvaluator

from ...files import write_json
from ...structures import instances_to_coco_json
from ..gathering import gather
from ..mistakes.box_confusion import box_confusion
from ..mistakes.plots import draw_confusion, draw_precision_recall
from .scoring import Json, Scores, score

logger = logging.getLogger(__name__)


class InstanceEvaluator(COCOEvaluator):
    """detectron2's COCOEvaluator, several times as fast.

    It gives all twelve numbers of COCO, 0 where nothing was found, NaN where the ground truth has
    nothing to find, and `AP-<name>` of each class. An image of the ground truth without results, as
    when its file is broken, counts as one where nothing was found. Results of images that the
    ground truth does not list do not count.
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
            dataset_name: its metadata have "json_file".
            tasks: "bbox", "segm"; masks only if the data set has some.
            output_dir: for coco_instances_results.json, in COCO's result format, and for pictures.
            processes: that share the scoring.
            plots: draw precision-recall curves, and of boxes a confusion matrix.
        """
        super().__init__(
            dataset_name, tasks=tuple(tasks), output_dir=output_dir, use_fast_impl=False
        )
        self._folder = None if output_dir is None else Path(output_dir)
        self._processes = processes
        self._plots = plots

    def process(self, inputs: Sequence[Json], outputs: Sequence[Json]) -> None:
        """Keep the results of some images."""
        for sample, output in zip(inputs, outputs, strict=True):
            image_id = sample["image_id"]
            if image_id in self._coco_api.imgs:
                results = instances_to_coco_json(output["instances"], image_id)
                self._predictions.append({"image_id": image_id, "instances": results})

    def evaluate(self) -> dict[str, dict[str, float]]:
        """The numbers by task, in the main process; nothing elsewhere."""
        predictions = gather(self._predictions)
        if predictions is None:
            return {}
        self._warn_of_missing({prediction["image_id"] for prediction in predictions})
        results = self._with_coco_ids([r for p in predictions for r in p["instances"]])
        if self._folder is not None:
            write_json(self._folder / "coco_instances_results.json", results)
        annotations = self._coco_api.dataset.get("annotations")
        if annotations is None:
            logger.warning("%s has no annotations to compare with", self._metadata.json_file)
            return {}
        tasks = set(self._tasks)
        if "segm" in tasks and not any(a.get("segmentation") for a in annotations):
            logger.info("%s has no masks, so none are evaluated", self._metadata.json_file)
            tasks.remove("segm")
        return {task: self._score(results, task) for task in sorted(tasks)}

    def _warn_of_missing(self, seen: set[Any]) -> None:
        images = self._coco_api.imgs
        if len(seen) < len(images):
            logger.warning(
                "%d of %d images have no results and count as if nothing was found there",
                len(images) - len(seen),
                len(images),
            )

    def _with_coco_ids(self, results: list[Json]) -> list[Json]:
        """Results whose classes have the numbers that the data set's file gives them."""
        # detectron2's own data sets know it only once they are read.
        to_index = self._metadata.get("thing_dataset_id_to_contiguous_id")
        if to_index is None:
            return results
        ids = {index: category_id for category_id, index in to_index.items()}
        unknown = {result["category_id"] for result in results} - ids.keys()
        if unknown:
            raise ValueError(
                f"there are predictions of class {max(unknown)}, "
                f"but {self._metadata.name} has {len(ids)} classes"
            )
        return [{**result, "category_id": ids[result["category_id"]]} for result in results]

    def _score(self, results: list[Json], task: str) -> dict[str, float]:
        dataset = self._coco_api.dataset
        scores = score(dataset, results, task, processes=self._processes)
        headline = scores.headline()
        names = {category["id"]: category["name"] for category in dataset["categories"]}
        if self._plots and self._folder is not None:
            self._draw_curves(self._folder / task, scores, names)
            if task == "bbox":
                self._draw_confusion(self._folder / task, results, names)
        values = zip(sorted(names), scores.average_precision(), strict=True)
        return headline | {f"AP-{names[category]}": value for category, value in values}

    def _draw_curves(self, folder: Path, scores: Scores, names: dict[int, str]) -> None:
        curves = scores.precision[0, :, :, 0, -1].T  # (C, 101), at an overlap of 0.5
        ordered = [names[category] for category in sorted(names)]
        draw_precision_recall(folder / "precision_recall.png", curves, ordered)

    def _draw_confusion(self, folder: Path, results: list[Json], names: dict[int, str]) -> None:
        categories = sorted(names)
        confusion = box_confusion(self._coco_api.dataset["annotations"], results, categories)
        labels = [*(names[category] for category in categories), "nothing"]
        draw_confusion(folder / "confusion.png", confusion, labels)
