"""How long a training step takes, part by part."""

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from yolor_d2.modeling.meta_arch import YOLOR

from .model_inputs import training_samples
from .model_setting import (
    Aim,
    Result,
    Setting,
    Table,
    device_clock,
    time_in_turns,
    time_rows,
)
from .timing import Job, StopWatch

# Own time of these methods of the network or of a head, without that of the others.
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
VIEWS, UPDATE = "views and targets", "optimiser (AdamW)"
LOSS_BACKWARD, BACKWARD = "losses, backward", "network, backward"
LOSS_PARTS = (*list(PARTS)[2:], LOSS_BACKWARD)
MAX_LOSS_SHARE = 0.10

# Where heads end and losses begin.
SEAMS = (
    ("detection_head", "forward"),
    ("mask_head", "forward"),
    ("semantic_head", "logits"),
    ("caption_head", "text_logits"),
)


class Seams:
    """Cuts the graph where heads end, so that the losses' backward pass can be timed alone."""

    def __init__(self) -> None:
        self.ends: list[tuple[Tensor, Tensor]] = []  # of the heads, and where the losses begin

    def cut(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: self._cut(function(*args, **kwargs))

    def _cut(self, output: Any) -> Any:
        if isinstance(output, tuple):
            return type(output)(*map(self._cut, output))
        if not output.requires_grad:
            return output
        self.ends.append((output, output.detach().requires_grad_()))
        return self.ends[-1][1]

    def backward(self) -> None:
        """Go on from the gradients that the losses' backward pass left."""
        outputs, leaves = zip(*self.ends, strict=True)
        torch.autograd.backward(outputs, [leaf.grad for leaf in leaves])


def measure_training(setting: Setting) -> Result:
    """Training steps with AdamW: on a GPU in bf16, and there also whole, eager and compiled."""
    model = copy.deepcopy(setting.model).train()
    tables, aims = [], []
    for batch in setting.train_batches:
        samples = training_samples(setting, batch)
        if setting.on_gpu:
            tables.append(_whole_steps(setting, samples))
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


def _whole_steps(setting: Setting, samples: list[dict[str, Any]]) -> Table:
    """Backbone, neck, and the heads of boxes and masks are compiled; the rest is eager."""
    eager, compiled = (copy.deepcopy(setting.model).train() for _ in range(2))
    for module in (compiled.backbone, compiled.detection_head, compiled.mask_head):
        if module is not None:
            module.compile(dynamic=False)
    jobs = {
        "bf16": _step_job(setting, eager, samples),
        "bf16, compiled": _step_job(setting, compiled, samples),
    }
    times = time_in_turns(jobs, repeats=setting.repeats, device=setting.device)
    title = f"training step, batch {len(samples)}, {setting.size}"
    return Table(title, time_rows(times, base="bf16"))


def _step_job(setting: Setting, model: YOLOR, samples: list[dict[str, Any]]) -> Job:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step() -> None:
        with setting.half_precision():
            loss = _summed(model(samples))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _split_steps(
    setting: Setting, model: YOLOR, samples: list[dict[str, Any]]
) -> list[tuple[float, dict[str, float]]]:
    """Seconds of each step and of its parts, after one that is not measured."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    now = device_clock(setting.device)
    steps = []
    for number in range(setting.repeats + 1):
        watch, seams = StopWatch(now), Seams()
        start = now()
        _watched_step(setting, model, samples, optimizer, watch=watch, seams=seams)
        if number:
            steps.append((now() - start, dict(watch.seconds)))
    return steps


def _watched_step(
    setting: Setting,
    model: YOLOR,
    samples: list[dict[str, Any]],
    optimizer: torch.optim.Optimizer,
    *,
    watch: StopWatch,
    seams: Seams,
) -> None:
    def forward() -> Tensor:
        with setting.half_precision(enabled=setting.on_gpu):
            return _summed(model(samples))

    def update() -> None:
        optimizer.step()
        optimizer.zero_grad()

    with ExitStack() as stack:
        for owner, name in _methods(model, SEAMS):
            stack.enter_context(mock.patch.object(owner, name, seams.cut(getattr(owner, name))))
        parts = {part: _methods(model, methods) for part, methods in PARTS.items()}
        stack.enter_context(watch.watch(parts))
        loss = watch.wrap(forward, VIEWS)()  # own time: what no other part claims
    watch.wrap(loss.backward, LOSS_BACKWARD)()
    watch.wrap(seams.backward, BACKWARD)()
    watch.wrap(update, UPDATE)()


def _methods(model: YOLOR, names: Sequence[tuple[str, str]]) -> list[tuple[nn.Module, str]]:
    """Owners and names of methods, of the heads that the model has."""
    owners = [(getattr(model, owner) if owner else model, name) for owner, name in names]
    return [(owner, name) for owner, name in owners if owner is not None]


def _summed(losses: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()
