"""Runs that should be equal, and how much they differ."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from detectron2.utils import comm

from ..engine.test_resume import run as train
from ..processes import in_two_processes
from ..small_runs import small_config
from .options import Options
from .runs import SETS, toy_data

GRADUALLY = ("SOLVER.CHECKPOINT_PERIOD", 1)


class Outcome(NamedTuple):
    """The total loss of each step, and the final weights, averages and optimizer by name."""

    losses: dict[int, float]
    tensors: dict[str, torch.Tensor]


def run(case: str, options: Options) -> list[dict[str, Any]]:
    """The row of a case."""
    torch.set_num_threads(1)
    toy_data(options.folder / "datasets")
    folder = options.folder / "equality" / case.replace(" ", "_")
    folder.mkdir(parents=True, exist_ok=True)
    expected = straight(options.folder / "equality", options.count)
    found = KINDS[case](folder, options.count)
    assert found.losses.keys() == expected.losses.keys()
    assert found.tensors.keys() == expected.tensors.keys()
    losses = max(abs(found.losses[step] - loss) for step, loss in expected.losses.items())
    names = {name.partition(".")[0] for name in expected.tensors}
    largest = {
        name: max(
            (found.tensors[key].double() - value.double()).abs().max().item()
            for key, value in expected.tensors.items()
            if key.startswith(f"{name}.") and value.numel()
        )
        for name in sorted(names)
    }
    is_exact = case not in CLOSE
    row = {"run": case, "steps": options.count, "loss": losses, **largest}
    failed = is_exact and any([losses, *largest.values()])
    formatted = {k: f"{v:.1e}" if v else "0" for k, v in row.items() if isinstance(v, float)}
    return [row | formatted | {"result": "differs" if failed else "ok"}]


@cache
def straight(folder: Path, steps: int) -> Outcome:
    """The run that others are compared with: one process, which loads its data itself."""
    return alone(folder / "straight", steps)


def alone(folder: Path, steps: int, *, workers: int = 0, stop_after: int = 0) -> Outcome:
    cfg = small_config(SETS, folder, "SOLVER.MAX_ITER", steps, *GRADUALLY)
    cfg.DATALOADER.NUM_WORKERS = workers
    first: dict[int, float] = {}
    if stop_after:
        _, first = train(cfg, kill_after=stop_after)
    trainer, losses = train(cfg, resume=bool(stop_after))
    return Outcome(first | losses, tensors_of(trainer.checkpoint()))


def together(folder: Path, steps: int) -> Outcome:
    in_two_processes(train_share, folder, steps)
    return Outcome(*torch.load(folder / "outcome.pt"))


def train_share(folder: Path, steps: int) -> None:
    """Train in one of two processes; the losses are means over both."""
    torch.set_num_threads(1)
    trainer, losses = train(small_config(SETS, folder, "SOLVER.MAX_ITER", steps))
    content = trainer.checkpoint()
    if comm.is_main_process():
        torch.save([losses, tensors_of(content)], folder / "outcome.pt")


def tensors_of(content: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Tensors of numbers of weights, averages and optimizer, by their paths."""

    def walk(value: Any, path: str) -> Any:
        if isinstance(value, torch.Tensor):
            yield path, value.detach().clone()
        elif isinstance(value, dict):
            for key, item in value.items():
                yield from walk(item, f"{path}.{key}")

    parts = {"weights": content["model"], "EMA": content["ema"], "optimizer": content["optimizer"]}
    return {name: value for part, each in parts.items() for name, value in walk(each, part)}


KINDS: dict[str, Callable[[Path, int], Outcome]] = {
    "same seed": alone,
    "1 worker": lambda folder, steps: alone(folder, steps, workers=1),
    "2 workers": lambda folder, steps: alone(folder, steps, workers=2),
    "3 workers": lambda folder, steps: alone(folder, steps, workers=3),
    "4 workers": lambda folder, steps: alone(folder, steps, workers=4),
    "resumed after half of the steps": lambda folder, steps: alone(
        folder, steps, stop_after=steps // 2
    ),
    "2 processes, the same global batch": together,
}
CASES = tuple(KINDS)
# Batch norms have the statistics of half of the batch, and sums another order.
CLOSE = {"2 processes, the same global batch"}
