"""Detection without non-maximum suppression, as published in gyolo."""

from collections.abc import Mapping
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from torch import Tensor

from ...objects import Assignment, Objects
from ..registry import DETECTION_HEAD_REGISTRY
from .assigner import TaskAlignedAssigner
from .head import AnchorFreeHead, PointPredictions

SUFFIX = "_one_to_one"  # of its losses
NO_SUPPRESSION = 1.0  # no two boxes have a larger IoU


@DETECTION_HEAD_REGISTRY.register()
class OneToOneHead(AnchorFreeHead):
    """AnchorFreeHead with a second set of branches, `one_to_one`, that predict without duplicates.

    The first set trains the feature maps: each object is assigned to several points. For the second
    set it is assigned to its best point only, so predictions need no suppression. The second set
    sends no gradient to the maps, and starts as a copy of the first one. One of them predicts, and
    only that one remains in a deployed network.
    """

    one_to_one: AnchorFreeHead | None

    @configurable
    def __init__(self, *, predicts_one_to_one: bool = True, **arguments: Any) -> None:
        """
        Args:
            predicts_one_to_one: whether the second set predicts, without suppression, or the first
                one, with suppression.
            **arguments: of AnchorFreeHead, for both sets.
        """
        super().__init__(**arguments)
        several = self.assigner
        best_only = TaskAlignedAssigner(
            topk=1, alpha=several.alpha, beta=several.beta, min_side=several.min_side
        )
        second = AnchorFreeHead(**(arguments | {"assigner": best_only}))
        second.load_state_dict(self.state_dict())
        self.one_to_one = second
        self.predicts_one_to_one = predicts_one_to_one
        if predicts_one_to_one:
            self.suppression = self.suppression._replace(nms_thresh=NO_SUPPRESSION)
        self.register_load_state_dict_pre_hook(_copy_branches)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        one_to_one = cfg.MODEL.DETECTION_HEAD.TEST.ONE_TO_ONE
        return super().from_config(cfg, input_shape) | {"predicts_one_to_one": one_to_one}

    def forward(self, features: Mapping[str, Tensor]) -> PointPredictions:
        """Predictions of both sets if this module is in training mode, else of one of them."""
        second = self.one_to_one
        if self.training and second is not None:
            detached = {name: features[name].detach() for name in self.in_features}
            return super().forward(features)._replace(one_to_one=second(detached))
        if self.predicts_one_to_one and second is not None:
            return second(features)
        return super().forward(features)

    def losses(
        self, predictions: PointPredictions, objects: Objects, assignment: Assignment
    ) -> dict[str, Tensor]:
        """Weighted losses of both sets; the assignment is that of the first one."""
        second, own = self.one_to_one, predictions.one_to_one
        if second is None or own is None:
            raise ValueError("a deployed network, or predictions for inference, have no losses")
        losses = second.losses(own, objects, second.assign(own, objects))
        return super().losses(predictions, objects, assignment) | {
            f"{name}{SUFFIX}": loss for name, loss in losses.items()
        }

    @torch.no_grad()
    def fuse(self) -> None:
        """Remove the set of branches that does not predict."""
        if not self.predicts_one_to_one:
            self.one_to_one = None
            return
        for branch in ("box", "class"):
            delattr(self, f"{branch}_towers")
            delattr(self, f"{branch}_predictors")


def _copy_branches(head: OneToOneHead, state: dict[str, Any], prefix: str, *_others: Any) -> None:
    """Load weights of an AnchorFreeHead: its branches are copied for the second set."""
    own = f"{prefix}one_to_one."
    if head.one_to_one is None or any(name.startswith(own) for name in state):
        return
    given = [name for name in state if name.startswith(prefix)]
    state.update({f"{own}{name.removeprefix(prefix)}": state[name] for name in given})
