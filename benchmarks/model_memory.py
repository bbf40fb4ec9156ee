"""Memory of the losses, in addition to the heads' outputs, and of activations in training."""

import copy
import json
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from yolor_d2.engine.parallel import checkpoint_activations
from yolor_d2.modeling.heads import MaskPredictions, PointPredictions
from yolor_d2.modeling.meta_arch import YOLOR
from yolor_d2.modeling.objects import Assignment, GroundTruthMasks, Objects
from yolor_d2.modeling.views import make_view

from .model_inputs import training_samples
from .model_setting import Aim, Result, Setting, Table, random_images
from .timing import Job

ASSIGNER_NUMBERS = 40  # float32 numbers per pair in a chunk, as documented by the assigner

Losses = dict[str, Tensor]


class LossInputs(NamedTuple):
    """Inputs of the losses of boxes, masks and the semantic map."""

    detection: PointPredictions
    mask: MaskPredictions
    semantic: Tensor
    objects: Objects
    masks: GroundTruthMasks
    labels: Tensor

    def leaves(self) -> list[Tensor]:
        return [self.detection.logits, self.detection.bins, *self.mask, self.semantic]


def measure_memory(setting: Setting) -> Result:
    """Peak memory beyond head outputs and targets, including gradients of the outputs."""
    detection, mask, semantic = setting.vision_heads()
    inputs = _make_inputs(setting)
    points, objects = inputs.detection, inputs.objects
    assignment = detection.assign(points, objects)

    def boxes(assignment: Assignment) -> Losses:
        return detection.losses(points, objects, assignment)

    def masks(assignment: Assignment) -> Losses:
        return mask.losses(inputs.mask, objects, assignment, inputs.masks)

    def maps() -> Losses:
        return semantic.losses(inputs.semantic, inputs.labels)

    def everything() -> Losses:
        found = detection.assign(points, objects)
        return boxes(found) | masks(found) | maps()

    jobs: dict[str, Job] = {
        "assignment": lambda: detection.assign(points, objects),
        "losses of boxes and classes": _backward(lambda: boxes(assignment)),
        "loss of masks": _backward(lambda: masks(assignment)),
        "losses of the semantic map": _backward(maps),
        "all": _backward(everything),
    }
    rows = {}
    for name, job in jobs.items():
        job()  # fills caches of libraries
        _pop_gradients(inputs)
        peak = peak_bytes(job, setting.device)
        gradients = _pop_gradients(inputs)
        rows[name] = {
            "peak MB": peak / 1e6,
            "gradients MB": gradients / 1e6,
            "rest MB": (peak - gradients) / 1e6,
        }
    outputs = sum(leaf.nbytes for leaf in inputs.leaves()) / 1e6
    title = (
        f"memory of the losses, batch {setting.memory_batch}, {setting.size}, "
        f"above the {outputs:,.0f} MB of the heads' outputs"
    )
    bound = 4 * ASSIGNER_NUMBERS * detection.assigner.chunk_pairs / 1e6
    needed = rows["assignment"]["peak MB"]
    text = f"assignment needs at most the documented {bound:.0f} MB"
    return Result([Table(title, rows)], [Aim(text, needed, needed <= bound)])


def measure_activations(setting: Setting) -> Result:
    """Peak memory of forward and backward passes, with and without activation checkpointing.

    It includes the gradients of all parameters, but not parameters and the optimizer's state.
    """
    kept, checkpointed = "activations kept", "activation checkpointing"
    models = {name: copy.deepcopy(setting.model).train() for name in (kept, checkpointed)}
    checkpoint_activations(models[checkpointed])
    tables = []
    for batch in setting.train_batches:
        samples = training_samples(setting, batch)
        rows = {}
        for name, model in models.items():
            job = partial(_forward_and_backward, setting, model, samples)
            rows[name] = {"peak MB": peak_bytes(job, setting.device) / 1e6}
        for row in rows.values():
            row["share"] = row["peak MB"] / rows[kept]["peak MB"]
        tables.append(Table(f"memory of a training step, batch {batch}, {setting.size}", rows))
    return Result(tables, [])


def _forward_and_backward(setting: Setting, model: YOLOR, samples: list[dict[str, Any]]) -> None:
    with setting.half_precision(enabled=setting.on_gpu):
        losses = model(samples)
    torch.stack(list(losses.values())).sum().backward()
    for parameter in model.parameters():
        parameter.grad = None


def _pop_gradients(inputs: LossInputs) -> int:
    """Remove the gradients of the heads' outputs and return their size in bytes."""
    size = 0
    for leaf in inputs.leaves():
        if leaf.grad is not None:
            size += leaf.grad.nbytes
            leaf.grad = None
    return size


def _backward(losses: Callable[[], Losses]) -> Job:
    return lambda: torch.stack(list(losses().values())).sum().backward()


def _make_inputs(setting: Setting) -> LossInputs:
    """Targets of a batch, and outputs of an untrained network for one image, repeated."""
    model, device = setting.model, setting.device
    samples = training_samples(setting, setting.memory_batch)
    tasks = frozenset({"detection", "mask", "semantic"})
    view = make_view(
        samples,
        prefix="",
        tasks=tasks,
        divisor=model.canvas_divisor,
        device=device,
        ignore_value=setting.vision_heads()[2].ignore_value,
    )
    assert view.objects is not None
    assert view.masks is not None
    assert view.labels is not None
    vision = setting.vision_model()
    assert vision.semantic_head is not None
    vision.semantic_head.train()  # enables outputs that exist only in training
    with torch.no_grad():
        image = random_images(1, setting.size, setting.size, device)
        raw = vision.raw_outputs(image)
    points, semantic = raw.detection, raw.semantic
    assert points is not None
    assert raw.mask is not None
    assert semantic is not None

    def repeated(output: Tensor) -> Tensor:
        shape = (setting.memory_batch, *[1] * (output.dim() - 1))
        return output.repeat(shape).requires_grad_()

    return LossInputs(
        detection=points._replace(logits=repeated(points.logits), bins=repeated(points.bins)),
        mask=MaskPredictions(*map(repeated, raw.mask)),
        semantic=repeated(semantic),
        objects=view.objects,
        masks=view.masks,
        labels=view.labels,
    )


def peak_bytes(job: Job, device: torch.device) -> int:
    """Peak memory of tensors that a job allocates, in bytes."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        job()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # raised by the profiler about its cycles
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            job()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    changes = sorted((e["ts"], e["args"]["Bytes"]) for e in events if e["name"] == "[memory]")
    return max(accumulate(size for _, size in changes), default=0)
