"""Times and memory on a GPU that no other benchmark measures."""

import copy
import gc
import tempfile
import time
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from yolor_d2.data import build_train_loader
from yolor_d2.engine.batch_size import largest_batch
from yolor_d2.engine.optim.optimizer import make_optimizer
from yolor_d2.modeling.deploy import deploy, to_channels_last

from ..datasets import toy_set
from ..model_captions import measure_captions
from ..model_inference import measure_forward, measure_results
from ..model_inputs import trained_outputs, training_samples
from ..model_memory import measure_memory, peak_bytes
from ..model_setting import Result, Row, Setting, Table, random_images, time_in_turns, time_rows
from .steps import make_step, run_options

# Options of training steps; the first one is the base.
STEPS: dict[str, dict[str, Any]] = {
    "bf16, channels_last": {},
    "bf16, NCHW": {"channels_last": False},
    "fp16, channels_last": {"precision": "fp16"},
    "single precision": {"precision": ""},
    "bf16, Muon": {"optimizer": "MUON"},
    "bf16, activation checkpointing": {"activation_checkpointing": True},
}
COMPILED: dict[str, dict[str, Any]] = {
    "bf16, eager": {},
    "bf16, compiled": {"compile": True},
    "bf16, compiled, CUDA graphs": {"compile": True, "compile_mode": "reduce-overhead"},
}
FORWARD_MODES = {"eager": None, "compiled": "default", "CUDA graphs": "reduce-overhead"}
LOADER_SCENES, LOADER_BATCHES, MAX_WORKERS = 64, 20, 8
MIN_WIDTH = 128  # of toy scenes


class SkippedError(Exception):
    """A part does not apply to this machine or network; the text says why."""


def measure_steps(setting: Setting) -> Iterator[Result]:
    """Training steps with the run's own loop: time and memory."""
    yield from _step_tables(setting, STEPS)


def measure_compiled(setting: Setting) -> Iterator[Result]:
    """Training steps and forward passes, compiled and as CUDA graphs."""
    if not setting.on_gpu:
        raise SkippedError("compiling is measured on GPUs")
    yield from _step_tables(setting, COMPILED)
    yield from _compiled_forward(setting)


def _step_tables(setting: Setting, variants: dict[str, dict[str, Any]]) -> Iterator[Result]:
    """One table for each variant, so that none is lost if memory or time runs out."""
    for batch in setting.train_batches:
        base = None
        for name, options in variants.items():
            step = make_step(setting, batch=batch, **options)
            step.run_step()  # makes the state of the optimizer
            peak = peak_bytes(step.run_step, setting.device)
            times = time_in_turns(
                {name: step.run_step}, repeats=setting.repeats, device=setting.device
            )
            base = base or times[name]
            row = _row(times[name], base)
            rows = {name: {**row, "images/s": 1000 * batch / row["ms"], "peak MB": peak / 1e6}}
            yield Result([Table(f"training step, batch {batch}, {setting.size}", rows)], [])
            del step
            _release()


def _row(times: list[float], base: list[float]) -> Row:
    return time_rows({"base": base, "this": times}, base="base")["this"]


def _compiled_forward(setting: Setting) -> Iterator[Result]:
    network = to_channels_last(deploy(setting.vision_model()))
    for batch in setting.batches:
        images = random_images(batch, setting.size, setting.size, setting.device)
        images = images.contiguous(memory_format=torch.channels_last)
        base = None
        for name, mode in FORWARD_MODES.items():
            function = network.raw_outputs
            if mode is not None:
                function = torch.compile(function, dynamic=False, mode=mode)

            @torch.no_grad()
            def job(function: Any = function, images: Any = images) -> None:
                with setting.half_precision():
                    function(images)

            times = time_in_turns({name: job}, repeats=setting.repeats, device=setting.device)
            base = base or times[name]
            title = f"forward in bf16, {batch} x {setting.size} x {setting.size}"
            yield Result([Table(title, {name: _row(times[name], base)})], [])


def measure_forward_pass(setting: Setting) -> Iterator[Result]:
    """Forward passes without compiling, also in bf16."""
    yield measure_forward(setting, {}, compiled=False)


def measure_decoding(setting: Setting) -> Iterator[Result]:
    """Captions a second, with and without the cache."""
    if setting.model.caption_head is None:
        raise SkippedError("this network has no captions")
    yield measure_captions(setting)


def measure_memory_of_losses(setting: Setting) -> Iterator[Result]:
    """Memory of the losses, and the largest batch of a training step."""
    if {"detection", "mask", "semantic"} <= setting.model.heads.keys():
        yield measure_memory(setting)
    if not setting.on_gpu:
        return  # memory is no limit there
    samples = training_samples(setting, 1)
    rows: dict[str, Row] = {}
    for name in ("bf16, channels_last", "bf16, activation checkpointing"):
        images = largest_batch(
            model=lambda: copy.deepcopy(setting.model),
            optimizer=lambda model: make_optimizer(model, lr=1e-4, weight_decay=0.05),
            options=run_options(setting, **STEPS[name]),
            loader=lambda: repeat(samples),
            device=setting.device.type,
        )
        rows[name] = {"images": images}
        _release()
    yield Result([Table(f"largest batch of a training step, {setting.size}", rows)], [])


def measure_evaluation(setting: Setting) -> Iterator[Result]:
    """Results, and images a second from pixels on the host to results."""
    model = to_channels_last(deploy(setting.model))
    vision = {"detection", "mask", "semantic"} <= model.heads.keys()
    if vision:
        yield measure_results(setting)
    forward = model.raw_outputs
    for batch in setting.batches:
        pixels = random_images(batch, setting.size, setting.size, torch.device("cpu"))
        side = setting.size
        samples = [
            {"image": image, "height": side, "width": side} for image in pixels.to(torch.uint8)
        ]
        likely = None

        def outputs(*inputs: Any) -> Any:
            """The outputs of a trained network, in the time of this one's."""
            nonlocal likely
            raw = forward(*inputs)
            if not vision:
                return raw
            likely = likely or trained_outputs(raw)
            return likely._replace(caption=raw.caption)

        @torch.no_grad()
        def job(samples: Any = samples) -> None:
            with setting.half_precision(enabled=setting.on_gpu):
                model(samples)

        with mock.patch.object(model, "raw_outputs", outputs):
            times = time_in_turns({"all": job}, repeats=setting.repeats, device=setting.device)
        (row,) = time_rows(times).values()
        name = "from pixels on the host to results, all tasks"
        rows = {name: {**row, "images/s": 1000 * batch / row["ms"]}}
        yield Result([Table(f"inference, batch {batch}, {side}", rows)], [])


def measure_loader(setting: Setting) -> Iterator[Result]:
    """Samples a second of the training loader, and the time of a batch to the device."""
    batch = max(setting.train_batches)
    samples = training_samples(setting, batch)
    images = torch.stack([sample["image"] for sample in samples])
    jobs = {"pageable memory": lambda: images.to(setting.device, copy=True)}
    if setting.on_gpu:
        pinned = images.pin_memory()
        jobs["pinned memory"] = lambda: pinned.to(setting.device, non_blocking=True)
    times = time_in_turns(jobs, repeats=setting.repeats, device=setting.device)
    rows = {
        name: {**row, "GB/s": images.nbytes / row["ms"] / 1e6}
        for name, row in time_rows(times).items()
    }
    yield Result([Table(f"batch of {batch} images to the device, {setting.size}", rows)], [])
    with tempfile.TemporaryDirectory() as folder:
        yield _loader_speed(setting, batch, Path(folder))


def _loader_speed(setting: Setting, batch: int, work: Path) -> Result:
    workers = min(MAX_WORKERS, torch.get_num_threads()) if setting.on_gpu else 0
    with toy_set(images=LOADER_SCENES, width=max(setting.size, MIN_WIDTH), work=work) as name:
        cfg = setting.cfg.clone()
        cfg.OUTPUT_DIR = str(work / "output")
        cfg.DATASETS.TRAIN = (name,)
        cfg.MODEL.YOLOR.TASKS = ["detection", "mask", "semantic"]
        cfg.INPUT.WEAK_VIEW_TASKS = []
        cfg.INPUT.STRONG.SIZE = cfg.INPUT.WEAK.SIZE = setting.size
        cfg.DATALOADER.NUM_WORKERS = workers
        cfg.SOLVER.IMS_PER_BATCH = batch
        batches = iter(build_train_loader(cfg, tokenizer=None))
        next(batches)  # starts the workers
        start = time.perf_counter()
        count = 0
        while count < LOADER_BATCHES and time.perf_counter() - start < setting.repeats * 4:
            for sample in next(batches):
                sample["image"].to(setting.device, non_blocking=True)
            count += 1
        rate = count * batch / (time.perf_counter() - start)
        del batches
    title = f"training loader, strong view, {setting.size}, {workers} workers"
    return Result([Table(title, {"toy scenes to the device": {"images/s": rate}})], [])


def _release() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
