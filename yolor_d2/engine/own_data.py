"""Chooses a configuration for labeled data and this machine."""

import math
import os
import statistics
import time
from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from ..config.merging import merge_overrides
from ..data import build_tokenizer, build_train_loader
from ..data.catalog.shared_classes import set_configured_classes
from ..data.formats.registration import NAMES, RegisteredData
from ..data.formats.source import TRAIN, VAL
from ..data.formats.summary import labeled_tasks
from ..errors import ConfigError, DataError, OptionError
from ..model_zoo import get_config
from ..modeling.deploy import best_device
from ..tasks import check_tasks
from .batch_size import CPU_BATCH, TrialStep, largest_batch, release_memory
from .optim.optimizer import build_optimizer
from .options import RunOptions

STRIDE = 32  # of canvas sides


class Size(NamedTuple):
    """A network size: factors of channels and layers, and the caption head's channels.

    `memory` is a rough estimate of the GB that an image of 640 pixels takes in training.
    """

    width: float
    depth: float
    caption_dim: int
    memory: float


SIZES = {
    "n": Size(0.25, 0.5, 128, 0.5),
    "s": Size(0.5, 0.5, 256, 1.0),
    "m": Size(0.75, 1.0, 512, 2.0),
    "l": Size(1.0, 1.0, 512, 3.0),
}
SMALLEST_CANVAS = 64
LARGEST_CANVAS = {"cpu": 320, "cuda": 640}
DEFAULT_SIZE = {"cpu": "n", "cuda": "s"}
LARGEST_BATCH = 64

SAMPLES = 30_000  # of a run, if neither epochs nor minutes are given
FEWEST_EPOCHS, MOST_EPOCHS = 30, 300
FEWEST_STEPS = 10

# What photos need, roughly, to learn from random weights; images are per class.
NEEDED_IMAGES, NEEDED_IMAGES_AT_MOST = 200, 5000
NEEDED_STEPS, NEEDED_EPOCHS = 2000, 10

MUON = {"OPTIMIZER": "MUON", "MOMENTUM": 0.95, "BASE_LR": 0.003}

TRIAL_STEPS = 3
TRAINING_SHARE = 0.8  # of the minutes; the rest is for starting and evaluating

LARGEST_CACHE = 1000  # MB


def choose_config(
    found: RegisteredData,
    *,
    output_dir: Path,
    tasks: Sequence[str] = (),
    size: str | None = None,
    network: CfgNode | None = None,
    batch: int | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    overrides: Sequence[str] = (),
) -> CfgNode:
    """Return a complete configuration.

    Args:
        found: the registered data.
        output_dir: of the run.
        tasks: to train; empty: all for which there are labels.
        size: a key of SIZES; None: "n" on a CPU, "s" on a GPU.
        network: configuration of the network to start from, instead of one of a size; its
            MODEL.WEIGHTS are the weights.
        batch: images per step; 0: the largest batch that fits into memory, found by trial steps;
            None: a rough estimate of it, on a CPU 8.
        epochs: passes over the training images; None: from minutes, or from the number of images.
        minutes: time of the run, from which the number of steps is estimated by a few trial steps.
        overrides: KEY, VALUE, ... of the configuration, which take precedence.
    """
    cfg = get_config("Base-YOLOR.yaml")
    cfg.DATASETS.DATA = str(found.source.path)
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (NAMES[TRAIN],), (NAMES[VAL],)
    cfg.OUTPUT_DIR = str(output_dir)
    device = best_device()
    if network is None:
        chosen = SIZES[size or DEFAULT_SIZE[device]]
        _set_size(cfg, chosen)
    else:
        chosen = SIZES["l"]  # for an estimate of memory that is enough
        cfg.MODEL, cfg.INPUT.FORMAT = network.MODEL.clone(), network.INPUT.FORMAT
    cfg.MODEL.DEVICE = device
    cfg.MODEL.YOLOR.TASKS = _choose_tasks(found, tasks)
    _set_classes(cfg, found)
    _set_input(cfg, found, chosen)
    _set_optimizer(cfg, overrides)
    number = len(found.data.parts[TRAIN])
    if batch is not None:
        _set_batch(cfg, batch or _largest_batch(cfg, number, overrides))
    _override(cfg, overrides)  # the number of steps follows from the batch
    steps = max(math.ceil((epochs or _default_epochs(number)) * number / images_per_step(cfg)), 1)
    _set_steps(cfg, steps, overrides)
    if minutes is not None:
        steps = int(minutes * 60 * TRAINING_SHARE / seconds_per_step(cfg))
        _set_steps(cfg, max(steps, FEWEST_STEPS), overrides)
    return cfg


def images_per_step(cfg: CfgNode) -> int:
    """Return the number of images whose gradients are in a step."""
    return cfg.SOLVER.IMS_PER_BATCH * cfg.SOLVER.ACCUM_STEPS


def describe_config(cfg: CfgNode, number: int) -> str:
    """Return a line about a run on a number of images."""
    epochs = cfg.SOLVER.MAX_ITER * images_per_step(cfg) / number
    return (
        f"{', '.join(cfg.MODEL.YOLOR.TASKS)} on {cfg.MODEL.DEVICE}: {cfg.SOLVER.MAX_ITER} steps of "
        f"{images_per_step(cfg)} images ({epochs:.0f} epochs), {cfg.INPUT.TEST_SIZE} pixels"
    )


def shortages(cfg: CfgNode, found: RegisteredData) -> list[str]:
    """Return a line if photos would need more than a run has; [] with weights to start from."""
    if cfg.MODEL.WEIGHTS:
        return []
    number = len(found.data.parts[TRAIN])
    tables = (found.data.things, found.data.sem_seg)
    classes = max([1, *(len(table) for table in tables if table is not None)])
    epochs = cfg.SOLVER.MAX_ITER * images_per_step(cfg) / number
    needed = (
        ("images", number, min(NEEDED_IMAGES * classes, NEEDED_IMAGES_AT_MOST)),
        ("steps", cfg.SOLVER.MAX_ITER, NEEDED_STEPS),
        ("epochs", int(epochs), NEEDED_EPOCHS),
    )
    short = [f"{few} of {enough:,} {what}" for what, few, enough in needed if few < enough]
    if not short:
        return []
    return [
        f"expect little of photos: {', '.join(short)} that random weights need, roughly; published "
        "weights need fewer: --weights FILE (docs/model_zoo.md)"
    ]


def seconds_per_step(cfg: CfgNode) -> float:
    """Return the time of a training step, with data, measured on this machine.

    One of several GPUs makes steps with its share of the images.
    """
    trial = cfg.clone()
    trial.SOLVER.IMS_PER_BATCH = max(cfg.SOLVER.IMS_PER_BATCH // _devices(cfg), 1)
    trial.SOLVER.ACCUM_STEPS = 1
    has_captions = "caption" in cfg.MODEL.YOLOR.TASKS
    loader = build_train_loader(trial, tokenizer=build_tokenizer(trial) if has_captions else None)
    options, optimizer = RunOptions.from_config(trial), partial(build_optimizer, trial)
    trial_step = TrialStep(build_model(trial), optimizer, options)
    start = 0.0
    for number, batch in enumerate(islice(loader, TRIAL_STEPS + 1)):
        if number == 1:  # the first step includes starting workers and choosing kernels
            start = time.perf_counter()
        trial_step.step(batch)
        if cfg.MODEL.DEVICE != "cpu":
            torch.cuda.synchronize()
    seconds = (time.perf_counter() - start) / TRIAL_STEPS
    del trial_step, loader
    release_memory()  # for the processes of the run
    return seconds * cfg.SOLVER.ACCUM_STEPS


def _choose_tasks(found: RegisteredData, tasks: Sequence[str]) -> list[str]:
    labeled = labeled_tasks(found.data.parts[TRAIN])
    if not labeled:
        raise DataError(f"{found.path}: the images for training have no objects, maps or captions")
    missing = [task for task in tasks if task not in labeled]
    if missing:
        raise OptionError(
            f"--tasks {missing[0]}: {found.path} has no such labels; it has {', '.join(labeled)}"
        )
    chosen = [task for task in labeled if not tasks or task in tasks]
    check_tasks(chosen, ())
    return chosen


def _set_size(cfg: CfgNode, size: Size) -> None:
    cfg.MODEL.YOLOR_ELAN.WIDTH, cfg.MODEL.YOLOR_ELAN.DEPTH = size.width, size.depth
    head = cfg.MODEL.CAPTION_HEAD
    head.DIM, head.FFN_DIM = size.caption_dim, 4 * size.caption_dim
    head.NUM_HEADS = size.caption_dim // 32


def _set_classes(cfg: CfgNode, found: RegisteredData) -> None:
    if found.data.things is not None:
        cfg.MODEL.DETECTION_HEAD.NUM_CLASSES = len(found.data.things)
    if found.data.sem_seg is not None:
        cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = len(found.data.sem_seg)


def _set_input(cfg: CfgNode, found: RegisteredData, size: Size) -> None:
    """Set the input size from the images, and the batch from the memory."""
    records = found.data.parts[TRAIN]
    side = statistics.median(max(record["width"], record["height"]) for record in records)
    canvas = min(math.ceil(side / STRIDE) * STRIDE, LARGEST_CANVAS[cfg.MODEL.DEVICE])
    canvas = max(canvas, SMALLEST_CANVAS)
    cfg.INPUT.STRONG.SIZE = cfg.INPUT.WEAK.SIZE = cfg.INPUT.TEST_SIZE = canvas
    _set_batch(cfg, _batch(cfg.MODEL.DEVICE, canvas, size.memory, len(records)))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cfg.DATALOADER.NUM_WORKERS = min(cores or 1, 8) if len(records) > CPU_BATCH else 0
    megabytes = sum(r["width"] * r["height"] * 3 for r in found.data.records()) / 1e6
    cfg.DATALOADER.IMAGE_CACHE_MB = math.ceil(megabytes) if megabytes < LARGEST_CACHE else 0


def _set_optimizer(cfg: CfgNode, overrides: Sequence[str]) -> None:
    """Choose Muon for random weights, unless the overrides choose an optimizer."""
    changed = cfg.clone()
    changed.SOLVER.update(MUON)
    _override(changed, overrides)
    if changed.SOLVER.OPTIMIZER == "MUON" and not changed.MODEL.WEIGHTS:
        cfg.SOLVER.update(MUON)


def _set_batch(cfg: CfgNode, batch: int) -> None:
    cfg.SOLVER.IMS_PER_BATCH = batch
    cfg.TEST.BATCH_SIZE = min(batch, CPU_BATCH)


def _largest_batch(cfg: CfgNode, number: int, overrides: Sequence[str]) -> int:
    """Return the largest batch of `number` images over all GPUs, which are assumed to be equal."""
    trial = cfg.clone()
    _override(trial, overrides)
    trial.SOLVER.IMS_PER_BATCH = 1
    has_captions = "caption" in trial.MODEL.YOLOR.TASKS
    tokenizer = build_tokenizer(trial) if has_captions else None
    count = _devices(trial)
    return count * largest_batch(
        model=partial(build_model, trial),
        optimizer=partial(build_optimizer, trial),
        options=RunOptions.from_config(trial),
        loader=partial(build_train_loader, trial, tokenizer=tokenizer),
        device=trial.MODEL.DEVICE,
        most=max(min(LARGEST_BATCH, number // count), 1),
    )


def _devices(cfg: CfgNode) -> int:
    """Return the number of GPUs that a run uses; 1 on a CPU."""
    return 1 if cfg.MODEL.DEVICE == "cpu" else max(torch.cuda.device_count(), 1)


def _batch(device: str, canvas: int, memory: float, number: int) -> int:
    """Return the batch size over all GPUs; a power of two on each."""
    if device == "cpu":
        return min(CPU_BATCH, number)
    count = torch.cuda.device_count()
    free = min(torch.cuda.mem_get_info(index)[0] for index in range(count)) / 1e9
    fits = free / (memory * (canvas / 640) ** 2)
    each = 2 ** int(math.log2(min(max(fits, 1), LARGEST_BATCH, max(number // count, 1))))
    return each * count


def _default_epochs(number: int) -> int:
    return max(FEWEST_EPOCHS, min(MOST_EPOCHS, round(SAMPLES / number)))


def _set_steps(cfg: CfgNode, steps: int, overrides: Sequence[str]) -> None:
    """Set the steps and everything that depends on them, except for the overrides."""
    _set_schedule(cfg, steps)
    _override(cfg, overrides)
    if steps != cfg.SOLVER.MAX_ITER:
        _set_schedule(cfg, cfg.SOLVER.MAX_ITER)
        _override(cfg, overrides)


def _set_schedule(cfg: CfgNode, steps: int) -> None:
    """Set everything that depends on the number of steps."""
    solver = cfg.SOLVER
    solver.MAX_ITER = steps
    solver.WARMUP_ITERS = min(1000, steps // 10)
    solver.CHECKPOINT_PERIOD = max(min(5000, steps // 5), 1)
    cfg.TEST.EVAL_PERIOD = max(steps // 5, 1) if steps >= 500 else steps
    cfg.INPUT.CLOSE_MOSAIC_ITERS = steps // 5
    # The mean is over the last eighth of the run.
    window = max(min(steps / 8, 10_000.0), 2.0)
    solver.EMA.DECAY, solver.EMA.TAU = 1 - 1 / window, window / 5
    cfg.LOG.PERIOD = max(1, min(20, steps // 20))
    cfg.TEST.METEOR = False  # with Java it takes longer than the rest of the evaluation


def _override(cfg: CfgNode, overrides: Sequence[str]) -> None:
    """Set the overrides, and the classes of the data sets that they name."""
    merge_overrides(cfg, overrides)
    if cfg.SOLVER.IMS_PER_BATCH == 0:  # the number of steps follows from it
        raise ConfigError("configuration: instead of SOLVER.IMS_PER_BATCH 0, use --batch auto")
    set_configured_classes(cfg)
    head = cfg.MODEL.DETECTION_HEAD
    head.NUM_CLASSES = max(head.NUM_CLASSES, len(cfg.DATASETS.THING_CLASSES))
