"""What the caption head reads of other heads: objects, or outputs of any kind.

Captions train no other head and do not change the statistics of its batch norms.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError
from ..letterbox import Content
from .heads.caption.regions import Regions, found_regions, true_regions
from .layers import FrozenStatistics
from .objects import HeadOutputs, Objects

Features = Mapping[str, Tensor]
Contents = Sequence[Content] | Tensor | None


def tasks_read(caption_head: Any) -> frozenset[str]:
    """Tasks whose heads the caption head reads."""
    if reads_outputs(caption_head):
        return frozenset(caption_head.reads)
    has_regions = getattr(caption_head, "regions", None) is not None
    return frozenset({"detection"} if has_regions else ())


def reads_outputs(caption_head: Any) -> bool:
    """Whether the caption head reads `HeadOutputs`."""
    return bool(getattr(caption_head, "reads", ()))


def check_heads(heads: Mapping[str, Any]) -> None:
    """Raise ValueError if the caption head reads a head that is missing or does not fit."""
    caption_head = heads.get("caption")
    missing = sorted(tasks_read(caption_head) - heads.keys())
    if missing:
        raise ConfigError(
            f"{type(caption_head).__name__} reads heads that are missing: {', '.join(missing)}"
        )
    if reads_outputs(caption_head) and not hasattr(heads["semantic"], "shared_map"):
        raise ConfigError(
            f"{type(caption_head).__name__} reads a map that {type(heads['semantic']).__name__} "
            "does not share: MODEL.SEM_SEG_HEAD.NAME DenseNeckSemanticHead does"
        )


@torch.no_grad()
def head_outputs(heads: Mapping[str, Any], features: Features, detection: Any) -> HeadOutputs:
    """Outputs of the other heads; `detection` is that of the detection head, None if unknown."""
    detector, semantic = heads["detection"], heads["semantic"]
    if detection is None:
        detection = _detect(detector, features)
    with FrozenStatistics(semantic):
        shared = semantic.shared_map(features)
        logits = _chosen_branches(detector, detection).logits.detach()
        return HeadOutputs(logits, semantic.maps_from(shared), shared)


def _chosen_branches(detector: Any, detection: Any) -> Any:
    """Predictions of the branches that also predict at inference."""
    second = getattr(detection, "one_to_one", None)
    return second if second is not None and detector.predicts_one_to_one else detection


def encode(
    heads: Mapping[str, Any],
    features: Features,
    contents: Contents,
    *,
    detection: Any = None,
    objects: Objects | None = None,
    outputs: HeadOutputs | None = None,
) -> Any:
    """The caption head's encoding of the maps, such as `VisualTokens`.

    Args:
        heads: by task, with a caption head.
        features: the maps.
        contents: the rectangle of each image on its canvas; None: the whole canvas.
        detection: output of the detection head; None: it is computed if needed.
        objects: ground truth to train with; None: objects are detected.
        outputs: of the other heads; None: they are computed if needed.
    """
    head = heads["caption"]
    if reads_outputs(head):
        return head(features, contents, outputs or head_outputs(heads, features, detection))
    if not tasks_read(head):
        return head(features, contents)
    count, detector = head.max_regions, heads["detection"]
    return head(features, contents, regions(detector, features, detection, objects, count=count))


def regions(
    detector: Any, features: Features, detection: Any, objects: Objects | None, *, count: int
) -> Regions:
    """At most `count` objects of each image.

    Args:
        detector: the detection head.
        features: the maps.
        detection: output of the detection head; None: it is computed.
        objects: ground truth to train with; None: objects are detected.
        count: at most.
    """
    if detection is None:
        detection = _detect(detector, features)
    logits = detection.logits
    if objects is None:
        return found_regions(logits, detector.boxes(detection), count=count)
    return true_regions(objects, count=count, num_classes=logits.shape[2])


@torch.no_grad()
def _detect(detector: Any, features: Features) -> Any:
    with FrozenStatistics(detector):
        return detector(features)
