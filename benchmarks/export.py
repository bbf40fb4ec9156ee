"""Exported networks in onnxruntime, compared with PyTorch: forward pass and whole images."""

import argparse
import json
import tempfile
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from detectron2.data import Metadata
from detectron2.modeling import build_model

from yolor_d2.data.views.transforms import resize_long_side, to_planes
from yolor_d2.export.bundle import check_installed, export, load_runner
from yolor_d2.export.graphs import VISION, open_graph, parts_of, random_inputs
from yolor_d2.inference.loading import Network, Recipe, load_network
from yolor_d2.inference.yaml_recipe import YamlRecipe
from yolor_d2.model_zoo import get_config_file, load_config
from yolor_d2.modeling.deploy import deploy, to_channels_last
from yolor_d2.modeling.meta_arch import YOLOR

from .model import DEFAULT_CONFIG
from .model_setting import Result, Table, calibrate, cpu_threads, time_in_turns, time_rows
from .options import add_repeats, add_threads
from .printing import print_result
from .timing import Job

NCHW, NHWC, ONNX = "eager, fused", "eager, fused, channels_last", "onnxruntime"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument(
        "--weights", metavar="FILE", help="checkpoint (default: an untrained network)"
    )
    parser.add_argument(
        "--config-file",
        metavar="FILE",
        help=f"configuration of an untrained network ({DEFAULT_CONFIG})",
    )
    parser.add_argument(
        "--size",
        type=int,
        nargs="+",
        default=[640, 320],
        help="sides of the square images in pixels (640 320)",
    )
    parser.add_argument(
        "--batch", type=int, nargs="+", default=[1], metavar="N", help="images per batch (1)"
    )
    add_repeats(parser)
    add_threads(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure, print, and return the content of the --json file."""
    try:
        check_installed("onnx")
        with cpu_threads(args.threads), tempfile.TemporaryDirectory() as folder:
            result = measure(args, Path(folder))
    except (ValueError, OSError) as error:
        raise SystemExit(f"benchmark export: {error}") from None
    print_result(result)
    keys = ("weights", "config_file", "size", "batch", "repeats", "threads")
    return {"settings": {key: getattr(args, key) for key in keys}, **result.as_json()}


@torch.no_grad()
def measure(args: argparse.Namespace, folder: Path) -> Result:
    """Export a network into a folder and time it."""
    network = _network(args)
    model = network.model
    if model.mask_head is not None:
        model.mask_head.mask_format = "dense"  # as in the runner
    export(network, weights=args.weights or "", folder=folder, kind="onnx", sizes=[])
    tables = []
    fastest = to_channels_last(deploy(model))
    part = parts_of(model)[VISION]
    graph = open_graph(folder / "vision.onnx", part, threads=args.threads)
    for size in args.size:
        for batch in args.batch:
            inputs = random_inputs(model, batch=batch, height=size, width=size)
            arguments = tuple(inputs.values())
            jobs: dict[str, Job] = {
                NCHW: partial(part.module, *arguments),
                NHWC: partial(fastest.raw_outputs, *arguments),
                ONNX: partial(graph, *arguments),
            }
            tables.append(_timed(f"forward, {batch} x {size} x {size}", jobs, args.repeats))
    return Result([*tables, _whole_images(fastest, network.recipe, folder, args)], [])


def _network(args: argparse.Namespace) -> Network:
    """Load a trained network, or build a calibrated untrained one."""
    if args.weights:
        weights = args.weights if args.config_file else None
        return load_network(args.config_file or args.weights, weights=weights, device="cpu")
    cfg = load_config(args.config_file or get_config_file(DEFAULT_CONFIG))
    recipe = YamlRecipe(cfg, device="cpu")
    torch.manual_seed(0)
    model = build_model(cfg)
    images = random_inputs(model, batch=1, height=320, width=320)["images"]
    calibrate(model, lambda: model.raw_outputs(images))
    return Network(deploy(model), tuple(recipe.tasks), recipe, Metadata())


def _whole_images(model: YOLOR, recipe: Recipe, folder: Path, args: argparse.Namespace) -> Table:
    """Time everything from an image to its boxes, masks, maps and caption."""
    runner_module: ModuleType = load_runner(folder)
    facts = json.loads((folder / "model.json").read_text("utf-8"))
    runner = runner_module.Runner(folder, threads=args.threads)
    size = recipe.test_size
    image = random_inputs(model, batch=1, height=size * 3 // 4, width=size)["images"][0]
    pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())

    def eager() -> None:
        resized = torch.from_numpy(to_planes(resize_long_side(pixels, size)))
        height, width = pixels.shape[:2]
        model([{"image": resized, "height": height, "width": width}])

    found = model([{"image": image, "height": image.shape[1], "width": image.shape[2]}])[0]
    objects = len(found["instances"]) if "instances" in found else 0
    beams = facts.get("caption", {}).get("beam_size", 0)
    title = f"an image of {size} x {size * 3 // 4}, {objects} objects, {beams} beams"
    return _timed(title, {NHWC: eager, "runner.py": lambda: runner(pixels)}, args.repeats)


def _timed(title: str, jobs: dict[str, Job], repeats: int) -> Table:
    times = time_in_turns(jobs, repeats=repeats, device=torch.device("cpu"))
    return Table(title, time_rows(times, base=next(iter(jobs))))
