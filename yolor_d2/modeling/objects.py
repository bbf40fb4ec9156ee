"""What heads exchange: targets of a batch, the assignment of points to objects, outputs."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from detectron2.structures import Instances
from torch import Tensor


class Objects(NamedTuple):
    """The G ground-truth objects of N images, concatenated in the order of the images."""

    boxes: Tensor  # (G, 4) x0 y0 x1 y1 in pixels of the canvas
    classes: Tensor  # (G,)
    image: Tensor  # (G,) index of the object's image, ascending
    known: Tensor  # (N,) bool: whether the image has object annotations at all
    labeled: Tensor | None = None  # (N, C) bool: classes labeled in the image; None: all
    most: int | None = None  # objects of the image that has most; None: not counted

    @classmethod
    def from_instances(
        cls,
        instances: Sequence[Instances | None],
        *,
        labeled: Sequence[Any] = (),
        device: torch.device,
    ) -> "Objects":
        """Concatenate the objects of several images.

        Args:
            instances: objects of each image; None for an image without annotations.
            labeled: for each image, which classes are labeled (C,); None for all classes.
            device: of all tensors.
        """
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
            labeled=_stack_labeled(labeled, device=device),
            most=max(counts, default=0),
        )


def _stack_labeled(labeled: Sequence[Any], *, device: torch.device) -> Tensor | None:
    rows = [None if item is None else torch.as_tensor(item) for item in labeled]
    every = next((torch.ones_like(row) for row in rows if row is not None), None)
    if every is None:
        return None
    stacked = torch.stack([every if row is None else row for row in rows])
    return stacked.to(device, non_blocking=True)


class GroundTruthMasks(NamedTuple):
    """The ground-truth masks of a batch, at any resolution."""

    masks: Tensor  # (G, h, w) bool or uint8, of all objects in the order of Objects
    known: Tensor  # (N,) bool: whether the image has mask annotations


class CaptionTargets(NamedTuple):
    """Up to K captions of each of N images."""

    ids: Tensor  # (N, K, T) int64: begin, words, end, padding; missing captions are all padding
    known: Tensor  # (N,) bool: whether the image has captions
    image_ids: Sequence[Hashable]  # of the N images, None where a sample has no "image_id"


# Image ids and sampled captions (N, K, T) -> the reward of each caption (N, K).
Reward = Callable[[Sequence[Hashable], Tensor], Tensor]


class Assignment(NamedTuple):
    """The P points that are assigned an object; all other points are background."""

    image: Tensor  # (P,) ascending
    point: Tensor  # (P,) index among the A points of the image, ascending within an image
    object: Tensor  # (P,) index among the G objects of the batch
    score: Tensor  # (P,) target of the object's class logit after the sigmoid, in 0..1
    counts: list[int]  # points of each image, on the host: a wait for the device


class HeadOutputs(NamedTuple):
    """Outputs of other heads that a caption head reads, without gradients."""

    class_logits: Tensor  # (N, A, C) of the detection head's points
    semantic_logits: Tensor  # (N, S, h, w)
    semantic_features: Tensor  # (N, X, h, w) the semantic head's `shared_map`


class SurePoints(NamedTuple):
    """The M best points of each image in the predictions of a teacher, by descending score."""

    point: Tensor  # (N, M) index among the A points
    boxes: Tensor  # (N, M, 4) in pixels of the canvas
    weights: Tensor  # (N, M) the best class score; 0 if the teacher is not sure of the point


class TeacherOutputs(NamedTuple):
    """What a teacher predicts for the images of a view, without gradients; empty: no teacher.

    `heads` has the arguments of each head's `losses_against`, after the head's own predictions.
    """

    heads: Mapping[str, tuple[Any, ...]] = MappingProxyType({})  # by task, without captions
    text_logits: Callable[[Tensor], Tensor] | None = None  # ids (N * K, T) -> (N * K, T, V)
