"""Two processes learn as one, whatever each of them knows."""

from pathlib import Path

import torch
from detectron2.engine import launch
from detectron2.utils import comm
from torch.nn.parallel import DistributedDataParallel

from yolor_d2.tasks import TASKS

from .factory import random_batch, random_instances, tiny_model

SUBSETS = (TASKS, ("semantic", "caption"))


def train_two_steps(output: Path) -> None:
    """In one of the processes. The second one has no objects, and no other targets either."""
    torch.set_num_threads(1)  # two processes with as many threads as CPUs wait for each other
    batch = random_batch(seed=comm.get_rank())
    if comm.get_rank() == 1:
        nothing = random_instances(0, size=(64, 96), rng=torch.Generator())
        batch = [
            {"image": s["image"], "weak_image": s["weak_image"], "instances": nothing}
            for s in batch
        ]
    gradients = {}
    for tasks in SUBSETS:
        model = DistributedDataParallel(tiny_model(tasks), find_unused_parameters=False)
        for _ in range(2):  # the second step fails when the first one left a parameter out
            sum(model(batch).values()).backward()
        gradients[tasks] = {name: p.grad for name, p in model.named_parameters()}
    torch.save(gradients, output / f"rank{comm.get_rank()}.pt")


def test_no_parameter_is_left_out(tmp_path: Path) -> None:
    launch(train_two_steps, 2, dist_url="auto", args=(tmp_path,))

    first, second = (torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2))

    for tasks in SUBSETS:
        assert all(torch.equal(first[tasks][name], grad) for name, grad in second[tasks].items())
        assert any(grad.any() for grad in first[tasks].values())
