"""Merging instances and a semantic map into a panoptic map."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.data import Metadata
from detectron2.structures import Instances
from torch import Tensor, nn

from ..data.catalog.records import read_metadata
from ..structures import SemanticMap

Segment = dict[str, Any]


class PanopticMerger(nn.Module):
    """`merge` with its tables and thresholds. The tables are part of a checkpoint."""

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
            thing_to_panoptic: panoptic class of each instance class; -1: no panoptic class.
            leaf_to_panoptic: panoptic class of each semantic class that is stuff; -1 for others.
            overlap_threshold: objects of which a larger fraction is occluded are dropped.
            stuff_area_limit: stuff segments with fewer pixels are dropped.
            score_threshold: objects with a lower score are dropped.
        """
        super().__init__()
        self.overlap_threshold = overlap_threshold
        self.stuff_area_limit = stuff_area_limit
        self.score_threshold = score_threshold
        self.thing_to_panoptic: Tensor
        self.leaf_to_panoptic: Tensor
        self.register_buffer("thing_to_panoptic", torch.tensor(thing_to_panoptic))
        self.register_buffer("leaf_to_panoptic", torch.tensor(leaf_to_panoptic))
        self.register_load_state_dict_pre_hook(_keep_tables)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "PanopticMerger | None":
        """Merger for the training data; None if disabled or if they lack things or stuff."""
        node = cfg.MODEL.PANOPTIC_FPN.COMBINE
        names = cfg.DATASETS.TRAIN or cfg.DATASETS.TEST
        tables = panoptic_tables(read_metadata(names[0])) if names else None
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
        """Merge instances and labels or logits (S, H, W) of the same size."""
        return merge(
            instances,
            sem_seg.argmax(dim=0),
            thing_to_panoptic=self.thing_to_panoptic,
            leaf_to_panoptic=self.leaf_to_panoptic,
            overlap_threshold=self.overlap_threshold,
            stuff_area_limit=self.stuff_area_limit,
            score_threshold=self.score_threshold,
        )


def _keep_tables(merger: PanopticMerger, state: dict[str, Any], prefix: str, *_others: Any) -> None:
    """Keep the network's tables when loading weights without tables, as of other projects."""
    tables = {f"{prefix}{name}": table for name, table in merger.named_buffers()}
    if not tables.keys() & state.keys():
        state.update(tables)


def panoptic_tables(metadata: Metadata) -> tuple[list[int], list[int]] | None:
    """Tables from instance classes and from semantic classes to panoptic classes.

    Panoptic classes are indices into `panoptic_classes` of the data set, the classes of
    `<name>_panoptic`. Semantic classes are matched by `leaf_to_panoptic`, or by name without it.
    Data sets without panoptic classes use detectron2's convention: a thing has the index of its
    class, stuff that of its label. Its "standard" panoptic sets have one table of all classes, and
    the tables of category ids tell things from stuff.

    Args:
        metadata: of the data set.

    Returns:
        One list for the instance classes and one for the semantic classes; -1 for a class without
        a panoptic class and for things in the second list. None if the data set has no things or
        no semantic classes.
    """
    things, leaves = metadata.get("thing_classes"), metadata.get("stuff_classes")
    if not things or not leaves:
        return None
    classes = metadata.get("panoptic_classes")
    if classes is None and list(things) == list(leaves):
        return _rows_of(metadata, "thing", len(things)), _rows_of(metadata, "stuff", len(leaves))
    if classes is None:
        # detectron2's stuff classes of COCO begin with "things", which stands for all things.
        no_stuff = {*things, "things"}
        stuff = [-1 if name in no_stuff else index for index, name in enumerate(leaves)]
        return list(range(len(things))), stuff
    indices = {
        is_thing: {c: i for i, c in enumerate(classes) if metadata.panoptic_is_thing[i] is is_thing}
        for is_thing in (True, False)
    }
    leaf_to_panoptic = metadata.get("leaf_to_panoptic")
    if leaf_to_panoptic is None:
        stuff = [indices[False].get(name, -1) for name in leaves]
    else:
        is_stuff = set(indices[False].values())
        stuff = [index if index in is_stuff else -1 for index in leaf_to_panoptic]
    return [indices[True].get(name, -1) for name in things], stuff


def _rows_of(metadata: Metadata, kind: str, number: int) -> list[int]:
    """Return the index of each class that is a "thing" or "stuff", and -1 of the others."""
    table = metadata.get(f"{kind}_dataset_id_to_contiguous_id") or {}
    return [index if index in table.values() else -1 for index in range(number)]


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
    """Paste objects by descending score, then fill free pixels with stuff.

    An object covers free pixels only and is dropped if too much of it is occluded. Pixels that are
    a thing in the semantic map only, and small stuff segments, stay void.

    Args:
        instances: with scores, pred_classes and pred_masks: (D, H, W), or any object that returns
            the mask of an index.
        labels: (H, W) semantic class of each pixel.
        thing_to_panoptic: (C,) panoptic class of each instance class; -1: no panoptic class.
        leaf_to_panoptic: (S,) panoptic class of each semantic class that is stuff; -1 for others.
        overlap_threshold: objects of which a larger fraction is occluded are dropped.
        stuff_area_limit: stuff segments with fewer pixels are dropped.
        score_threshold: objects with a lower score are dropped.

    Returns:
        (H, W) int32, the id of each pixel's segment or 0, and the segments in detectron2's format:
        "id" from 1 on, "isthing", "category_id" (the panoptic class), for things "score" and
        "instance_id" (the index into the instances), for stuff "area".
    """
    scores = instances.scores.tolist()
    categories = _look_up(thing_to_panoptic, instances.pred_classes).tolist()
    candidates = [
        index
        for index in sorted(range(len(scores)), key=lambda index: -scores[index])
        if scores[index] >= score_threshold and categories[index] >= 0
    ]
    masks = (instances.pred_masks[index] for index in candidates)
    things = _paste(masks, torch.zeros_like(labels, dtype=torch.int32), overlap_threshold)
    stuff = _look_up(leaf_to_panoptic, labels)  # (H, W)
    # 0 is void, followed by a number per candidate and a number per panoptic class.
    first_stuff = len(candidates) + 1
    numbers = torch.where(stuff >= 0, first_stuff + stuff, 0)
    numbers = torch.where(things > 0, things, numbers)  # (H, W) int64
    areas = numbers.flatten().bincount(minlength=first_stuff).tolist()
    possible: list[Segment] = [
        {"isthing": True, "score": scores[n], "category_id": categories[n], "instance_id": n}
        for n in candidates
    ]
    possible += [
        {"isthing": False, "category_id": category, "area": area}
        for category, area in enumerate(areas[first_stuff:])
    ]
    ids, segments = _number_segments(areas[1:], possible, max(stuff_area_limit, 1))
    return torch.tensor(ids, dtype=torch.int32, device=numbers.device)[numbers], segments


def _look_up(table: Tensor, classes: Tensor) -> Tensor:
    """Panoptic class of each class; -1 beyond the table, for heads with more classes than it."""
    return F.pad(table, (0, 1), value=-1)[classes.long().clamp(max=len(table))]


def _paste(masks: Iterable[Tensor], canvas: Tensor, overlap_threshold: float) -> Tensor:
    """Write the numbers of masks, from 1 on, into free pixels; too occluded masks are dropped.

    Masks are dropped on the device, without synchronization.
    """
    free = torch.ones_like(canvas, dtype=torch.bool)
    for number, mask in enumerate(masks, start=1):
        mask = mask.to(free.device, torch.bool)
        visible = mask & free
        area, visible_area = torch.count_nonzero(mask), torch.count_nonzero(visible)
        visible &= ~((area - visible_area) / area > overlap_threshold)
        canvas.masked_fill_(visible, number)
        free ^= visible
    return canvas


def _number_segments(
    areas: Sequence[int], possible: Sequence[Segment], stuff_area_limit: int
) -> tuple[list[int], list[Segment]]:
    """Ids of void and of all possible segments, 0 for too small ones, and the segments kept."""
    ids = [0]
    segments: list[Segment] = []
    for area, segment in zip(areas, possible, strict=True):
        is_large = area >= (1 if segment["isthing"] else stuff_area_limit)
        ids.append(len(segments) + 1 if is_large else 0)
        if is_large:
            segments.append({"id": ids[-1], **segment})
    return ids, segments
