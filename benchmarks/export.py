"""Exported networks, compared with PyTorch: forward pass, parts of whole images, size, metrics."""

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.data import Metadata
from detectron2.modeling import build_model

from yolor_d2.data.catalog.records import read_records
from yolor_d2.data.catalog.registered import require_registered
from yolor_d2.engine.network_evaluation import evaluate_images
from yolor_d2.export.bundle import Form, calibration_feeds, convert, export, load_runner
from yolor_d2.export.evaluation import (
    ExportedModel,
    NetworkModel,
    PixelMapper,
    TimedModel,
    metrics_of,
    tasks_of,
)
from yolor_d2.export.graphs import SUFFIXES, VISION, open_graph, parts_of, random_inputs
from yolor_d2.inference.loading import Network, load_network
from yolor_d2.inference.yaml_recipe import YamlRecipe
from yolor_d2.model_zoo import get_config_file, load_config
from yolor_d2.modeling.deploy import deploy, to_channels_last

from .model import DEFAULT_CONFIG
from .model_setting import (
    Aim,
    Result,
    Row,
    Table,
    calibrate,
    cpu_threads,
    speedup,
    time_in_turns,
    time_rows,
)
from .options import add_repeats, add_threads
from .printing import print_result
from .timing import Clock, Job

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
PICTURES = 10  # of the data set, in each repeat
INT8_SPEEDUP, INT8_LOSS = 2.5, 0.5  # aims: over PyTorch, and in box AP


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
        "--forms", nargs="+", choices=list(FORMS), default=[*FORMS], help="exports (all)"
    )
    parser.add_argument(
        "--data",
        metavar="NAME",
        help="registered data set for metrics (default: random images, no metrics)",
    )
    parser.add_argument(
        "--calibrate", metavar="NAME", help="registered data set for int8 (default: that of --data)"
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
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="measure CPU time instead of wall time, for busy machines and --threads 1",
    )
    add_repeats(parser)
    add_threads(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure, print, and return the content of the --json file."""
    try:
        for name in args.forms:
            FORMS[name].check()
        require_registered([name for name in (args.data, args.calibrate) if name])
        with cpu_threads(args.threads), tempfile.TemporaryDirectory() as folder:
            result = measure(args, Path(folder))
    except (ValueError, OSError) as error:
        raise SystemExit(f"benchmark export: {error}") from None
    print_result(result)
    keys = ["weights", "config_file", "forms", "data", "calibrate", "size", "batch", "repeats"]
    settings = {key: getattr(args, key) for key in (*keys, "threads", "cpu_time")}
    return {"settings": settings, **result.as_json()}


@torch.no_grad()
def measure(args: argparse.Namespace, folder: Path) -> Result:
    """Export a network into a folder and time it."""
    network = _network(args)
    model = network.model
    if model.mask_head is not None:
        model.mask_head.mask_format = "dense"  # as in the runner
    clock = time.process_time if args.cpu_time else time.perf_counter
    folders = _exported(network, args, folder)
    tables, aims = _forward_passes(network, folders, args, clock)
    models: dict[str, TimedModel] = {NHWC: NetworkModel(network, clock=clock)}
    for name, path in folders.items():
        runner = load_runner().Runner(path, threads=args.threads, clock=clock)
        models[name] = ExportedModel(runner)
    rows = _whole_images(models, _pictures(network, args.data), args.repeats)
    parameters = sum(each.nbytes for each in model.state_dict().values())
    sizes = {NHWC: parameters} | {name: _bytes_of(path) for name, path in folders.items()}
    rows = {name: {"MB": sizes[name] / 1e6, **row} for name, row in rows.items()}
    if args.data:
        for name, timed in models.items():
            rows[name] |= _metrics(timed, args.data, tasks_of(runner.facts))
        aims += _accuracy_aims(rows)
    return Result([*tables, Table("whole images", rows)], aims)


def _forward_passes(
    network: Network, folders: Mapping[str, Path], args: argparse.Namespace, clock: Clock
) -> tuple[list[Table], list[Aim]]:
    """Time the network without post-processing and captions."""
    model = network.model
    fastest = to_channels_last(deploy(model))
    part = parts_of(model)[VISION]
    graphs = {
        name: open_graph(
            path / f"{VISION}{SUFFIXES[FORMS[name].format]}", part, threads=args.threads
        )
        for name, path in folders.items()
        if not FORMS[name].end_to_end
    }
    tables, aims = [], []
    for size in args.size:
        for batch in args.batch:
            inputs = random_inputs(model, batch=batch, height=size, width=size)
            arguments = tuple(inputs.values())
            jobs: dict[str, Job] = {
                NHWC: partial(fastest.raw_outputs, *arguments),
                NCHW: partial(part.module, *arguments),
                **{name: partial(graph, *arguments) for name, graph in graphs.items()},
            }
            times = time_in_turns(
                jobs, repeats=args.repeats, device=torch.device("cpu"), clock=clock
            )
            table = Table(f"forward, {batch} x {size} x {size}", time_rows(times, base=NHWC))
            tables.append(table)
            for name, row in table.rows.items():
                if name in FORMS and FORMS[name].precision == "int8":
                    text = f"{name} at least {INT8_SPEEDUP} times as fast as {NHWC}, {table.title}"
                    value = row["times as fast"]
                    aims.append(Aim(text, value, value >= INT8_SPEEDUP))
    return tables, aims


def _accuracy_aims(rows: Mapping[str, Row]) -> list[Aim]:
    if "box AP" not in rows[NHWC]:
        return []
    losses = {
        name: rows[NHWC]["box AP"] - row["box AP"]
        for name, row in rows.items()
        if name in FORMS and FORMS[name].precision == "int8"
    }
    return [
        Aim(f"{name} loses at most {INT8_LOSS} box AP", loss, loss <= INT8_LOSS)
        for name, loss in losses.items()
    ]


def _bytes_of(folder: Path) -> int:
    """Size of all graphs."""
    suffixes = (".onnx", ".data", ".xml", ".bin")
    return sum(path.stat().st_size for path in folder.iterdir() if path.suffix in suffixes)


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
            if data := args.calibrate or args.data:
                feeds = calibration_feeds(network, data)
        convert(folders[name], FORMS[name], feeds)
    return folders


def _metrics(model: TimedModel, data: str, tasks: Sequence[str]) -> Row:
    """Evaluate a model on a data set."""
    with tempfile.TemporaryDirectory() as output:
        results = evaluate_images(
            model,
            data,
            tasks=tasks,
            mapper=PixelMapper(),
            output_dir=output,
            settings={"meteor": False},
        )
    return metrics_of(results)


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


def _pictures(network: Network, data: str | None) -> list[np.ndarray]:
    """Images of the data set, or a random one."""
    if data:
        read = PixelMapper()
        return [read(record)["pixels"] for record in read_records(data)[:PICTURES]]
    size = network.recipe.test_size
    image = random_inputs(network.model, batch=1, height=size * 3 // 4, width=size)["images"][0]
    return [np.ascontiguousarray(image.permute(1, 2, 0).numpy())]


def _whole_images(
    models: Mapping[str, TimedModel], pictures: Sequence[np.ndarray], repeats: int
) -> dict[str, Row]:
    """Medians of the parts of a prediction, and the speedup of the graph.

    Models take turns, so that other load affects all of them equally.
    """
    turns: dict[str, list[Row]] = {name: [] for name in models}
    for model in models.values():
        model.predict(pictures[0])  # to warm up
    for _ in range(repeats):
        for name, model in models.items():
            model.seconds.clear()
            model.images = 0
            model([{"pixels": pixels} for pixels in pictures])
            turns[name].append(model.milliseconds())
    base = [row["graph"] for row in turns[NHWC]]
    return {
        name: {
            **{column: statistics.median(row[column] for row in rows) for column in rows[0]},
            "times as fast": speedup(base, [row["graph"] for row in rows]),
        }
        for name, rows in turns.items()
    }
