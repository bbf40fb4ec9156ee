"""Compact forms of predicted masks and semantic maps."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from detectron2.structures import BoxMode, Instances
from pycocotools import mask as coco_mask
from torch import Tensor

CPU = torch.device("cpu")


@dataclass
class RLEMasks:
    """Binary masks of the objects of an image as COCO's run lengths.

    It supports what detectron2 needs of `pred_masks`: an index returns one mask as a tensor
    (height, width), decoded on demand; a slice, a list or a vector returns a selection of masks.
    """

    rles: list[dict[str, Any]] = field(repr=False)  # "size" and "counts" each, JSON-serializable
    height: int
    width: int
    device: torch.device = CPU  # of the decoded masks

    @classmethod
    def cat(cls, several: Sequence["RLEMasks"]) -> "RLEMasks":
        """Concatenate masks of images of the same size."""
        first = several[0]
        if any((masks.height, masks.width) != (first.height, first.width) for masks in several):
            raise ValueError("masks of images of different sizes cannot be concatenated")
        rles = [rle for masks in several for rle in masks.rles]
        return cls(rles, first.height, first.width, first.device)

    def to(self, *args: Any, **kwargs: Any) -> "RLEMasks":
        """The same masks, decoded onto another device; arguments as of `Tensor.to`."""
        device = torch.empty(0, device=self.device).to(*args, **kwargs).device
        return RLEMasks(self.rles, self.height, self.width, device)

    def __len__(self) -> int:
        return len(self.rles)

    def __getitem__(self, item: Any) -> "Tensor | RLEMasks":
        chosen = np.arange(len(self))[item.cpu().numpy() if isinstance(item, Tensor) else item]
        if np.ndim(chosen) == 0:
            return self._decode(self.rles[chosen])
        rles = [self.rles[index] for index in chosen]
        return RLEMasks(rles, self.height, self.width, self.device)

    def __iter__(self) -> Iterator[Tensor]:
        return map(self._decode, self.rles)

    def any(self, *, dim: int) -> Tensor:
        """Union of the masks, which detectron2's Visualizer needs for its gray mode."""
        if dim != 0:
            raise ValueError(f"masks can only be reduced over the objects, dim 0, not {dim}")
        union = torch.zeros(self.height, self.width, dtype=torch.bool, device=self.device)
        for mask in self:
            union |= mask
        return union  # (height, width)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        masks = np.zeros((len(self), self.height, self.width), dtype or bool)
        for plane, rle in zip(masks, self.rles, strict=True):
            plane[:] = coco_mask.decode(rle)
        return masks

    def _decode(self, rle: dict[str, Any]) -> Tensor:
        # Column-major in memory, like run lengths, so that encoding it again is fast.
        return torch.from_numpy(coco_mask.decode(rle)).bool().to(self.device)  # (height, width)


@dataclass
class SemanticMap:
    """The best class of each pixel, as a replacement for logits (S, height, width).

    detectron2's evaluators and demos only take the argmax of predicted logits.
    """

    labels: Tensor  # (height, width)
    num_classes: int
    probabilities: Tensor | None = None  # (height, width), of the labels (softmax), if computed

    @property
    def shape(self) -> torch.Size:
        """Shape of the logits."""
        return torch.Size((self.num_classes, *self.labels.shape))

    def argmax(self, dim: int = 0) -> Tensor:
        """The labels (height, width) as int64; `dim` must be the axis of the classes."""
        if dim not in (0, -3):
            raise ValueError(f"a map of labels has no logits along dimension {dim}")
        return self.labels.long()

    def to(self, *args: Any, **kwargs: Any) -> "SemanticMap":
        """The same map on another device; arguments as of `Tensor.to`, dtypes are ignored."""
        device = self.labels.new_empty(0).to(*args, **kwargs).device
        probabilities = None if self.probabilities is None else self.probabilities.to(device)
        return SemanticMap(self.labels.to(device), self.num_classes, probabilities)

    def cpu(self) -> "SemanticMap":
        """The same map on the CPU."""
        return self.to("cpu")


def run_lengths_of(masks: Tensor | RLEMasks) -> list[dict[str, Any]]:
    """Encode masks (D, height, width) as COCO's run lengths, "size" and "counts" each, for JSON."""
    if isinstance(masks, RLEMasks):
        return masks.rles
    rles = []
    for mask in masks.cpu():
        # Run lengths follow the columns.
        columns = mask.T.contiguous().view(torch.uint8)  # (width, height)
        rle = coco_mask.encode(columns.numpy().T)
        rles.append({"size": rle["size"], "counts": rle["counts"].decode()})
    return rles


def instances_to_coco_json(instances: Instances, image_id: Any) -> list[dict[str, Any]]:
    """Detections of an image in COCO's result format; category ids are class indices from 0."""
    boxes = BoxMode.convert(
        instances.pred_boxes.tensor.cpu(), BoxMode.XYXY_ABS, BoxMode.XYWH_ABS
    ).tolist()
    columns = {
        "category_id": instances.pred_classes.tolist(),
        "bbox": boxes,
        "score": instances.scores.tolist(),
    }
    if instances.has("pred_masks"):
        columns["segmentation"] = run_lengths_of(instances.pred_masks)
    return [
        {"image_id": image_id, **dict(zip(columns, values, strict=True))}
        for values in zip(*columns.values(), strict=True)
    ]
