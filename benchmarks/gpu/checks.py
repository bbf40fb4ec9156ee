"""Whether a GPU computes what a CPU computes, and whether a run on it can be resumed exactly."""

import copy
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import HookBase
from torch import Tensor

from yolor_d2.engine.optim.optimizer import make_optimizer
from yolor_d2.engine.optim.schedule import Schedule
from yolor_d2.engine.parts import ConfigText, DataParts, MemorySettings, RunParts
from yolor_d2.engine.run import Run
from yolor_d2.engine.starting_point import find_starting_point
from yolor_d2.modeling.layers.modes import BATCH_NORMS
from yolor_d2.modeling.meta_arch import YOLOR

from ..model_inputs import training_samples
from ..model_setting import Aim, Result, Row, Setting, Table, random_images
from .steps import make_step, run_options

BATCH = 2
MAX_LOSS_DIFFERENCE, MAX_OUTPUT_DIFFERENCE, MAX_GRADIENT_DIFFERENCE = 1e-3, 1e-3, 1e-2
MAX_HALF_DIFFERENCE = 0.1
RUN_STEPS, RESUME_AFTER = 4, 2
SCALER_STEPS = 12
RELATIVE, EQUAL = "relative difference", "different tensors"


def check_parity(setting: Setting) -> Iterator[Result]:
    """Compare losses, gradients and outputs with those of the CPU, in single precision."""
    samples = training_samples(setting, BATCH)
    with single_precision():
        expected, of_cpu = _losses_and_gradients(setting, torch.device("cpu"), samples)
        found, of_device = _losses_and_gradients(setting, setting.device, samples)
    rows = {name: {RELATIVE: difference(found[name], expected[name])} for name in expected}
    worst = max(row[RELATIVE] for row in rows.values())
    yield Result(
        [Table("losses, compared with the CPU", rows)],
        [_at_most("losses differ from the CPU's", worst, MAX_LOSS_DIFFERENCE)],
    )
    gradients = difference(of_device, of_cpu)
    aim = _at_most("gradients differ from the CPU's", gradients, MAX_GRADIENT_DIFFERENCE)
    yield Result([], [aim])
    with single_precision():
        outputs = [
            _outputs(setting.vision_model().to(device), setting, device)
            for device in (torch.device("cpu"), setting.device)
        ]
    rows = {name: {RELATIVE: difference(outputs[1][name], outputs[0][name])} for name in outputs[0]}
    worst = max(row[RELATIVE] for row in rows.values())
    yield Result(
        [Table("outputs, compared with the CPU", rows)],
        [_at_most("outputs differ from the CPU's", worst, MAX_OUTPUT_DIFFERENCE)],
    )


def check_precision(setting: Setting) -> Iterator[Result]:
    """Compare losses in half precision with single precision, and train with a loss scaler."""
    samples = training_samples(setting, BATCH)
    model = _without_dropout(setting.model)
    losses = {}
    for name, dtype in {"float32": None, "bf16": torch.bfloat16, "fp16": torch.float16}.items():
        enabled = dtype is not None
        with torch.no_grad(), torch.autocast(setting.device.type, dtype=dtype, enabled=enabled):
            losses[name] = model.training_losses(samples)
    rows = {
        loss: {
            f"{RELATIVE}, {name}": difference(losses[name][loss], value)
            for name in ("bf16", "fp16")
        }
        for loss, value in losses["float32"].items()
    }
    worst = max(max(row.values()) for row in rows.values())
    yield Result(
        [Table("losses in half precision, compared with single precision", rows)],
        [_at_most("losses in half precision differ", worst, MAX_HALF_DIFFERENCE)],
    )
    step = make_step(setting, batch=BATCH, precision="fp16")
    totals = []
    for _ in range(SCALER_STEPS):
        step.run_step()
        totals.append(step.storage.latest()["total_loss"][0])
    row = {"first loss": totals[0], "last loss": totals[-1], "scale": step.scaler.get_scale()}
    aim = Aim("training in fp16 lowers the loss", totals[-1] / totals[0], totals[-1] < totals[0])
    yield Result([Table(f"{SCALER_STEPS} steps with a loss scaler", {"fp16": row})], [aim])


def check_resume(setting: Setting) -> Iterator[Result]:
    """Compare a run with the same run again, and with one that is resumed from its checkpoint."""
    rows: dict[str, Row] = {}
    with deterministic(), tempfile.TemporaryDirectory() as folder:
        straight = _state(_run(setting, Path(folder) / "straight"))
        for name in ("the same run again", "resumed"):
            path = Path(folder) / name
            if name == "resumed":
                _run(setting, path, stop_after=RESUME_AFTER)
            state = _state(_run(setting, path))
            unequal = [key for key in straight if not torch.equal(straight[key], state[key])]
            rows[name] = {EQUAL: len(unequal)}
    title = f"weights, EMA and optimizer after {RUN_STEPS} steps, of {len(straight)} tensors"
    aim = Aim(
        f"a run resumed after {RESUME_AFTER} steps is equal, bit by bit",
        rows["resumed"][EQUAL],
        rows["resumed"][EQUAL] == 0,
    )
    yield Result([Table(title, rows)], [aim])


class _StopAfter(HookBase):
    """Saves the run and stops it."""

    def __init__(self, run: Run, steps: int) -> None:
        self.run, self.steps = run, steps

    def after_step(self) -> None:
        if self.run.finished == self.steps:
            self.run.save()
            self.run.request_stop("half of the run")


def _run(setting: Setting, folder: Path, *, stop_after: int = RUN_STEPS) -> Run:
    """A run of RUN_STEPS steps that goes on from the checkpoint in its folder, if there is one."""
    torch.manual_seed(0)
    samples = training_samples(setting, RUN_STEPS * BATCH)
    batches = [samples[first : first + BATCH] for first in range(0, len(samples), BATCH)]
    parts = RunParts(
        options=run_options(
            setting, output_dir=str(folder), max_iter=RUN_STEPS, precision="fp16", curves=False
        ),
        config=ConfigText(
            text="{}",
            file_name="config.yaml",
            changes=lambda before, now: [],
            weights_key="",
            memory=MemorySettings("", "", "", "", ""),
        ),
        data=DataParts(
            train=[],
            test=[],
            train_loader=lambda start: islice(cycle(batches), start, None),
            validation_loaders=list,
            image_format="RGB",
            batch_size=BATCH,
            canvas=setting.size,
        ),
        model=lambda: copy.deepcopy(setting.model),
        optimizer=lambda model: make_optimizer(model, lr=1e-4, weight_decay=0.05),
        schedule=lambda optimizer: Schedule("linear", total=RUN_STEPS),
        evaluate=lambda model: {},
    )
    run = Run(parts)
    run.start_from(find_starting_point(str(folder), weights="", resume=folder.exists()))
    if stop_after < RUN_STEPS:
        run.register_hooks([_StopAfter(run, stop_after)])
    run.train()
    return run


def _state(run: Run) -> dict[str, Tensor]:
    """The tensors of a checkpoint by their paths."""
    content = run.own_checkpoint()
    found: dict[str, Tensor] = {}

    def collect(value: Any, path: str) -> None:
        if isinstance(value, Tensor):
            found[path] = value.detach().cpu().clone()
        elif isinstance(value, dict):
            for key, item in value.items():
                collect(item, f"{path}.{key}")

    for part in ("model", "ema", "optimizer"):
        collect(content[part], part)
    return found


def _losses_and_gradients(
    setting: Setting, device: torch.device, samples: list[dict[str, Any]]
) -> tuple[dict[str, Tensor], Tensor]:
    """The losses, and all gradients as a vector, on the CPU."""
    model = _without_dropout(setting.model).to(device)
    losses = model.training_losses(samples)
    torch.stack(list(losses.values())).sum().backward()
    gradients = [p.grad.flatten().cpu() for p in model.parameters() if p.grad is not None]
    return {name: loss.detach().cpu() for name, loss in losses.items()}, torch.cat(gradients)


def _without_dropout(model: YOLOR) -> YOLOR:
    """A copy in evaluation mode, except batch norms, which use the statistics of the batch."""
    model = copy.deepcopy(model).eval()
    for module in model.modules():
        if isinstance(module, BATCH_NORMS):
            module.train()
    return model


@torch.no_grad()
def _outputs(model: YOLOR, setting: Setting, device: torch.device) -> dict[str, Tensor]:
    raw = model.raw_outputs(random_images(1, setting.size, setting.size, device))
    outputs = {
        "class logits": getattr(raw.detection, "logits", None),
        "boxes": getattr(raw.detection, "bins", None),
        "mask coefficients": getattr(raw.mask, "coefficients", None),
        "mask prototypes": getattr(raw.mask, "prototypes", None),
        "semantic logits": raw.semantic,
    }
    return {name: value.cpu() for name, value in outputs.items() if value is not None}


def difference(found: Tensor, expected: Tensor) -> float:
    """Norm of the difference, relative to the norm of the expected values."""
    found, expected = found.detach().cpu().double(), expected.detach().cpu().double()
    return ((found - expected).norm() / expected.norm().clamp(min=1e-12)).item()


def _at_most(text: str, value: float, limit: float) -> Aim:
    return Aim(f"{text} by at most {limit:g}", value, value <= limit)


@contextmanager
def single_precision() -> Iterator[None]:
    """Context without TensorFloat-32, which convolutions on GPUs use by default."""
    backends: Mapping[Any, bool] = {
        torch.backends.cudnn: torch.backends.cudnn.allow_tf32,
        torch.backends.cuda.matmul: torch.backends.cuda.matmul.allow_tf32,
    }
    for backend in backends:
        backend.allow_tf32 = False
    try:
        yield
    finally:
        for backend, allowed in backends.items():
            backend.allow_tf32 = allowed


@contextmanager
def deterministic() -> Iterator[None]:
    """Context of `--deterministic`; CUBLAS_WORKSPACE_CONFIG must have been set before."""
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]
