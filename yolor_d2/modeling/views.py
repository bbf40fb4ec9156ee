"""A view of a batch: its images on one canvas, and the targets of the tasks that train on it.

Images are padded at the right and at the bottom, so coordinates of targets stay as they are.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from detectron2.structures import BitMasks, Instances, PolygonMasks
from torch import Tensor

from ..checks import check_choice, check_range
from ..errors import ConfigError, DataError
from ..letterbox import MODES, Content, pad_images
from .objects import CaptionTargets, GroundTruthMasks, Objects, TeacherOutputs

Sample = dict[str, Any]

STRONG, WEAK = "", "weak_"  # prefixes of a sample's keys
WEAK_BN = ("update", "frozen")
STRIDE_WITHOUT_TARGETS = 4  # such a batch has no loss, so the size of its targets is free


class ViewOptions(NamedTuple):
    """How samples become views.

    Attributes:
        weak_view_tasks: tasks that train on the weak view; all others train on the strong one.
        weak_bn: whether the weak view updates the running statistics of batch norms: "update" or
            "frozen".
        pad: where a test image lies on its canvas: "corner" or "center".
        test_divisor: divisor of the sides of a test image's canvas.
    """

    weak_view_tasks: Sequence[str] = ("caption",)
    weak_bn: str = "update"
    pad: str = "corner"
    test_divisor: int = 32

    def check(self, *, strong_tasks: Collection[str]) -> None:
        """Raise ValueError for invalid options of a network with these tasks on the strong view."""
        check_choice("MODEL.YOLOR.WEAK_BN", self.weak_bn, WEAK_BN)
        check_choice("MODEL.YOLOR.PAD", self.pad, MODES)
        check_range("MODEL.YOLOR", {"TEST_DIVISOR": self.test_divisor}, low=1)
        if self.weak_bn == "frozen" and not strong_tasks:
            raise ConfigError(
                "MODEL.YOLOR.WEAK_BN is frozen, but INPUT.WEAK_VIEW_TASKS has all tasks: the "
                "statistics of batch norms would never be updated"
            )


class View(NamedTuple):
    """N images, the tasks that train on them, and their targets; None where no task needs them."""

    tasks: frozenset[str]
    is_weak: bool
    images: Tensor  # (N, 3, H, W), 0..255, padded
    contents: list[Content]  # the rectangle of each image on the canvas
    objects: Objects | None
    objects_complete: bool  # whether every image has object annotations
    masks: GroundTruthMasks | None  # (G, H / stride, W / stride)
    labels: Tensor | None  # (N, H / stride, W / stride) int64 semantic labels
    captions: CaptionTargets | None
    teacher: TeacherOutputs = TeacherOutputs()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the canvas."""
        return self.images.shape[-2], self.images.shape[-1]


Teacher = Callable[[View], TeacherOutputs]


def make_view(
    batch: Sequence[Sample],
    *,
    prefix: str,
    tasks: frozenset[str],
    divisor: int,
    device: torch.device,
    ignore_value: int = 255,
    pad_id: int = 0,
) -> View:
    """Collect one view of a batch of samples.

    Args:
        batch: samples of a mapper. Missing targets contribute no loss.
        prefix: STRONG or WEAK.
        tasks: that train on this view.
        divisor: of the sides of the canvas.
        device: of all tensors.
        ignore_value: label of pixels without a semantic target.
        pad_id: token that captions are padded with.
    """
    key = f"{prefix}image"
    if any(key not in sample for sample in batch):
        raise ConfigError(
            f'a sample has no "{key}", needed by {", ".join(sorted(tasks))}: '
            "INPUT.WEAK_VIEW_TASKS differs from that of the data, or the mapper makes no such view"
        )
    images = [sample[key].to(device, non_blocking=True) for sample in batch]
    canvas, contents = pad_images(images, divisor=divisor)
    size = (canvas.shape[-2], canvas.shape[-1])
    instances = [sample.get(f"{prefix}instances") for sample in batch]
    objects = None
    if "detection" in tasks:
        labeled = [sample.get("labeled_classes") for sample in batch]
        objects = Objects.from_instances(instances, labeled=labeled, device=device)
    masks = collate_masks(batch, prefix, size=size, device=device) if "mask" in tasks else None
    labels = captions = None
    if "semantic" in tasks:
        labels = collate_labels(batch, prefix, size=size, ignore_value=ignore_value, device=device)
    if "caption" in tasks:
        captions = collate_captions(batch, pad_id=pad_id, device=device)
    return View(
        tasks=tasks,
        is_weak=prefix == WEAK,
        images=canvas,
        contents=contents,
        objects=objects,
        objects_complete=None not in instances,
        masks=masks,
        labels=labels,
        captions=captions,
    )


def view_instances(batch: Sequence[Sample], view: View) -> list[Instances | None]:
    """The samples' own annotations of a view; None for an image without annotations."""
    prefix = WEAK if view.is_weak else STRONG
    return [sample.get(f"{prefix}instances") for sample in batch]


def group_by_canvas(batch: Sequence[Sample], *, divisor: int) -> list[list[int]]:
    """Indices of the images that share a canvas size, whose sides are multiples of the divisor."""
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, sample in enumerate(batch):
        groups[tuple(-(-side // divisor) for side in sample["image"].shape[-2:])].append(index)
    return list(groups.values())


def collate_masks(
    batch: Sequence[Sample], prefix: str, *, size: tuple[int, int], device: torch.device
) -> GroundTruthMasks:
    """The masks of all objects of a view, on a canvas of this height and width."""
    instances: list[Instances | None] = [sample.get(f"{prefix}instances") for sample in batch]
    known = [item is not None and item.has("gt_masks") for item in instances]
    stride = _common_stride(batch, f"{prefix}mask_stride", known)
    height, width = (-(-side // stride) for side in size)
    masks = [torch.zeros(0, height, width, dtype=torch.bool)]
    for item, has_masks in zip(instances, known, strict=True):
        if item is not None and has_masks:
            bitmasks = _bitmasks(item)  # (g, h, w)
            _check_size(bitmasks, item.image_size, stride, f"{prefix}mask_stride")
            masks.append(_pad(bitmasks, height, width, value=0))
        elif item is not None:  # objects without masks keep their place
            masks.append(torch.zeros(len(item), height, width, dtype=torch.bool))
    return GroundTruthMasks(
        torch.cat(masks).to(device, non_blocking=True),  # (G, H / stride, W / stride)
        torch.tensor(known).to(device, non_blocking=True),
    )


def collate_labels(
    batch: Sequence[Sample],
    prefix: str,
    *,
    size: tuple[int, int],
    ignore_value: int,
    device: torch.device,
) -> Tensor:
    """The semantic labels of a view (N, H / stride, W / stride); missing ones are ignored."""
    maps: list[Tensor | None] = [sample.get(f"{prefix}sem_seg") for sample in batch]
    stride = _common_stride(batch, f"{prefix}sem_seg_stride", [m is not None for m in maps])
    height, width = (-(-side // stride) for side in size)
    padded = []
    for sample, labels in zip(batch, maps, strict=True):
        if labels is None:
            padded.append(torch.full((height, width), ignore_value))
            continue
        _check_size(labels, sample[f"{prefix}image"].shape, stride, f"{prefix}sem_seg_stride")
        padded.append(_pad(labels, height, width, value=ignore_value))
    return torch.stack(padded).to(device, non_blocking=True)


def collate_captions(
    batch: Sequence[Sample], *, pad_id: int, device: torch.device
) -> CaptionTargets:
    """The captions of a batch. K is the largest number of captions of an image."""
    present = [sample.get("caption_ids") for sample in batch]
    missing = torch.full((1, 2), pad_id, dtype=torch.int64)
    texts = [
        missing if item is None else torch.atleast_2d(torch.as_tensor(item)) for item in present
    ]
    number, length = (max(text.shape[side] for text in texts) for side in (0, 1))
    ids = torch.stack(
        [F.pad(t, (0, length - t.shape[1], 0, number - t.shape[0]), value=pad_id) for t in texts]
    )  # (N, K, T)
    known = torch.tensor([item is not None for item in present])
    return CaptionTargets(
        ids=ids.to(device, non_blocking=True),
        known=known.to(device, non_blocking=True),
        image_ids=[sample.get("image_id") for sample in batch],
    )


def _common_stride(batch: Sequence[Sample], key: str, known: Sequence[bool]) -> int:
    """Pixels of an image per pixel of its target, the same for all samples with targets."""
    strides = {
        sample.get(key, 1) for sample, has_target in zip(batch, known, strict=True) if has_target
    }
    if len(strides) > 1:
        raise DataError(f'samples of one batch have "{key}" of {sorted(strides)}')
    return strides.pop() if strides else STRIDE_WITHOUT_TARGETS


def _check_size(target: Tensor, image_size: Sequence[int], stride: int, key: str) -> None:
    """Refuse a target that does not have its image's size at the stride that the sample has."""
    expected = tuple(-(-side // stride) for side in image_size[-2:])
    if tuple(target.shape[-2:]) != expected:
        raise DataError(
            f"a target is {tuple(target.shape[-2:])}, which is not {expected}, the size of its "
            f'image at "{key}" {stride}: the mapper must provide the stride of its targets'
        )


def _bitmasks(instances: Instances) -> Tensor:
    masks = instances.gt_masks
    if isinstance(masks, PolygonMasks):
        masks = BitMasks.from_polygon_masks(masks, *instances.image_size)
    return masks.tensor if isinstance(masks, BitMasks) else masks  # (g, h, w)


def _pad(planes: Tensor, height: int, width: int, *, value: int) -> Tensor:
    missing = (0, width - planes.shape[-1], 0, height - planes.shape[-2])
    return F.pad(planes, missing, value=value)


def check_pixels(mean: Sequence[float], deviation: Sequence[float]) -> None:
    """Raise ValueError for means and deviations that cannot normalize images."""
    if len(mean) != len(deviation) or not all(deviation):
        raise ConfigError(
            f"MODEL.PIXEL_MEAN is {list(mean)} and MODEL.PIXEL_STD is {list(deviation)}; they need "
            "a number for each channel, and deviations are not 0"
        )
