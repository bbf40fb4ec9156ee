"""Other people's networks for instance segmentation, by their public interfaces alone.

None is trained, and none is loaded from anywhere: what is measured does not depend on weights but
for the number of objects that are found, which is 0.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from . import data_peer as benchmark_peer
from .model_setting import calibrate, million_parameters, random_images
from .timing import Job

PANOPTIC_FPN = "COCO-PanopticSegmentation/panoptic_fpn_R_50_3x.yaml"


class Rival(NamedTuple):
    """A network that is ready to run."""

    million_parameters: float
    make_job: Callable[[Tensor], Job]  # of images (N, 3, H, W) in 0..255


def build_rivals(
    names: list[str], *, size: int, device: torch.device, work: Path
) -> dict[str, Rival]:
    """Those of the named ones that are installed; of the others a line says how.

    Args:
        names: "torchvision", "detectron2", "ultralytics".
        size: side of the images.
        device: where they run.
        work: a folder for their settings.
    """
    rivals = {}
    for name in names:
        if find_spec(name) is None:
            print(
                f"{name} is not here, so it is left out (docs/performance.md tells how to get it; "
                "--rivals none asks for none)",
                file=sys.stderr,
            )
            continue
        label, rival = BUILDERS[name](size, device, work)
        rivals[label] = rival
    return rivals


def _torchvision(size: int, device: torch.device, _: Path) -> tuple[str, Rival]:
    """The whole model, region proposals and their suppression included."""
    from torchvision.models.detection import maskrcnn_resnet50_fpn

    model = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, min_size=size, max_size=size)
    model = model.to(device).eval()
    calibrate(model.backbone, lambda: model.backbone(random_images(1, size, size, device) / 255))

    def make_job(images: Tensor) -> Job:
        pictures = list(images / 255)
        return lambda: model(pictures)

    version = import_module("torchvision").__version__
    return f"torchvision {version}: Mask R-CNN R50-FPN", Rival(million_parameters(model), make_job)


def _detectron2(size: int, device: torch.device, _: Path) -> tuple[str, Rival]:
    """The whole model, region proposals, their suppression, and merging included."""
    from detectron2 import __version__, model_zoo
    from detectron2.modeling import build_model

    cfg = model_zoo.get_config(PANOPTIC_FPN)
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.DEVICE = str(device)
    model = build_model(cfg).eval()

    def make_job(images: Tensor) -> Job:
        samples = [{"image": image, "height": size, "width": size} for image in images]
        return lambda: model(samples)

    return f"detectron2 {__version__}: Panoptic FPN R50", Rival(million_parameters(model), make_job)


def _ultralytics(size: int, device: torch.device, work: Path) -> tuple[str, Rival]:
    """The fused network and the decoding of its boxes, without their suppression."""
    version = benchmark_peer.prepare(work / "ultralytics")
    from ultralytics import YOLO

    model = YOLO("yolov8l-seg.yaml")
    network: nn.Module = model.model.to(device)
    network.eval()
    calibrate(network, lambda: network(random_images(1, size, size, device) / 255))
    count = million_parameters(network)
    model.fuse()

    def make_job(images: Tensor) -> Job:
        pictures = images / 255
        return lambda: network(pictures)

    return f"ultralytics {version}: yolov8l-seg, fused", Rival(count, make_job)


BUILDERS: dict[str, Callable[[int, torch.device, Path], tuple[str, Rival]]] = {
    "torchvision": _torchvision,
    "detectron2": _detectron2,
    "ultralytics": _ultralytics,
}
