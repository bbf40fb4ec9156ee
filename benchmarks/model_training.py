"""Time of a training step and of its parts."""

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from yolor_d2.engine.optim.optimizer import make_optimizer
from yolor_d2.modeling.deploy import to_channels_last
from yolor_d2.modeling.meta_arch import YOLOR

from .model_inputs import training_samples
from .model_setting import Aim, Result, Setting, Table, device_clock, time_in_turns, time_rows
from .timing import Job, StopWatch

# Time of these methods of the network ("") or a head, without nested calls of the others.
PARTS: dict[str, Sequence[tuple[str, str]]] = {
    "backbone and neck, forward": [("", "extract")],
    "heads, forward": [
        ("detection_head", "forward"),
        ("mask_head", "forward"),
        ("semantic_head", "logits"),
        ("caption_head", "forward"),
        ("caption_head", "text_logits"),
    ],
    "assignment": [("detection_head", "assign")],
    "losses of boxes and classes": [("detection_head", "losses")],
    "loss of masks": [("mask_head", "losses")],
    "losses of the semantic map": [("semantic_head", "losses")],
    "loss of captions": [("caption_head", "losses")],
}
VIEWS, UPDATE = "views and targets", "optimizer (AdamW)"
LOSS_BACKWARD, BACKWARD = "losses, backward", "network, backward"
LOSS_PARTS = (*list(PARTS)[2:], LOSS_BACKWARD)
MAX_LOSS_SHARE = 0.10

# Methods whose results are inputs of the losses.
HEAD_OUTPUTS = (
    ("detection_head", "forward"),
    ("mask_head", "forward"),
    ("semantic_head", "logits"),
    ("caption_head", "text_logits"),
)


class GraphCut:
    """Cuts the autograd graph between heads and losses, to time their backward passes apart."""

    def __init__(self) -> None:
        self.pairs: list[tuple[Tensor, Tensor]] = []  # (head output, loss input)

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: self._cut(function(*args, **kwargs))

    def _cut(self, output: Any) -> Any:
        if isinstance(output, tuple):
            return type(output)(*map(self._cut, output))
        if output is None or not output.requires_grad:
            return output
        self.pairs.append((output, output.detach().requires_grad_()))
        return self.pairs[-1][1]

    def backward(self) -> None:
        """Continue from the gradients of the losses' backward pass."""
        outputs, leaves = zip(*self.pairs, strict=True)
        torch.autograd.backward(outputs, [leaf.grad for leaf in leaves])


def measure_training(setting: Setting) -> Result:
    """Time training steps with AdamW, complete and by part; on a GPU in bf16, else in float32."""
    model = copy.deepcopy(setting.model).train()
    tables, aims = [], []
    for batch in setting.train_batches:
        samples = training_samples(setting, batch)
        tables.append(_complete_steps(setting, samples))
        steps = _split_steps(setting, model, samples)
        total, parts = sorted(steps, key=lambda step: step[0])[len(steps) // 2]
        rows = {part: {"ms": 1000 * spent, "share": spent / total} for part, spent in parts.items()}
        rows["together"] = {"ms": 1000 * total, "share": 1.0}
        tables.append(Table(f"training step by part, batch {batch}, {setting.size}", rows))
        share = sum(parts.get(part, 0.0) for part in LOSS_PARTS) / total
        text = (
            f"assignment and losses, forward and backward, take at most {MAX_LOSS_SHARE:.0%} "
            f"of a step at batch {batch}"
        )
        aims.append(Aim(text, share, share <= MAX_LOSS_SHARE))
    return Result(tables, aims)


def _complete_steps(setting: Setting, samples: list[dict[str, Any]]) -> Table:
    """Time complete steps in several ways, in turns."""
    jobs = _gpu_steps(setting, samples) if setting.on_gpu else _cpu_steps(setting, samples)
    times = time_in_turns(jobs, repeats=setting.repeats, device=setting.device)
    title = f"training step, batch {len(samples)}, {setting.size}"
    return Table(title, time_rows(times, base=next(iter(jobs))))


def _gpu_steps(setting: Setting, samples: list[dict[str, Any]]) -> dict[str, Job]:
    """Eager, and with compiled backbone, neck, detection and mask heads."""
    eager, compiled = (copy.deepcopy(setting.model).train() for _ in range(2))
    for module in (compiled.backbone, compiled.detection_head, compiled.mask_head):
        if module is not None:
            module.compile(dynamic=False)
    return {
        "bf16": _step_job(setting, eager, samples),
        "bf16, compiled": _step_job(setting, compiled, samples),
    }


def _cpu_steps(setting: Setting, samples: list[dict[str, Any]]) -> dict[str, Job]:
    """What SOLVER.CPU chooses from: precisions and memory layouts."""
    nchw = copy.deepcopy(setting.model).train()
    channels_last = to_channels_last(copy.deepcopy(nchw))
    return {
        "fp32, NCHW": _step_job(setting, nchw, samples, half=False),
        "fp32, channels_last": _step_job(setting, channels_last, samples, half=False),
        "bf16, NCHW": _step_job(setting, nchw, samples),
        "bf16, channels_last": _step_job(setting, channels_last, samples),
    }


def _step_job(
    setting: Setting, model: YOLOR, samples: list[dict[str, Any]], *, half: bool = True
) -> Job:
    optimizer = make_optimizer(model, lr=1e-4, weight_decay=0.05)

    def step() -> None:
        with setting.half_precision(enabled=half):
            loss = _summed(model(samples))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _split_steps(
    setting: Setting, model: YOLOR, samples: list[dict[str, Any]]
) -> list[tuple[float, dict[str, float]]]:
    """Seconds of each step and of its parts, after one unmeasured step."""
    optimizer = make_optimizer(model, lr=1e-4, weight_decay=0.05)
    now = device_clock(setting.device)
    steps = []
    for number in range(setting.repeats + 1):
        watch, cut = StopWatch(now), GraphCut()
        start = now()
        watched_step(setting, model, samples, optimizer, watch=watch, cut=cut)
        if number:
            steps.append((now() - start, dict(watch.seconds)))
    return steps


def watched_step(
    setting: Setting,
    model: YOLOR,
    samples: list[dict[str, Any]],
    optimizer: torch.optim.Optimizer,
    *,
    watch: StopWatch,
    cut: GraphCut,
) -> None:
    def forward() -> Tensor:
        with setting.half_precision(enabled=setting.on_gpu):
            return _summed(model(samples))

    def update() -> None:
        optimizer.step()
        optimizer.zero_grad()

    with ExitStack() as stack:
        for owner, name in _methods(model, HEAD_OUTPUTS):
            stack.enter_context(mock.patch.object(owner, name, cut.wrap(getattr(owner, name))))
        parts = {part: _methods(model, methods) for part, methods in PARTS.items()}
        stack.enter_context(watch.watch(parts))
        loss = watch.wrap(forward, VIEWS)()  # its own time is that of views and targets
    watch.wrap(loss.backward, LOSS_BACKWARD)()
    watch.wrap(cut.backward, BACKWARD)()
    watch.wrap(update, UPDATE)()


def _methods(model: YOLOR, names: Sequence[tuple[str, str]]) -> list[tuple[nn.Module, str]]:
    """Owners and names of methods, for the heads that the model has."""
    owners = [(getattr(model, owner) if owner else model, name) for owner, name in names]
    return [(owner, name) for owner, name in owners if owner is not None]


def _summed(losses: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()
