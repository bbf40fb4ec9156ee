"""A training step waits for the device once: for the numbers of assigned points."""

import pytest
import torch

from yolor_d2.engine.teacher import Teacher
from yolor_d2.tasks import TASKS

from .factory import random_batch, tiny_model
from .waiting import Counting


def test_synchronizations_are_counted() -> None:
    x = torch.arange(4)
    with Counting() as counting:
        x[x > 1], x.nonzero(), x[0].item(), x.tolist()
    x.tolist()
    assert counting.waits == {
        "aten.index.Tensor": 1,
        "aten.nonzero.default": 1,
        "aten._local_scalar_dense.default": 1,
        "tolist": 1,
    }


@pytest.mark.parametrize(
    ("tasks", "waits"),
    [(TASKS, {"tolist": 1}), (("detection",), {"tolist": 1}), (("semantic", "caption"), {})],
)
def test_a_training_step_synchronizes_at_most_once(
    tasks: tuple[str, ...], waits: dict[str, int]
) -> None:
    model = tiny_model(tasks)
    batch = random_batch()
    with Counting() as counting:
        losses = model(batch)
        sum(losses.values()).backward()
    assert counting.waits == waits


def test_two_assignments_synchronize_twice() -> None:
    model = tiny_model(("detection",), "MODEL.DETECTION_HEAD.NAME", "OneToOneHead")
    batch = random_batch()
    with Counting() as counting:
        sum(model(batch).values()).backward()
    assert counting.waits == {"tolist": 2}


def test_a_teacher_adds_no_synchronization() -> None:
    model, batch = tiny_model(), random_batch()
    teacher = Teacher(tiny_model(seed=1), TASKS, threshold=0.0, source={})
    with Counting() as counting:
        losses = model(batch, teacher=teacher)
        sum(losses.values()).backward()
    assert counting.waits == {"tolist": 1}
