"""Boxes and masks from several sizes of an image, also mirrored."""

import copy
import itertools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances
from pycocotools import mask as coco_mask
from torch import Tensor, nn
from torchvision.ops import batched_nms

from ..structures import RLEMasks

Sample = dict[str, Any]

# What a view need not predict; a model without such parts is used as it is.
OTHER_PARTS = ("semantic_head", "caption_head", "panoptic")


class TestTimeAugmentation(nn.Module):
    """A model that looks at several views of each image, called like the model itself.

    Instances of all views are brought back to the image and compete in one suppression by class; a
    box keeps the mask of its own view. Semantic maps, panoptic maps and captions are those of the
    plain image.
    """

    __test__ = False  # no test case, whatever pytest thinks of the name

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
            model: takes a list of samples with an "image" (3, h, w) and the "height" and "width" of
                its results, gives a list of results with "instances".
            sizes: long sides of the views; () is the size that images come in.
            flip: look at each view mirrored as well.
            nms_threshold: of two boxes of a class with a larger overlap the worse one is dropped.
            max_detections: the best of an image are kept.
        """
        super().__init__()
        self.model = model
        self.views = list(itertools.product(sizes or (None,), (False, True) if flip else (False,)))
        self.nms_threshold = nms_threshold
        self.max_detections = max_detections

    @classmethod
    def from_config(cls, cfg: CfgNode, model: nn.Module) -> "TestTimeAugmentation":
        """As TEST.TTA says."""
        if "detection" not in cfg.MODEL.YOLOR.TASKS:
            raise ValueError("TEST.TTA is of boxes and masks, but MODEL.YOLOR.TASKS has none")
        return cls(
            model,
            sizes=cfg.TEST.TTA.SIZES,
            flip=cfg.TEST.TTA.FLIP,
            nms_threshold=cfg.MODEL.DETECTION_HEAD.TEST.NMS_THRESH,
            max_detections=cfg.TEST.DETECTIONS_PER_IMAGE,
        )

    def forward(self, batch: Sequence[Sample]) -> list[dict[str, Any]]:
        """Results of some images."""
        results: list[dict[str, Any]] = self.model(batch)
        detector = _without_other_parts(self.model)
        found: list[list[Instances]] = [[] for _ in batch]  # of each image, by view
        for size, mirrored in self.views:
            samples = [_view(sample, size, mirrored) for sample in batch]
            is_plain = all(view is sample for view, sample in zip(samples, batch, strict=True))
            for views, seen in zip(found, results if is_plain else detector(samples), strict=True):
                views.append(seen["instances"])
        return [
            {**result, "instances": self._merge(views)}
            for result, views in zip(results, found, strict=True)
        ]

    def _merge(self, views: list[Instances]) -> Instances:
        """The instances of one image, of all views."""
        boxes = [
            _mirrored_boxes(seen) if mirrored else seen.pred_boxes.tensor
            for seen, (_, mirrored) in zip(views, self.views, strict=True)
        ]
        kept = batched_nms(
            torch.cat(boxes),
            torch.cat([seen.scores for seen in views]),
            torch.cat([seen.pred_classes for seen in views]),
            self.nms_threshold,
        )[: self.max_detections]
        parts = []
        first = 0
        for seen, own_boxes, (_, mirrored) in zip(views, boxes, self.views, strict=True):
            chosen = kept[(kept >= first) & (kept < first + len(seen))] - first
            part = seen[chosen]
            part.pred_boxes = Boxes(own_boxes[chosen])
            if mirrored and part.has("pred_masks"):
                part.pred_masks = _mirrored_masks(part.pred_masks)
            parts.append(part)
            first += len(seen)
        merged = Instances.cat(parts)
        return merged[merged.scores.argsort(descending=True, stable=True)]


def _without_other_parts(model: nn.Module) -> nn.Module:
    """The same network, with the same weights, that predicts instances only."""
    detector = copy.copy(model)
    detector._modules = {
        name: None if name in OTHER_PARTS else child for name, child in model._modules.items()
    }
    return detector


def _view(sample: Sample, size: int | None, mirrored: bool) -> Sample:
    """A sample with the image at a size, maybe mirrored; itself where nothing changes."""
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
