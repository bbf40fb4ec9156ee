"""The prediction for one image, and its conversion to JSON, pictures and supervision."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from detectron2.structures import Instances
from pycocotools import mask as coco_mask
from torch import Tensor

from ..files import json_number
from ..structures import SemanticMap, instances_to_coco_json, run_lengths_of
from ..visualization import draw_results

Json = dict[str, Any]

MOST_REGIONS = 5  # classes of a semantic map that are listed


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image; results of tasks that were not predicted are None.

    Attributes:
        image: uint8 RGB (height, width, 3), the input.
        source: name of the file, stream or camera; "" for an array.
        frame: number in a video, from 0; None for images.
        metadata: names, colors and ids of the classes, as in detectron2's catalog.
        instances: objects with pred_boxes, scores, pred_classes and, from a mask head, pred_masks.
        sem_seg: scores of the semantic classes; the argmax over axis 0 is the class of each pixel.
        panoptic_seg: segment ids (height, width), and a description of each segment.
        caption: a sentence.
        caption_ids: token ids of the caption, if the network has no tokenizer to decode them.
        caption_score: log-probability of the caption.
        seconds: duration of its batch divided by the number of images, without reading files.
    """

    image: np.ndarray = field(repr=False)
    source: str
    frame: int | None
    metadata: Any = field(repr=False)
    instances: Instances | None = None
    sem_seg: SemanticMap | Tensor | None = field(default=None, repr=False)
    panoptic_seg: tuple[Tensor, list[Json]] | None = field(default=None, repr=False)
    caption: str | None = None
    caption_score: float | None = None
    caption_ids: list[int] | None = field(default=None, repr=False)
    seconds: float = field(default=0.0, repr=False, compare=False)

    @property
    def width(self) -> int:
        return self.image.shape[1]

    @property
    def height(self) -> int:
        return self.image.shape[0]

    @property
    def results(self) -> Json:
        """Results that are not None, by their names in the outputs of detectron2's models."""
        names = ("instances", "sem_seg", "panoptic_seg", "caption", "caption_score")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def to_json(self) -> Json:
        """Return the results as plain data in COCO's conventions.

        Boxes are [x, y, width, height]; masks are compressed run lengths. Category ids are those of
        the data set if the checkpoint contains them, otherwise those of the network. Segments of
        the panoptic map ("segments_info") and classes of the semantic map ("sem_seg") have masks.
        """
        content: Json = {"file_name": self.source, "width": self.width, "height": self.height}
        if self.frame is not None:
            content["frame"] = self.frame
        if self.instances is not None:
            content["instances"] = self._objects(self.instances)
        if self.panoptic_seg is not None:
            content["segments_info"] = self._segments(*self.panoptic_seg)
        if self.sem_seg is not None:
            content["sem_seg"] = self._regions(self.sem_seg.argmax(dim=0))
        caption = {"caption": self.caption, "caption_ids": self.caption_ids}
        if any(value is not None for value in caption.values()):
            score = None if self.caption_score is None else json_number(self.caption_score)
            content |= {name: value for name, value in caption.items() if value is not None}
            content["caption_score"] = score
        return content

    def to_supervision(self) -> Any:
        """Return the objects as `supervision.Detections`; needs `yolor_d2[supervision]`."""
        try:
            import supervision
        except ImportError:
            raise ImportError(
                "supervision is not installed: pip install 'yolor_d2[supervision]'"
            ) from None
        if self.instances is None:
            raise ValueError("there are no objects: the detection task was not predicted")
        found = self.instances
        classes = found.pred_classes.numpy()
        names = [self._category("thing", index)["category_name"] for index in classes.tolist()]
        return supervision.Detections(
            xyxy=found.pred_boxes.tensor.numpy(),
            mask=np.asarray(found.pred_masks) if found.has("pred_masks") else None,
            confidence=found.scores.numpy(),
            class_id=classes,
            data={"class_name": np.array(names, dtype=str)},
        )

    def draw(
        self, layers: Sequence[str] = (), *, score_threshold: float = 0.0, opacity: float = 0.5
    ) -> np.ndarray:
        """Return an RGB uint8 picture; see `visualization.draw_results` for the arguments."""
        return draw_results(
            self.image,
            self.results,
            self.metadata,
            layers=layers,
            score_threshold=score_threshold,
            opacity=opacity,
        )

    def _objects(self, instances: Instances) -> list[Json]:
        results = instances_to_coco_json(instances, self.source)
        return [
            {
                **self._category("thing", result["category_id"]),
                **{k: v for k, v in result.items() if k not in ("image_id", "category_id")},
            }
            for result in results
        ]

    def _segments(self, ids: Tensor, segments: Sequence[Json]) -> list[Json]:
        has_table = bool(self.metadata.get("panoptic_classes"))
        found = []
        for segment in segments:
            # Without panoptic classes, category ids are class indices of the heads.
            kind = "panoptic" if has_table else "thing" if segment["isthing"] else "stuff"
            found.append(
                {
                    "id": segment["id"],
                    **self._category(kind, segment["category_id"]),
                    "isthing": int(segment["isthing"]),
                    "iscrowd": 0,
                    **({"score": segment["score"]} if "score" in segment else {}),
                    **_area(ids == segment["id"]),
                }
            )
        return found

    def _regions(self, labels: Tensor) -> list[Json]:
        return [
            {**self._category("stuff", index), **_area(labels == index)}
            for index in torch.unique(labels).tolist()
        ]

    def _category(self, kind: str, index: int) -> Json:
        """Return the id and name of a class, as in the data set."""
        names = self.metadata.get(f"{kind}_classes") or ()
        to_index = self.metadata.get(f"{kind}_dataset_id_to_contiguous_id") or {}
        numbers = {position: number for number, position in to_index.items()}
        name = names[index] if index < len(names) else str(index)
        return {"category_id": numbers.get(index, index), "category_name": name}


def describe(content: Json) -> str:
    """Return a line about the content of `Prediction.to_json`: 3 dog, 1 person; "a dog runs"."""
    parts = []
    if "instances" in content:
        counts = Counter(thing["category_name"] for thing in content["instances"])
        parts.append(", ".join(f"{n} {name}" for name, n in counts.most_common()) or "no objects")
    elif "sem_seg" in content:
        percent = 100 / (content["width"] * content["height"])
        regions = sorted(content["sem_seg"], key=lambda region: -region["area"])[:MOST_REGIONS]
        shares = [f"{r['area'] * percent:.0f} % {r['category_name']}" for r in regions]
        parts.append(", ".join(shares))
    if "caption" in content:
        parts.append(f'"{content["caption"]}"')
    return "; ".join(parts)


def _area(mask: Tensor) -> Json:
    """Return the area, bounding box and run lengths of a mask (height, width)."""
    (rle,) = run_lengths_of(mask[None])
    return {
        "area": int(coco_mask.area(rle)),
        "bbox": coco_mask.toBbox(rle).tolist(),
        "segmentation": rle,
    }
