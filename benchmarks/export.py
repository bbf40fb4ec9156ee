"""Exported networks, compared with PyTorch: forward pass, whole images and, with data, metrics."""

import argparse
import json
import shutil
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.data import Metadata
from detectron2.modeling import build_model

from yolor_d2.data.catalog.registered import require_registered
from yolor_d2.data.views.transforms import resize_long_side, to_planes
from yolor_d2.engine.network_evaluation import evaluate_images
from yolor_d2.export.bundle import Form, calibration_feeds, convert, export, load_runner
from yolor_d2.export.evaluation import (
    ExportedModel,
    NetworkModel,
    PixelMapper,
    TimedModel,
    row_of,
    tasks_of,
)
from yolor_d2.export.graphs import SUFFIXES, VISION, open_graph, parts_of, random_inputs
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

NCHW, NHWC, ONNX = "PyTorch", "PyTorch, channels_last", "onnxruntime"
FORMS = {
    ONNX: Form(),
    "onnxruntime, fp16": Form(precision="fp16"),
    "onnxruntime, int8": Form(precision="int8"),
    "onnxruntime, end to end": Form(end_to_end=True),
    "OpenVINO": Form("openvino"),
    "OpenVINO, int8": Form("openvino", "int8"),
    "OpenVINO, int8, end to end": Form("openvino", "int8", end_to_end=True),
}


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
        "--forms", nargs="+", choices=list(FORMS), default=[ONNX], help=f"exports ({ONNX})"
    )
    parser.add_argument(
        "--data",
        metavar="NAME",
        help="registered data set for int8 and for metrics (default: random images, no metrics)",
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
        for name in args.forms:
            FORMS[name].check()
        require_registered([args.data] if args.data else [])
        with cpu_threads(args.threads), tempfile.TemporaryDirectory() as folder:
            result = measure(args, Path(folder))
    except (ValueError, OSError) as error:
        raise SystemExit(f"benchmark export: {error}") from None
    print_result(result)
    keys = ("weights", "config_file", "forms", "data", "size", "batch", "repeats", "threads")
    return {"settings": {key: getattr(args, key) for key in keys}, **result.as_json()}


@torch.no_grad()
def measure(args: argparse.Namespace, folder: Path) -> Result:
    """Export a network into a folder and time it."""
    network = _network(args)
    model = network.model
    if model.mask_head is not None:
        model.mask_head.mask_format = "dense"  # as in the runner
    folders = _exported(network, args, folder)
    tables = []
    fastest = to_channels_last(deploy(model))
    part = parts_of(model)[VISION]
    graphs = {
        name: open_graph(
            path / f"{VISION}{SUFFIXES[FORMS[name].format]}", part, threads=args.threads
        )
        for name, path in folders.items()
        if not FORMS[name].end_to_end
    }
    for size in args.size:
        for batch in args.batch:
            inputs = random_inputs(model, batch=batch, height=size, width=size)
            arguments = tuple(inputs.values())
            jobs: dict[str, Job] = {
                NHWC: partial(fastest.raw_outputs, *arguments),
                NCHW: partial(part.module, *arguments),
                **{name: partial(graph, *arguments) for name, graph in graphs.items()},
            }
            tables.append(_timed(f"forward, {batch} x {size} x {size}", jobs, args.repeats))
    tables.append(_whole_images(fastest, network.recipe, folders, args))
    if args.data:
        tables.append(_metrics(network, folders, args))
    return Result(tables, [])


def _exported(network: Network, args: argparse.Namespace, folder: Path) -> dict[str, Path]:
    """Export a network in each form; returns the folders."""
    first = folder / "fp32"
    first.mkdir()
    export(network, weights=args.weights or "", folder=first, sizes=[])
    folders = {}
    for number, name in enumerate(args.forms):
        folders[name] = shutil.copytree(first, folder / str(number))
        feeds: Any = ()
        if FORMS[name].precision == "int8":
            size = args.size[0]
            random = random_inputs(network.model, batch=1, height=size, width=size)
            feeds = [{key: value.numpy() for key, value in random.items()}]
            if args.data:
                feeds = calibration_feeds(network, args.data)
        convert(folders[name], FORMS[name], feeds)
    return folders


def _metrics(network: Network, folders: Mapping[str, Path], args: argparse.Namespace) -> Table:
    """Evaluate PyTorch and the exported files on a data set, with the times of the same runs."""
    rows = {}
    models: dict[str, TimedModel] = {NHWC: NetworkModel(network)}
    for name, path in folders.items():
        models[name] = ExportedModel(load_runner().Runner(path, threads=args.threads))
    facts = json.loads((next(iter(folders.values())) / "model.json").read_text("utf-8"))
    for name, model in models.items():
        with tempfile.TemporaryDirectory() as output:
            results = evaluate_images(
                model,
                args.data,
                tasks=tasks_of(facts),
                mapper=PixelMapper(),
                output_dir=output,
                settings={"meteor": False},
            )
        rows[name] = row_of(results, model)
    return Table(args.data, rows)


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


def _whole_images(
    model: YOLOR, recipe: Recipe, folders: Mapping[str, Path], args: argparse.Namespace
) -> Table:
    """Time everything from an image to its boxes, masks, maps and caption."""
    runners = {
        name: load_runner().Runner(path, threads=args.threads) for name, path in folders.items()
    }
    size = recipe.test_size
    image = random_inputs(model, batch=1, height=size * 3 // 4, width=size)["images"][0]
    pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())

    def eager() -> None:
        resized = torch.from_numpy(to_planes(resize_long_side(pixels, size)))
        height, width = pixels.shape[:2]
        model([{"image": resized, "height": height, "width": width}])

    found = model([{"image": image, "height": image.shape[1], "width": image.shape[2]}])[0]
    objects = len(found["instances"]) if "instances" in found else 0
    head = model.caption_head
    beams = head.decoding.beam_size if head is not None else 0
    title = f"an image of {size} x {size * 3 // 4}, {objects} objects, {beams} beams"
    jobs: dict[str, Job] = {
        f"runner.py, {name}": partial(runner, pixels) for name, runner in runners.items()
    }
    return _timed(title, {NHWC: eager, **jobs}, args.repeats)


def _timed(title: str, jobs: dict[str, Job], repeats: int) -> Table:
    times = time_in_turns(jobs, repeats=repeats, device=torch.device("cpu"))
    return Table(title, time_rows(times, base=next(iter(jobs))))
