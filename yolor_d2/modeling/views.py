"""A batch of samples as tensors: its two views, and the targets that belong to each.

Views are padded at the right and at the bottom, so that targets stay where they are.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from detectron2.structures import BitMasks, Instances, PolygonMasks
from torch import Tensor

from ..checks import check_choice
from ..letterbox import MODES, Content, pad_images
from .heads.mask.loss import GroundTruthMasks

Sample = dict[str, Any]

STRONG, WEAK = "", "weak_"  # prefixes of a sample's keys
WEAK_BN = ("update", "frozen")
STRIDES = (1, 2, 4, 8, 16, 32)  # that targets may have


class View(NamedTuple):
    """N images as they enter the network, and the tasks that learn from them."""

    prefix: str  # STRONG or WEAK
    tasks: frozenset[str]
    images: Tensor  # (N, 3, H, W), as read, padded
    contents: list[Content]

    @property
    def is_weak(self) -> bool:
        return self.prefix == WEAK

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the canvas."""
        return self.images.shape[-2], self.images.shape[-1]


def make_view(
    batch: Sequence[Sample],
    *,
    prefix: str,
    tasks: frozenset[str],
    divisor: int,
    device: torch.device,
) -> View:
    """Put the images of one view onto a common canvas."""
    key = f"{prefix}image"
    if any(key not in sample for sample in batch):
        raise ValueError(
            f'a sample has no "{key}", which {", ".join(sorted(tasks))} should read: '
            "INPUT.WEAK_VIEW_TASKS differs from that of the data, or the mapper makes no such view"
        )
    images = [sample[key].to(device, non_blocking=True) for sample in batch]
    canvas, contents = pad_images(images, divisor=divisor)
    return View(prefix, tasks, canvas, contents)


def same_canvas(batch: Sequence[Sample], *, divisor: int) -> list[list[int]]:
    """The numbers of the images that fit one canvas, whose sides are multiples of the divisor."""
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for number, sample in enumerate(batch):
        groups[tuple(-(-side // divisor) for side in sample["image"].shape[-2:])].append(number)
    return list(groups.values())


def view_instances(batch: Sequence[Sample], view: View) -> list[Instances | None]:
    """The objects of each image of a view, None where nobody knows them."""
    return [sample.get(f"{view.prefix}instances") for sample in batch]


def view_masks(
    instances: Sequence[Instances | None], view: View, *, device: torch.device
) -> GroundTruthMasks:
    """The masks of all objects, one after the other, on the view's canvas."""
    known = [item is not None and item.has("gt_masks") for item in instances]
    planes = [
        _mask_planes(item) if has_masks else _no_planes(item)
        for item, has_masks in zip(instances, known, strict=True)
        if item is not None
    ]
    stride = _stride(planes, [i.image_size for i in instances if i is not None])
    height, width = (-(-side // stride) for side in view.size)
    padded = [_pad(plane, height, width, value=0) for plane in planes]
    none = torch.zeros(0, height, width, dtype=torch.bool)
    masks = torch.cat([none, *padded])  # (G, H / stride, W / stride)
    return GroundTruthMasks(
        masks.to(device, non_blocking=True), torch.tensor(known).to(device, non_blocking=True)
    )


def view_sem_seg(
    batch: Sequence[Sample], view: View, *, ignore_value: int, device: torch.device
) -> Tensor:
    """The labels of all images, (N, H / stride, W / stride); unknown ones are ignored."""
    maps = [sample.get(f"{view.prefix}sem_seg") for sample in batch]
    present = [labels for labels in maps if labels is not None]
    sizes = [(content.height, content.width) for content in view.contents]
    known_sizes = [s for s, labels in zip(sizes, maps, strict=True) if labels is not None]
    stride = _stride([labels[None] for labels in present], known_sizes)
    height, width = (-(-side // stride) for side in view.size)
    nothing = torch.full((1, 1), ignore_value, dtype=torch.int64)
    padded = [
        _pad(nothing if labels is None else labels, height, width, value=ignore_value)
        for labels in maps
    ]
    return torch.stack(padded).to(device, non_blocking=True)


def caption_ids(
    batch: Sequence[Sample], *, pad_id: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Token ids (N, K, T), padded, and (N,) whether an image has a caption at all.

    K is the largest number of captions that an image has; missing ones are all padding.
    """
    present = [sample.get("caption_ids") for sample in batch]
    known = torch.tensor([item is not None for item in present])
    nothing = torch.full((1, 2), pad_id, dtype=torch.int64)
    texts = [
        nothing if item is None else torch.atleast_2d(torch.as_tensor(item)) for item in present
    ]
    number, length = (max(text.shape[side] for text in texts) for side in (0, 1))
    padded = [
        F.pad(t, (0, length - t.shape[1], 0, number - t.shape[0]), value=pad_id) for t in texts
    ]
    ids = torch.stack(padded)  # (N, K, T)
    return ids.to(device, non_blocking=True), known.to(device, non_blocking=True)


def _mask_planes(instances: Instances) -> Tensor:
    masks = instances.gt_masks
    if isinstance(masks, PolygonMasks):
        masks = BitMasks.from_polygon_masks(masks, *instances.image_size)
    return masks.tensor if isinstance(masks, BitMasks) else masks  # (g, h, w)


def _no_planes(instances: Instances) -> Tensor:
    """Empty masks for objects whose masks nobody knows: every object has a place in the list."""
    return torch.zeros(len(instances), 1, 1, dtype=torch.bool)


def _stride(planes: Sequence[Tensor], sizes: Sequence[tuple[int, int]]) -> int:
    """How many pixels of an image a cell of its targets is wide and high; 4 when none tells.

    Args:
        planes: each (..., h, w); those of one cell tell nothing.
        sizes: height and width of their images.
    """
    cells = {
        (side, count)
        for plane, size in zip(planes, sizes, strict=True)
        for side, count in zip(size, plane.shape[-2:], strict=True)
        if plane.shape[-2:].numel() > 1
    }
    strides = [s for s in STRIDES if all(-(-side // s) == count for side, count in cells)]
    if not strides:
        raise ValueError(f"targets fit no common stride; sides of images and targets: {cells}")
    return strides[0] if cells else 4


def _pad(planes: Tensor, height: int, width: int, *, value: int) -> Tensor:
    missing = (0, width - planes.shape[-1], 0, height - planes.shape[-2])
    return F.pad(planes, missing, value=value)


def check_views(*, weak_bn: str, pad: str, strong_tasks: Collection[str]) -> None:
    """Refuse what is no way to treat the two views."""
    check_choice("MODEL.YOLOR.WEAK_BN", weak_bn, WEAK_BN)
    check_choice("MODEL.YOLOR.PAD", pad, MODES)
    if weak_bn == "frozen" and not strong_tasks:
        raise ValueError(
            "MODEL.YOLOR.WEAK_BN is frozen, but INPUT.WEAK_VIEW_TASKS has all tasks: nothing "
            "would ever move the statistics of batch norms"
        )


def check_pixels(mean: Sequence[float], deviation: Sequence[float]) -> None:
    """Refuse what images cannot be normalised by."""
    if len(mean) != len(deviation) or not all(deviation):
        raise ValueError(
            f"MODEL.PIXEL_MEAN is {list(mean)} and MODEL.PIXEL_STD is {list(deviation)}; they need "
            "a number for each channel, and deviations are not 0"
        )
