"""Two processes learn as one, whatever each of them knows."""

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
    """The second process has no objects, and no other targets either."""
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
        for _ in range(2):  # the second step fails when the first one left a parameter out
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
    """Only the second process has anything left: it does not wait for the other one."""
    if comm.get_rank() == 0:
        return 0.0
    with torch.no_grad():
        return sum(tiny_model()(random_batch()).values()).item()


def work(output: Path) -> None:
    """In each of the processes."""
    torch.set_num_threads(1)  # two processes with as many threads as CPUs wait for each other
    done = {"gradients": train_two_steps(), "count": count(), "validation": validate()}
    torch.save(done, output / f"rank{comm.get_rank()}.pt")


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each process has done."""
    folder = tmp_path_factory.mktemp("processes")
    in_two_processes(work, folder)
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(2)]


def test_no_parameter_is_left_out(processes: list[dict[str, Any]]) -> None:
    first, second = (each["gradients"] for each in processes)
    for tasks in SUBSETS:
        assert all(torch.equal(first[tasks][name], grad) for name, grad in second[tasks].items())
        assert any(grad.any() for grad in first[tasks].values())


def test_counts_are_added_up_where_there_are_gradients(processes: list[dict[str, Any]]) -> None:
    for rank, each in enumerate(processes):
        assert each["count"] == {"count": 3.5 - rank, "together": (6, 2), "alone": (3.5 - rank, 1)}
        assert not each["count"]["together"][0].requires_grad


def test_a_single_process_counts_for_itself() -> None:
    number = torch.tensor(3)
    assert over_processes(number) == (number, 1)
    assert over_processes(number).total is number


def test_validation_is_of_the_process_alone(processes: list[dict[str, Any]]) -> None:
    with torch.no_grad():
        expected = sum(tiny_model()(random_batch()).values()).item()
    assert [each["validation"] for each in processes] == [0, expected]
