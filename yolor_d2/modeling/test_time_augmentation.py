"""Test-time augmentation: boxes and masks from several sizes of an image, also mirrored."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances
from pycocotools import mask as coco_mask
from torch import Tensor, nn
from torchvision.ops import batched_nms

from ..errors import ConfigError
from ..structures import RLEMasks

Sample = dict[str, Any]

# Parts of a model that do not contribute to instances.
OTHER_PARTS = ("semantic_head", "caption_head", "panoptic")


class TestTimeAugmentation(nn.Module):
    """Runs a model on several views of each image, with the interface of the model itself.

    Instances of all views are mapped back to the image and go through one NMS per class; a box
    keeps the mask of its view. Semantic maps, panoptic maps and captions are those of the original
    image.
    """

    __test__ = False  # the name would make pytest collect it

    def __init__(
        self,
        model: nn.Module,
        *,
        sizes: Sequence[int] = (),
        flip: bool = True,
        nms_threshold: float = 0.7,
        max_detections: int = 300,
    ) -> None:
        """
        Args:
            model: maps a list of samples with "image" (3, h, w) and "height" and "width" of the
                results to a list of results with "instances".
            sizes: long sides of the views; (): the size of the input.
            flip: add a mirrored copy of each view.
            nms_threshold: of two boxes of a class with a larger IoU, the one with the lower score
                is dropped.
            max_detections: maximum number of detections of an image.
        """
        super().__init__()
        self.model = model
        self.views = list(itertools.product(sizes or (None,), (False, True) if flip else (False,)))
        self.nms_threshold = nms_threshold
        self.max_detections = max_detections

    @classmethod
    def from_config(cls, cfg: CfgNode, model: nn.Module) -> "TestTimeAugmentation":
        """Augmentation with the settings of TEST.TTA."""
        if "detection" not in cfg.MODEL.YOLOR.TASKS:
            raise ConfigError(
                'TEST.TTA augments boxes and masks: MODEL.YOLOR.TASKS lacks "detection"'
            )
        return cls(
            model,
            sizes=cfg.TEST.TTA.SIZES,
            flip=cfg.TEST.TTA.FLIP,
            nms_threshold=cfg.MODEL.DETECTION_HEAD.TEST.NMS_THRESH,
            max_detections=cfg.TEST.DETECTIONS_PER_IMAGE,
        )

    def forward(self, batch: Sequence[Sample]) -> list[dict[str, Any]]:
        """Results of a batch of images."""
        results: list[dict[str, Any]] = self.model(batch)
        detections: list[list[Instances]] = [[] for _ in batch]  # of each image, by view
        with _only_instances(self.model):
            for size, mirrored in self.views:
                samples = [_view(sample, size, mirrored) for sample in batch]
                unchanged = all(view is sample for view, sample in zip(samples, batch, strict=True))
                outputs = results if unchanged else self.model(samples)
                for views, output in zip(detections, outputs, strict=True):
                    views.append(output["instances"])
        return [
            {**result, "instances": self._merge(views)}
            for result, views in zip(results, detections, strict=True)
        ]

    def _merge(self, views: list[Instances]) -> Instances:
        """Merge the instances of all views of one image."""
        boxes = [
            _mirrored_boxes(instances) if mirrored else instances.pred_boxes.tensor
            for instances, (_, mirrored) in zip(views, self.views, strict=True)
        ]
        kept = batched_nms(
            torch.cat(boxes),
            torch.cat([instances.scores for instances in views]),
            torch.cat([instances.pred_classes for instances in views]),
            self.nms_threshold,
        )[: self.max_detections]
        parts = []
        first = 0
        for instances, view_boxes, (_, mirrored) in zip(views, boxes, self.views, strict=True):
            chosen = kept[(kept >= first) & (kept < first + len(instances))] - first
            part = instances[chosen]
            part.pred_boxes = Boxes(view_boxes[chosen])
            if mirrored and part.has("pred_masks"):
                part.pred_masks = _mirrored_masks(part.pred_masks)
            parts.append(part)
            first += len(instances)
        merged = Instances.cat(parts)
        return merged[merged.scores.argsort(descending=True, stable=True)]


@contextmanager
def _only_instances(model: nn.Module) -> Iterator[None]:
    """Let a model predict instances only, by removing its other parts for a while."""
    parts = {name: part for name, part in model.named_children() if name in OTHER_PARTS}
    for name in parts:
        setattr(model, name, None)
    try:
        yield
    finally:
        for name, part in parts.items():
            setattr(model, name, part)


def _view(sample: Sample, size: int | None, mirrored: bool) -> Sample:
    """A resized and optionally mirrored sample; the sample itself if nothing changes."""
    image = sample["image"]
    height, width = image.shape[1:]
    ratio = 1.0 if size is None else size / max(height, width)
    if ratio == 1 and not mirrored:
        return sample
    if ratio != 1:
        new_size = max(round(height * ratio), 1), max(round(width * ratio), 1)
        resized = F.interpolate(image[None].float(), new_size, mode="bilinear", antialias=True)
        image = resized[0].round().to(image.dtype)  # (3, h, w)
    return {
        **sample,
        "image": image.flip(2) if mirrored else image,
        "height": sample.get("height", height),
        "width": sample.get("width", width),
    }


def _mirrored_boxes(instances: Instances) -> Tensor:
    x0, y0, x1, y1 = instances.pred_boxes.tensor.unbind(dim=1)
    width = instances.image_size[1]
    return torch.stack([width - x1, y0, width - x0, y1], dim=1)  # (D, 4)


def _mirrored_masks(masks: Tensor | RLEMasks) -> Tensor | RLEMasks:
    if isinstance(masks, Tensor):
        return masks.flip(2)
    rles = []
    for rle in masks.rles:
        mirrored = coco_mask.encode(coco_mask.decode(rle)[:, ::-1].copy(order="F"))
        rles.append({"size": mirrored["size"], "counts": mirrored["counts"].decode()})
    return RLEMasks(rles, masks.height, masks.width, masks.device)
