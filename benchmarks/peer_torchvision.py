"""torchvision's Mask R-CNN with the interface of detectron2's networks."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn
from torchvision.models.detection import maskrcnn_resnet50_fpn
from torchvision.models.detection.anchor_utils import AnchorGenerator

RATIOS = (0.5, 1.0, 2.0)


class TorchvisionMaskRCNN(nn.Module):
    """Mask R-CNN R50-FPN with random weights.

    Args:
        classes: number of classes, without background.
        size: long side of the images in pixels; they are not resized.
        anchors: sides in pixels, one for each of five feature maps.
    """

    def __init__(self, *, classes: int, size: int, anchors: Sequence[int]) -> None:
        super().__init__()
        sizes = tuple((anchor,) for anchor in anchors)
        self.network = maskrcnn_resnet50_fpn(
            weights=None,
            weights_backbone=None,
            num_classes=classes + 1,
            min_size=size,
            max_size=size,
            rpn_anchor_generator=AnchorGenerator(sizes, (RATIOS,) * len(sizes)),
            box_score_thresh=0.001,
        )

    def forward(self, samples: Sequence[Mapping[str, Any]]) -> Any:
        """Losses by name in training mode, else detectron2's results for each image."""
        images = [sample["image"].float() / 255 for sample in samples]
        if self.training:
            return self.network(images, [_target(sample["instances"]) for sample in samples])
        outputs = self.network(images)
        return [
            {"instances": _instances(output, sample, image.shape[-2:])}
            for output, sample, image in zip(outputs, samples, images, strict=True)
        ]


def _target(instances: Instances) -> dict[str, Tensor]:
    return {
        "boxes": instances.gt_boxes.tensor,
        "labels": instances.gt_classes + 1,  # 0 is the background
        "masks": instances.gt_masks.tensor.to(torch.uint8),
    }


def _instances(
    output: Mapping[str, Tensor], sample: Mapping[str, Any], size: Sequence[int]
) -> Instances:
    """Results at the size of the image file."""
    height, width = sample["height"], sample["width"]
    scale = torch.tensor([width / size[1], height / size[0]]).repeat(2)
    found = Instances((height, width))
    found.pred_boxes = Boxes(output["boxes"] * scale)
    found.scores = output["scores"]
    found.pred_classes = output["labels"] - 1
    found.pred_masks = _resized(output["masks"], (height, width))
    return found


def _resized(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Probabilities (N, 1, h, w) as masks of a size, (N, H, W)."""
    resized = nn.functional.interpolate(masks, size, mode="bilinear", align_corners=False)
    return resized[:, 0] > 0.5
