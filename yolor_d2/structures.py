"""What predictions hold where a plain tensor would be too large."""

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
    """Binary masks of the objects of one image as COCO's run lengths.

    It is what detectron2 expects of `pred_masks`: an index gives one mask as a tensor (height,
    width), decoded on demand; a slice, a list or a vector gives some of the masks.
    """

    rles: list[dict[str, Any]] = field(repr=False)  # "size" and "counts" each, ready for JSON
    height: int
    width: int
    device: torch.device = CPU  # of the decoded masks

    @classmethod
    def cat(cls, several: Sequence["RLEMasks"]) -> "RLEMasks":
        """The masks of several lists, of images of one size."""
        first = several[0]
        if any((masks.height, masks.width) != (first.height, first.width) for masks in several):
            raise ValueError("masks of images of different sizes cannot be put together")
        rles = [rle for masks in several for rle in masks.rles]
        return cls(rles, first.height, first.width, first.device)

    def to(self, *args: Any, **kwargs: Any) -> "RLEMasks":
        """The same masks, decoded onto another device; takes what `Tensor.to` takes."""
        device = torch.empty(0, device=self.device).to(*args, **kwargs).device
        return RLEMasks(self.rles, self.height, self.width, device)

    def __len__(self) -> int:
        return len(self.rles)

    def __getitem__(self, item: Any) -> "Tensor | RLEMasks":
        chosen = np.arange(len(self))[item.cpu().numpy() if isinstance(item, Tensor) else item]
        if np.ndim(chosen) == 0:
            return self._decode(self.rles[chosen])
        rles = [self.rles[number] for number in chosen]
        return RLEMasks(rles, self.height, self.width, self.device)

    def __iter__(self) -> Iterator[Tensor]:
        return map(self._decode, self.rles)

    def any(self, *, dim: int) -> Tensor:
        """Where some object is; detectron2's Visualizer asks for it in black and white."""
        if dim != 0:
            raise ValueError(f"masks can only be joined over the objects, dim 0, not {dim}")
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
        # Column by column in memory, as run lengths are, so that encoding it again is fast.
        return torch.from_numpy(coco_mask.decode(rle)).bool().to(self.device)  # (height, width)


@dataclass
class SemanticMap:
    """The class of each pixel, in place of the logits (S, height, width) that it was the best of.

    detectron2's evaluators and demos ask of predicted logits only which class is the best.
    """

    labels: Tensor  # (height, width)
    num_classes: int

    @property
    def shape(self) -> torch.Size:
        """Of the logits."""
        return torch.Size((self.num_classes, *self.labels.shape))

    def argmax(self, dim: int = 0) -> Tensor:
        """The labels (height, width) as int64. Only the classes' axis is there to choose along."""
        if dim not in (0, -3):
            raise ValueError(f"a map of labels has no logits along dimension {dim}")
        return self.labels.long()

    def to(self, *args: Any, **kwargs: Any) -> "SemanticMap":
        """The same map on another device; takes what `Tensor.to` takes, but keeps its type."""
        device = self.labels.new_empty(0).to(*args, **kwargs).device
        return SemanticMap(self.labels.to(device), self.num_classes)

    def cpu(self) -> "SemanticMap":
        """The same map in the host's memory."""
        return self.to("cpu")


def run_lengths_of(masks: Tensor | RLEMasks) -> list[dict[str, Any]]:
    """Masks (D, height, width) as COCO's run lengths, "size" and "counts" each, ready for JSON."""
    if isinstance(masks, RLEMasks):
        return masks.rles
    rles = []
    for mask in masks.cpu():
        # Run lengths go down the columns.
        columns = mask.T.contiguous().view(torch.uint8)  # (width, height)
        rle = coco_mask.encode(columns.numpy().T)
        rles.append({"size": rle["size"], "counts": rle["counts"].decode()})
    return rles


def instances_to_coco_json(instances: Instances, image_id: Any) -> list[dict[str, Any]]:
    """Detections of one image in COCO's result format; category ids are class indices from 0."""
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
