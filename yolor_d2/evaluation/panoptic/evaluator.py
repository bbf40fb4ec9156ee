"""Evaluator of panoptic maps."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.evaluation import DatasetEvaluator
from PIL import Image

from ...data.catalog.records import read_metadata
from ...data.files.contents import read_json
from ...files import write_json
from ..gathering import gather
from ..truth_maps import read_map
from .classes import PanopticClasses
from .quality import Quality, Segments, count_segments

logger = logging.getLogger(__name__)

Json = dict[str, Any]

METRICS = ("PQ", "SQ", "RQ")


class PanopticEvaluator(DatasetEvaluator):
    """Panoptic, segmentation and recognition quality, over all classes, things and stuff.

    All segments of an image without results, or with a broken ground truth map, count as missed.
    Results for images that are not in the ground truth do not count.
    """

    def __init__(
        self,
        dataset_name: str,
        *,
        output_dir: str | None = None,
        save_predictions: bool = False,
    ) -> None:
        """
        Args:
            dataset_name: data set with the metadata "panoptic_json", "panoptic_root" and the
                panoptic classes that `register_coco_multitask` sets, or else the tables of
                category ids of detectron2's panoptic sets.
            output_dir: folder for the optional output below; None writes nothing.
            save_predictions: write the predicted maps in COCO's format, panoptic_seg/*.png and
                panoptic_seg/predictions.json.
        """
        self._metadata = read_metadata(dataset_name)
        content = read_json(Path(self._metadata.panoptic_json))
        annotations = content["annotations"]
        self._classes = PanopticClasses.of(self._metadata, content.get("categories", ()))
        self._class_names = self._classes.names
        self._truth = {annotation["image_id"]: annotation for annotation in annotations}
        self._folder = (
            Path(output_dir) / "panoptic_seg" if save_predictions and output_dir else None
        )
        self.reset()

    def reset(self) -> None:
        """Discard all images."""
        self._counts = np.zeros((4, len(self._class_names)))
        self._evaluated: list[Any] = []
        self._predictions: list[Json] = []

    def process(self, inputs: Sequence[Json], outputs: Sequence[Json]) -> None:
        """Count the segments of a batch."""
        for sample, output in zip(inputs, outputs, strict=True):
            image_id = sample["image_id"]
            if image_id not in self._truth or "panoptic_seg" not in output:
                continue
            ids, segments = output["panoptic_seg"]
            ids = ids.cpu().numpy()  # (H, W)
            predicted = Segments.of(
                ids,
                [segment["id"] for segment in segments],
                [self._classes.index_of(segment) for segment in segments],
                [False] * len(segments),
            )
            if self._folder is not None:
                self._save(self._folder, image_id, ids, segments)
            truth = self._read_truth(image_id, ids.shape)
            if truth is not None:
                self._counts += count_segments(truth, predicted, len(self._class_names))
                self._evaluated.append(image_id)

    def _read_truth(self, image_id: Any, shape: tuple[int, ...]) -> Segments | None:
        """Return the ground truth of an image, None if its map is broken."""
        entry = self._truth[image_id]
        path = Path(self._metadata.panoptic_root) / entry["file_name"]
        colors = read_map(path, shape=shape, mode="RGB")  # (H, W, 3)
        if colors is None:
            return None
        segments = entry["segments_info"]
        return Segments.of(
            colors.astype(np.intp) @ (1, 256, 256**2),
            [segment["id"] for segment in segments],
            self._class_indices(segments),
            [bool(segment.get("iscrowd")) for segment in segments],
        )

    def _class_indices(self, segments: Sequence[Json]) -> list[int]:
        return [self._classes.indices[segment["category_id"]] for segment in segments]

    def _save(self, folder: Path, image_id: Any, ids: np.ndarray, segments: list[Json]) -> None:
        name = Path(self._truth[image_id]["file_name"]).with_suffix(".png").name
        colors = np.stack([ids % 256, ids // 256 % 256, ids // 256**2], axis=2)  # (H, W, 3)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(colors.astype(np.uint8)).save(folder / name)
        coco_ids = {index: category_id for category_id, index in self._classes.indices.items()}
        self._predictions.append(
            {
                "image_id": image_id,
                "file_name": name,
                "segments_info": [
                    {"id": segment["id"], "category_id": coco_ids[self._classes.index_of(segment)]}
                    for segment in segments
                ],
            }
        )

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Return the metrics in percent in the main process, {} in the others."""
        parts = gather([(self._counts, self._evaluated, self._predictions)])
        if parts is None:
            return {}
        counts = np.sum([part for part, _, _ in parts], axis=0)  # (4, C)
        evaluated = {image_id for _, part, _ in parts for image_id in part}
        if not evaluated:
            logger.warning("%s: no panoptic map was evaluated", self._metadata.name)
            return {}
        counts += self._count_unevaluated(evaluated)
        if self._folder is not None:
            predictions = [prediction for _, _, part in parts for prediction in part]
            write_json(self._folder / "predictions.json", {"annotations": predictions})
        is_thing = np.array(self._classes.is_thing, bool)
        quality = Quality.of(counts)
        groups = {"": np.ones_like(is_thing), "_th": is_thing, "_st": ~is_thing}
        headline = {
            f"{metric}{suffix}": value
            for suffix, chosen in groups.items()
            for metric, value in zip(METRICS, quality.means(chosen), strict=True)
        }
        for name, *values in zip(self._class_names, *quality, strict=True):
            per_class = zip(METRICS, values, strict=True)
            headline |= {f"{metric}-{name}": float(value) for metric, value in per_class}
        return {"panoptic_seg": headline}

    def _count_unevaluated(self, evaluated: set[Any]) -> np.ndarray:
        """Return the counts (4, C) of all other images: every segment is missed."""
        counts = np.zeros_like(self._counts)
        remaining = self._truth.keys() - evaluated
        if remaining:
            logger.warning(
                "%d of %d images were not evaluated; all their segments count as missed",
                len(remaining),
                len(self._truth),
            )
        for image_id in remaining:
            segments = [s for s in self._truth[image_id]["segments_info"] if not s.get("iscrowd")]
            np.add.at(counts[2], self._class_indices(segments), 1)
        return counts
