"""Instances and a semantic map merged into one map, where every pixel is in one segment at most."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.data import Metadata, MetadataCatalog
from detectron2.structures import Instances
from torch import Tensor, nn

from ..structures import SemanticMap

Segment = dict[str, Any]


class PanopticMerger(nn.Module):
    """`merge` with its tables and thresholds; a checkpoint holds the tables."""

    def __init__(
        self,
        *,
        thing_to_panoptic: Sequence[int],
        leaf_to_panoptic: Sequence[int],
        overlap_threshold: float = 0.5,
        stuff_area_limit: int = 4096,
        score_threshold: float = 0.5,
    ) -> None:
        """
        Args:
            thing_to_panoptic: the panoptic class of each class of the instances; -1 where none is.
            leaf_to_panoptic: of each class of the semantic map, where that is stuff; else -1.
            overlap_threshold: an object is dropped when more than this share of it is hidden.
            stuff_area_limit: smaller areas of stuff are dropped.
            score_threshold: objects below are dropped.
        """
        super().__init__()
        self.overlap_threshold = overlap_threshold
        self.stuff_area_limit = stuff_area_limit
        self.score_threshold = score_threshold
        self.thing_to_panoptic: Tensor
        self.leaf_to_panoptic: Tensor
        self.register_buffer("thing_to_panoptic", torch.tensor(thing_to_panoptic))
        self.register_buffer("leaf_to_panoptic", torch.tensor(leaf_to_panoptic))

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *others: Any) -> None:
        """Weights of other projects have no tables: ours stay."""
        for name, table in self.named_buffers():
            state.setdefault(f"{prefix}{name}", table)
        super()._load_from_state_dict(state, prefix, *others)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "PanopticMerger | None":
        """A merger for the training data, None where it is switched off or they have no classes."""
        node = cfg.MODEL.PANOPTIC_FPN.COMBINE
        names = cfg.DATASETS.TRAIN or cfg.DATASETS.TEST
        tables = panoptic_tables(MetadataCatalog.get(names[0])) if names else None
        if tables is None or not node.ENABLED:
            return None
        return cls(
            thing_to_panoptic=tables[0],
            leaf_to_panoptic=tables[1],
            overlap_threshold=node.OVERLAP_THRESH,
            stuff_area_limit=node.STUFF_AREA_LIMIT,
            score_threshold=node.INSTANCES_CONFIDENCE_THRESH,
        )

    def forward(
        self, instances: Instances, sem_seg: SemanticMap | Tensor
    ) -> tuple[Tensor, list[Segment]]:
        """What `merge` gives of instances and of labels or logits (S, H, W) of the same size."""
        return merge(
            instances,
            sem_seg.argmax(dim=0),
            thing_to_panoptic=self.thing_to_panoptic,
            leaf_to_panoptic=self.leaf_to_panoptic,
            overlap_threshold=self.overlap_threshold,
            stuff_area_limit=self.stuff_area_limit,
            score_threshold=self.score_threshold,
        )


def panoptic_tables(metadata: Metadata) -> tuple[list[int], list[int]] | None:
    """Which panoptic class each class of the instances and of the semantic map is.

    Panoptic classes are numbered as in the data set's `panoptic_classes`, which
    `<name>_panoptic` names and COCO's ids belong to. The semantic classes among them are told by
    `leaf_to_panoptic`, else by their names. A data set without panoptic classes gets detectron2's
    numbers, which its own tables decode: a thing that of its class, stuff that of its label.

    Args:
        metadata: of the data set.

    Returns:
        A list for the things and one for the semantic classes, where things have -1, as whatever
        has no panoptic class. None if the data have no things or no semantic classes.
    """
    things, leaves = metadata.get("thing_classes"), metadata.get("stuff_classes")
    if not things or not leaves:
        return None
    classes = metadata.get("panoptic_classes")
    if classes is None:
        no_stuff = {*things, "things"}  # detectron2 calls all things one class of COCO's stuff
        stuff = [-1 if name in no_stuff else index for index, name in enumerate(leaves)]
        return list(range(len(things))), stuff
    indices = {
        kind: {c: i for i, c in enumerate(classes) if metadata.panoptic_is_thing[i] is kind}
        for kind in (True, False)
    }
    leaf_to_panoptic = metadata.get("leaf_to_panoptic")
    if leaf_to_panoptic is None:
        stuff = [indices[False].get(name, -1) for name in leaves]
    else:
        is_stuff = set(indices[False].values())
        stuff = [index if index in is_stuff else -1 for index in leaf_to_panoptic]
    return [indices[True].get(name, -1) for name in things], stuff


def merge(
    instances: Instances,
    labels: Tensor,
    *,
    thing_to_panoptic: Tensor,
    leaf_to_panoptic: Tensor,
    overlap_threshold: float,
    stuff_area_limit: int,
    score_threshold: float,
) -> tuple[Tensor, list[Segment]]:
    """Put objects onto an empty map, the best first, and stuff where there is room left.

    Objects do not cover each other; one that is hidden too much is left out. Pixels that only the
    semantic map calls a thing, and small areas of stuff, stay void.

    Args:
        instances: with scores, pred_classes and pred_masks (D, H, W), or anything else that gives
            a mask for an index.
        labels: (H, W), the semantic class of each pixel.
        thing_to_panoptic: (C,) the panoptic class of each class of the instances; -1: none.
        leaf_to_panoptic: (S,) of each semantic class that is stuff; -1: none.
        overlap_threshold: an object is dropped when more than this share of it is hidden.
        stuff_area_limit: smaller areas of stuff are dropped.
        score_threshold: objects below are dropped.

    Returns:
        (H, W) int32, the id of each pixel's segment or 0, and what the segments are, in
        detectron2's form: "id" from 1 on, "isthing", "category_id" (a panoptic class), of a thing
        "score" and "instance_id" (its number among the instances), of stuff its "area".
    """
    scores = instances.scores.tolist()
    categories = _look_up(thing_to_panoptic, instances.pred_classes).tolist()
    candidates = [
        number
        for number in sorted(range(len(scores)), key=lambda number: -scores[number])
        if scores[number] >= score_threshold and categories[number] >= 0
    ]
    masks = (instances.pred_masks[number] for number in candidates)
    things = _place(masks, torch.zeros_like(labels, dtype=torch.int32), overlap_threshold)
    stuff = _look_up(leaf_to_panoptic, labels)  # (H, W)
    # 0: void, then a number for each candidate, then one for each panoptic class.
    first_stuff = len(candidates) + 1
    numbers = torch.where(stuff >= 0, first_stuff + stuff, 0)
    numbers = torch.where(things > 0, things, numbers)  # (H, W) int64
    areas = numbers.flatten().bincount(minlength=first_stuff).tolist()
    found: list[Segment] = [
        {"isthing": True, "score": scores[n], "category_id": categories[n], "instance_id": n}
        for n in candidates
    ]
    found += [
        {"isthing": False, "category_id": category, "area": area}
        for category, area in enumerate(areas[first_stuff:])
    ]
    ids, segments = _number_segments(areas[1:], found, max(stuff_area_limit, 1))
    return torch.tensor(ids, dtype=torch.int32, device=numbers.device)[numbers], segments


def _look_up(table: Tensor, classes: Tensor) -> Tensor:
    """The panoptic class of each class; -1 beyond the table, for heads with more classes."""
    return F.pad(table, (0, 1), value=-1)[classes.long().clamp(max=len(table))]


def _place(masks: Iterable[Tensor], canvas: Tensor, overlap_threshold: float) -> Tensor:
    """Number masks from 1 on, each where those before left room; too hidden ones not at all.

    Whether a mask is left out is known on the device only, so that nothing waits for it.
    """
    free = torch.ones_like(canvas, dtype=torch.bool)
    for number, mask in enumerate(masks, start=1):
        mask = mask.to(free.device, torch.bool)
        visible = mask & free
        area, room = torch.count_nonzero(mask), torch.count_nonzero(visible)
        visible &= ~((area - room) / area > overlap_threshold)
        canvas.masked_fill_(visible, number)
        free ^= visible
    return canvas


def _number_segments(
    areas: Sequence[int], found: Sequence[Segment], stuff_area_limit: int
) -> tuple[list[int], list[Segment]]:
    """The ids of void and of what was found, 0 of what is empty or too small, and the segments."""
    ids = [0]
    segments: list[Segment] = []
    for area, segment in zip(areas, found, strict=True):
        is_large = area >= (1 if segment["isthing"] else stuff_area_limit)
        ids.append(len(segments) + 1 if is_large else 0)
        if is_large:
            segments.append({"id": ids[-1], **segment})
    return ids, segments
