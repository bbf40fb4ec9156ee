"""Training in two processes, also if one of them has no targets."""

from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.utils import comm
from torch.nn.parallel import DistributedDataParallel

from tests.processes import in_two_processes
from yolor_d2.modeling.reduce import over_processes
from yolor_d2.tasks import TASKS

from .factory import random_batch, random_instances, tiny_model

SUBSETS = (TASKS, ("semantic", "caption"))


def train_two_steps() -> dict[tuple[str, ...], dict[str, torch.Tensor]]:
    """Gradients of a second step; the second process has no targets."""
    batch = random_batch(seed=comm.get_rank())
    if comm.get_rank() == 1:
        nothing = random_instances(0, size=(64, 96), rng=torch.Generator())
        batch = [
            {key: s[key] for key in ("image", "weak_image", "mask_stride")} | {"instances": nothing}
            for s in batch
        ]
    gradients = {}
    for tasks in SUBSETS:
        model = DistributedDataParallel(tiny_model(tasks), find_unused_parameters=False)
        for _ in range(2):  # the second step fails if the first one had unused parameters
            sum(model(batch).values()).backward()
        gradients[tasks] = {name: p.grad for name, p in model.named_parameters()}
    return gradients


def count() -> dict[str, Any]:
    number = torch.tensor(3.5 - comm.get_rank(), requires_grad=True)
    together = over_processes(number)
    with torch.no_grad():
        alone = over_processes(number)
    return {"count": number, "together": tuple(together), "alone": tuple(alone)}


def validate() -> float:
    """Loss of a batch that only the second process has; it must not wait for the first one."""
    if comm.get_rank() == 0:
        return 0.0
    with torch.no_grad():
        return sum(tiny_model()(random_batch()).values()).item()


def work(output: Path) -> None:
    """Run in each process."""
    torch.set_num_threads(1)  # avoids more threads than CPUs
    done = {"gradients": train_two_steps(), "count": count(), "validation": validate()}
    torch.save(done, output / f"rank{comm.get_rank()}.pt")


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Results of the processes."""
    folder = tmp_path_factory.mktemp("processes")
    in_two_processes(work, folder)
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(2)]


def test_all_parameters_get_gradients(processes: list[dict[str, Any]]) -> None:
    first, second = (each["gradients"] for each in processes)
    for tasks in SUBSETS:
        assert all(torch.equal(first[tasks][name], grad) for name, grad in second[tasks].items())
        assert any(grad.any() for grad in first[tasks].values())


def test_counts_are_summed_with_gradients_enabled(processes: list[dict[str, Any]]) -> None:
    for rank, each in enumerate(processes):
        assert each["count"] == {"count": 3.5 - rank, "together": (6, 2), "alone": (3.5 - rank, 1)}
        assert not each["count"]["together"][0].requires_grad


def test_count_of_a_single_process() -> None:
    number = torch.tensor(3)
    assert over_processes(number) == (number, 1)
    assert over_processes(number).total is number


def test_validation_loss_does_not_depend_on_other_processes(
    processes: list[dict[str, Any]],
) -> None:
    with torch.no_grad():
        expected = sum(tiny_model()(random_batch()).values()).item()
    assert [each["validation"] for each in processes] == [0, expected]
