"""The objects of a batch, and which point of the network learns which of them."""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import torch
from detectron2.structures import Instances
from torch import Tensor


class Objects(NamedTuple):
    """The ground truth of N images, all G objects one after the other."""

    boxes: Tensor  # (G, 4) x0 y0 x1 y1 in pixels of the canvas
    classes: Tensor  # (G,)
    image: Tensor  # (G,) number of the object's image, ascending
    known: Tensor  # (N,) bool: whether the image's objects are known at all

    @classmethod
    def from_instances(
        cls, instances: Sequence[Instances | None], *, device: torch.device
    ) -> "Objects":
        """Put the objects of several images one after the other; None where nobody knows them."""
        present = [item for item in instances if item is not None]
        counts = [0 if item is None else len(item) for item in instances]
        boxes = torch.cat([torch.zeros(0, 4), *(item.gt_boxes.tensor.cpu() for item in present)])
        classes = [torch.zeros(0, dtype=torch.int64), *(item.gt_classes.cpu() for item in present)]
        return cls(
            boxes=boxes.float().to(device, non_blocking=True),
            classes=torch.cat(classes).to(device, non_blocking=True),
            image=torch.cat([torch.full((count,), n) for n, count in enumerate(counts)]).to(
                device, non_blocking=True
            ),
            known=torch.tensor([item is not None for item in instances]).to(
                device, non_blocking=True
            ),
        )


class Assignment(NamedTuple):
    """The P points that learn an object each; the others learn that there is none."""

    image: Tensor  # (P,) ascending
    point: Tensor  # (P,) index among the A points of the image, ascending within an image
    object: Tensor  # (P,) index among the G objects of the batch
    score: Tensor  # (P,) what the object's class logit should say, in 0..1
    counts: list[int]  # points of each image; on the host, the step's one synchronisation


class CaptionTargets(NamedTuple):
    """Captions of N images: K of each, T tokens long, padded with the head's `pad_id`."""

    ids: Tensor  # (N, K, T) begin, words, end, padding; missing captions are all padding
    known: Tensor  # (N,) bool, False for images without captions
    image_ids: Sequence[Hashable]
