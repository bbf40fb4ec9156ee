"""Networks to compare with: of other packages, and of other configurations of ours.

Of other packages they segment instances, and only public interfaces are used. Networks are
untrained and detect no objects; no weights are downloaded.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch
from detectron2.modeling import build_model
from torch import Tensor, nn

from yolor_d2.model_zoo import load_config
from yolor_d2.modeling.deploy import deploy, to_channels_last

from . import data_peer
from .model_setting import calibrate, million_parameters, random_images
from .timing import Job

CONFIGURATION = ".yaml"
PANOPTIC_FPN = "COCO-PanopticSegmentation/panoptic_fpn_R_50_3x.yaml"


class Peer(NamedTuple):
    """A network to compare with."""

    million_parameters: float
    make_job: Callable[[Tensor], Job]  # images are (N, 3, H, W) in 0..255


def build_peers(
    names: list[str], *, size: int, device: torch.device, work: Path
) -> dict[str, Peer]:
    """Build networks; print a line for each package that is not installed.

    Args:
        names: packages, "torchvision", "detectron2" or "ultralytics", and configurations of ours,
            such as "COCO/gelan_c_pan.yaml".
        size: side of the images in pixels.
        device: device of the networks.
        work: folder for settings of the packages.
    """
    peers = {}
    for name in names:
        if name.endswith(CONFIGURATION):
            peers[f"{name}, fused, channels_last"] = _configuration(name, size, device)
            continue
        if find_spec(name) is None:
            print(
                f"{name} is not installed and is skipped (see "
                "docs/internals/performance.md, or pass --peers none)",
                file=sys.stderr,
            )
            continue
        label, peer = BUILDERS[name](size, device, work)
        peers[label] = peer
    return peers


def _configuration(name: str, size: int, device: torch.device) -> Peer:
    """Another network of ours, without its caption head."""
    cfg = load_config(name, ["MODEL.DEVICE", str(device)])
    model = build_model(cfg).eval()
    model.caption_head = None
    calibrate(model, lambda: model.raw_outputs(random_images(1, size, size, device)))
    fastest = to_channels_last(deploy(model))

    def make_job(images: Tensor) -> Job:
        channels_last = images.contiguous(memory_format=torch.channels_last)
        return lambda: fastest.raw_outputs(channels_last)

    return Peer(million_parameters(model), make_job)


def _torchvision(size: int, device: torch.device, _: Path) -> tuple[str, Peer]:
    """The complete model, including region proposals and non-maximum suppression."""
    from torchvision.models.detection import maskrcnn_resnet50_fpn

    model = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, min_size=size, max_size=size)
    model = model.to(device).eval()
    calibrate(model.backbone, lambda: model.backbone(random_images(1, size, size, device) / 255))

    def make_job(images: Tensor) -> Job:
        scaled = list(images / 255)
        return lambda: model(scaled)

    version = import_module("torchvision").__version__
    return f"torchvision {version}: Mask R-CNN R50-FPN", Peer(million_parameters(model), make_job)


def _detectron2(size: int, device: torch.device, _: Path) -> tuple[str, Peer]:
    """The complete model, including region proposals, non-maximum suppression and merging."""
    from detectron2 import __version__, model_zoo

    cfg = model_zoo.get_config(PANOPTIC_FPN)
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.DEVICE = str(device)
    model = build_model(cfg).eval()

    def make_job(images: Tensor) -> Job:
        samples = [{"image": image, "height": size, "width": size} for image in images]
        return lambda: model(samples)

    return f"detectron2 {__version__}: Panoptic FPN R50", Peer(million_parameters(model), make_job)


def _ultralytics(size: int, device: torch.device, work: Path) -> tuple[str, Peer]:
    """The fused network with box decoding, without non-maximum suppression."""
    version = data_peer.prepare(work / "ultralytics")
    from ultralytics import YOLO

    model = YOLO("yolov8l-seg.yaml")
    network: nn.Module = model.model.to(device)
    network.eval()
    calibrate(network, lambda: network(random_images(1, size, size, device) / 255))
    count = million_parameters(network)
    model.fuse()

    def make_job(images: Tensor) -> Job:
        scaled = images / 255
        return lambda: network(scaled)

    return f"ultralytics {version}: yolov8l-seg, fused", Peer(count, make_job)


BUILDERS: dict[str, Callable[[int, torch.device, Path], tuple[str, Peer]]] = {
    "torchvision": _torchvision,
    "detectron2": _detectron2,
    "ultralytics": _ultralytics,
}
