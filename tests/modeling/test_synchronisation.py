"""The training step waits for the device once: for the number of positive points."""

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from yolor_d2.tasks import TASKS

from .factory import random_batch, tiny_model

# Operators whose result's size, or a number of Python, depends on the values in a tensor.
WAITING = {
    "aten._local_scalar_dense.default",
    "aten.nonzero.default",
    "aten.masked_select.default",
    "aten.equal.default",
    "aten.unique_consecutive.default",
    "aten._unique2.default",
    "aten.repeat_interleave.Tensor",
    "aten.item.default",
}


class Counting(TorchDispatchMode):
    """Counts the operators that make the host wait, boolean indexing included."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = str(function)
        boolean = name.startswith(("aten.index.", "aten.index_put")) and any(
            isinstance(index, torch.Tensor) and index.dtype in (torch.bool, torch.uint8)
            for index in args[1]
        )
        if name in WAITING or boolean:
            self.waits[name] += 1
        return function(*args, **(kwargs or {}))


def test_the_counter_counts() -> None:
    x = torch.arange(4)
    with Counting() as counting:
        x[x > 1], x.nonzero(), x[0].item()
    assert counting.waits == {
        "aten.index.Tensor": 1,
        "aten.nonzero.default": 1,
        "aten._local_scalar_dense.default": 1,
    }


@pytest.mark.parametrize("tasks", [TASKS, ("detection",), ("semantic", "caption")], ids="-".join)
def test_a_training_step_waits_once_at_most(tasks) -> None:
    """The one wait moves a list of counts to the host, which no operator of the list does."""
    model = tiny_model(tasks)
    batch = random_batch()
    with Counting() as counting:
        losses = model(batch)
        sum(losses.values()).backward()
    assert not counting.waits
