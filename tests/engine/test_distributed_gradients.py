"""Gradients of two processes equal those of one process with all images.

Norms use fixed statistics, because those of a batch are of the process's own images; and there is
no dropout. Then everything is a sum over images, up to rounding.
"""

from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest
import torch
from detectron2.engine import launch
from detectron2.utils import comm
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from yolor_d2.engine.optim.optimizer import keep_statistics
from yolor_d2.engine.parallel import checkpoint_activations
from yolor_d2.engine.teacher import Teacher
from yolor_d2.modeling.heads.detection import head as detection
from yolor_d2.modeling.layers.modes import BATCH_NORMS
from yolor_d2.modeling.reduce import over_processes
from yolor_d2.tasks import TASKS

from ..modeling.factory import random_batch, random_instances, tiny_model

Batch = list[dict[str, Any]]


class Case(NamedTuple):
    """Batches of a step in each process, and the same images in one process."""

    shares: tuple[list[Batch], list[Batch]]
    whole: list[Batch]
    is_taught: bool = False
    is_checkpointed: bool = False  # the processes compute activations again

    def teacher(self) -> Teacher | None:
        """A teacher that is sure of all points."""
        if not self.is_taught:
            return None
        return Teacher(tiny_model(seed=1).double(), TASKS, threshold=0.0, source={})


def only(batch: Batch, *targets: str) -> Batch:
    """The batch without the other targets."""
    kept = ("image", "weak_image", "mask_stride", "sem_seg_stride", *targets)
    return [{key: s[key] for key in kept} for s in batch]


def divided(batch: Batch) -> Case:
    """The first three images in the first process, the others in the second."""
    return Case(([batch[:3]], [batch[3:]]), [batch])


def cases() -> dict[str, Case]:
    nothing = random_instances(0, size=(64, 96), rng=torch.Generator())
    complete = random_batch(images=5, objects=6)
    sparse = random_batch(images=5, objects=2, seed=1)
    partly = [
        *only(complete[:1], "instances"),
        *only(complete[1:2], "sem_seg", "caption_ids"),
        *complete[2:3],
        *only(complete[3:4], "caption_ids"),
        *only(complete[4:], "instances", "sem_seg"),
    ]
    boxes_only = [dict(s, instances=without_masks(s["instances"])) for s in complete[:2]]
    vision = only(complete, "instances", "sem_seg")
    captions = only(random_batch(images=2, size=(96, 64), weak_size=(64, 128)), "caption_ids")
    two_batches = Case(([complete[:3], sparse[:1]], [complete[3:], sparse[1:]]), [complete, sparse])
    return {
        "complete": divided(complete),
        "few objects": divided(sparse),
        "other weak canvas": divided(random_batch(images=5, weak_size=(32, 64))),
        "partly labeled": divided(partly),
        "boxes without masks": divided([*boxes_only, *complete[2:]]),
        "no objects": divided([*complete[:3], *(dict(s, instances=nothing) for s in complete[3:])]),
        "nothing known": divided([*complete[:3], *only(complete[3:])]),
        "nothing known at all": divided(only(complete)),
        "with a teacher": divided(partly)._replace(is_taught=True),
        "canvases of the processes": Case(([vision], [captions]), [vision, captions]),
        "several batches a step": two_batches,
        "checkpointed": divided(partly)._replace(is_checkpointed=True),
        "several checkpointed batches a step": two_batches._replace(is_checkpointed=True),
    }


def without_masks(instances: Any) -> Any:
    boxes_only = type(instances)(instances.image_size)
    boxes_only.gt_boxes, boxes_only.gt_classes = instances.gt_boxes, instances.gt_classes
    return boxes_only


def frozen_model() -> nn.Module:
    """A network with useful activations, whose boxes overlap the objects.

    Its norms have the statistics of a batch; boxes are about four cells wide and high.
    """
    model = tiny_model(TASKS, "MODEL.CAPTION_HEAD.DROPOUT", 0.0).double()
    for norm in (m for m in model.modules() if isinstance(m, BATCH_NORMS)):
        norm.momentum = 1.0
    with torch.no_grad():
        model(random_batch(images=8, seed=2))
        for predictor in model.detection_head.box_predictors.values():
            predictor.weight *= 0.1
            predictor.bias.view(4, -1)[:, 2] += 5
    keep_statistics(model)
    return model


class Outcome(NamedTuple):
    """Losses and gradients of a step."""

    losses: dict[str, Tensor]
    gradients: dict[str, Tensor]


def backpropagate(
    model: nn.Module, batches: list[Batch], *, share: float, teacher: Teacher | None = None
) -> Outcome:
    """The sums of losses and gradients, times a share."""
    model.zero_grad()
    total: Counter[str] = Counter()
    for number, batch in enumerate(batches, start=1):
        alone = isinstance(model, DistributedDataParallel) and number < len(batches)
        with model.no_sync() if alone else nullcontext():
            losses = model(batch, teacher=teacher)
            (sum(losses.values()) * share).backward()
        total.update({name: loss.detach() * share for name, loss in losses.items()})
    gradients = {n.removeprefix("module."): p.grad.clone() for n, p in model.named_parameters()}
    return Outcome(dict(total), gradients)


def save_outcomes(output: Path) -> None:
    """Save the outcome of each case in this process."""
    torch.set_num_threads(1)
    plain = DistributedDataParallel(frozen_model(), find_unused_parameters=False)
    checkpointed = DistributedDataParallel(frozen_model(), find_unused_parameters=False)
    checkpoint_activations(checkpointed)
    outcomes = {}
    for name, case in cases().items():
        batches = case.shares[comm.get_rank()]
        model = checkpointed if case.is_checkpointed else plain
        outcome = backpropagate(model, batches, share=1 / len(batches), teacher=case.teacher())
        outcomes[name] = tuple(outcome)
    torch.save(outcomes, output / f"rank{comm.get_rank()}.pt")


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Outcome]]:
    """The outcomes of each process, by case."""
    folder = tmp_path_factory.mktemp("gradients")
    launch(save_outcomes, 2, dist_url="auto", args=(folder,))
    saved = [torch.load(folder / f"rank{rank}.pt") for rank in range(2)]
    return [{name: Outcome(*outcome) for name, outcome in each.items()} for each in saved]


def test_score_sums_exceed_the_minimum() -> None:
    """Those below 1 count as 1."""
    model = frozen_model()
    with patch.object(detection, "over_processes", wraps=over_processes) as spy:
        for share in cases()["complete"].shares:
            backpropagate(model, share, share=1.0)
    assert min(call.args[0] for call in spy.call_args_list) > 1


@pytest.mark.parametrize("name", cases())
def test_gradients_of_two_processes_equal_those_of_one(
    name: str, processes: list[dict[str, Outcome]]
) -> None:
    case = cases()[name]
    share = 1 / len(case.shares[0])
    expected = backpropagate(frozen_model(), case.whole, share=share, teacher=case.teacher())
    first, second = (outcomes[name] for outcomes in processes)

    exact = {"rtol": 1e-10, "atol": 1e-10}
    for loss, value in expected.losses.items():
        mean = (first.losses[loss] + second.losses[loss]) / 2
        torch.testing.assert_close(mean, value, **exact, msg=loss)
    for parameter, gradient in expected.gradients.items():
        assert torch.equal(first.gradients[parameter], second.gradients[parameter]), parameter
        torch.testing.assert_close(first.gradients[parameter], gradient, **exact, msg=parameter)
    assert any(gradient.any() for gradient in expected.gradients.values()) == ("at all" not in name)
