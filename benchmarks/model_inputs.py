"""Synthetic samples and network outputs that take as much time as real ones."""

from typing import Any

import torch
import torch.nn.functional as F
from detectron2.structures import BitMasks, Boxes, Instances
from torch import Tensor

from yolor_d2.modeling.classes import number_of_classes
from yolor_d2.modeling.heads import MaskPredictions, PointPredictions
from yolor_d2.modeling.results import RawOutputs

from .model_setting import Setting, random_images

# COCO has 7.3 objects per image. At 640 pixels, 41 % of them are smaller than 32 x 32 and a quarter
# are larger than 96 x 96. This log-normal distribution of sqrt(area) has the same fractions.
OBJECTS = 7
MEDIAN_SIDE, SPREAD = 40 / 640, 1.1
TARGET_STRIDE = 4
CAPTION_WORDS = 11

FOUND_OBJECTS = 40  # objects in synthetic outputs
POINTS_PER_OBJECT = 60  # points that predict the same object
CONFUSED_CLASSES = 3


def training_samples(setting: Setting, batch: int) -> list[dict[str, Any]]:
    """Samples as from the mapper, with both views and all targets of the network's tasks."""
    rng = torch.Generator().manual_seed(0)
    size = setting.size
    model = setting.model
    samples = []
    for image in random_images(batch, size, size, torch.device("cpu")).to(torch.uint8):
        sample: dict[str, Any] = {"image": image, "weak_image": image.flip(2)}
        if model.detection_head is not None:
            classes = number_of_classes(setting.cfg, "DETECTION_HEAD", "thing_classes")
            sample["instances"] = _objects(size, classes, rng)
        if model.semantic_head is not None:
            classes = number_of_classes(setting.cfg, "SEM_SEG_HEAD", "stuff_classes")
            rough = torch.randint(classes, (1, 1, 8, 8), generator=rng).float()
            cells = size // TARGET_STRIDE
            sample["sem_seg"] = F.interpolate(rough, size=(cells, cells))[0, 0].long()
        if model.caption_head is not None:
            pad, begin, end, usable = model.caption_head.vocabulary
            words = torch.randint(max(pad, begin, end) + 1, usable, (CAPTION_WORDS,), generator=rng)
            sample["caption_ids"] = torch.tensor([begin, *words.tolist(), end])
        sample["mask_stride"] = sample["sem_seg_stride"] = TARGET_STRIDE
        for key in ("instances", "sem_seg", "mask_stride", "sem_seg_stride"):
            if key in sample:
                sample[f"weak_{key}"] = sample[key]  # for tasks that use the weak view
        samples.append(sample)
    return samples


def _objects(size: int, num_classes: int, rng: torch.Generator) -> Instances:
    """Random ellipses with the size distribution of COCO."""
    scale = torch.randn(OBJECTS, generator=rng).mul(SPREAD).exp() * MEDIAN_SIDE * size
    stretch = torch.randn(OBJECTS, 1, generator=rng).mul(0.4).exp()
    sides = torch.cat([scale[:, None] * stretch, scale[:, None] / stretch], dim=1)
    sides = sides.clamp(2, 0.95 * size)  # (G, 2)
    first = torch.rand(OBJECTS, 2, generator=rng) * (size - sides)
    centers = (first + sides / 2)[:, :, None]  # (G, 2, 1)
    cells = torch.arange(size // TARGET_STRIDE) * TARGET_STRIDE
    x, y = ((cells - centers) / sides[:, :, None] * 2).square().unbind(dim=1)  # (G, cells) each
    instances = Instances((size, size))
    instances.gt_boxes = Boxes(torch.cat([first, first + sides], dim=1))
    instances.gt_classes = torch.randint(num_classes, (OBJECTS,), generator=rng)
    instances.gt_masks = BitMasks(y[:, :, None] + x[:, None, :] <= 1)
    return instances


def trained_outputs(raw: RawOutputs) -> RawOutputs:
    """Outputs as from a trained network, with the shapes of an untrained network's outputs.

    They contain thousands of boxes with scores above 0.001, many of them on the same objects, and
    smooth masks and maps.
    """
    rng = torch.Generator().manual_seed(0)
    points, masks, semantic = raw.detection, raw.mask, raw.semantic
    assert points is not None
    assert masks is not None
    assert semantic is not None
    device = semantic.device
    smooth = _smooth(masks.prototypes, rng)
    return RawOutputs(
        detection=_clustered_points(points, rng),
        mask=MaskPredictions(
            coefficients=torch.randn(masks.coefficients.shape, generator=rng).to(device),
            prototypes=F.silu(smooth),
        ),
        semantic=3 * _smooth(semantic, rng),
        caption=None,
    )


def _clustered_points(points: PointPredictions, rng: torch.Generator) -> PointPredictions:
    """Predictions of each object by the points near its center, with uncertain classes."""
    num_images, _, num_classes = points.logits.shape
    places, strides = points.points.cpu(), points.strides.cpu()
    reach = points.bins.shape[2] // 4
    logits = torch.randn(points.logits.shape, generator=rng) - 10  # (N, A, C)
    distances = torch.rand((*points.logits.shape[:2], 4), generator=rng) * reach  # (N, A, 4) cells
    width, height = (places[-1] + strides[-1] / 2).tolist()
    canvas = torch.tensor([width, height])
    for image in range(num_images):
        for _ in range(FOUND_OBJECTS):
            half = torch.randn(1, generator=rng).mul(SPREAD).exp() * MEDIAN_SIDE * width / 2
            center = torch.rand(2, generator=rng) * canvas
            near = (places - center).abs().amax(dim=1) + (half / strides - 4).abs() * strides
            chosen = near.topk(min(POINTS_PER_OBJECT, len(near)), largest=False).indices
            first, last = center - half, center + half
            sides = torch.cat([places[chosen] - first, last - places[chosen]], dim=1)
            noise = torch.randn(sides.shape, generator=rng) * 0.5
            distances[image, chosen] = sides / strides[chosen, None] + noise
            classes = torch.randint(num_classes, (1 + CONFUSED_CLASSES,), generator=rng)
            level = torch.tensor([0.0, *[-4.0] * CONFUSED_CLASSES])
            noise = torch.randn(len(chosen), len(classes), generator=rng) * 1.5
            logits[image, chosen[:, None], classes] = level - 1 + noise
    wanted = distances.clamp(0, reach - 1.01)[..., None]  # (N, A, 4, 1)
    bins = -2 * (torch.arange(reach) - wanted).square()  # (N, A, 4, R)
    device = points.logits.device
    return points._replace(logits=logits.to(device), bins=bins.flatten(2).to(device))


def _smooth(like: Tensor, rng: torch.Generator) -> Tensor:
    rough = torch.randn(*like.shape[:2], 8, 8, generator=rng)
    smooth = F.interpolate(rough, size=like.shape[2:], mode="bicubic", align_corners=False)
    return smooth.to(like.device)
