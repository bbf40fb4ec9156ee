"""A long run with evaluation and pictures: memory, open files and threads stay flat."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import HookBase

from yolor_d2.engine.trainer import Trainer

from ..small_runs import small_config
from .options import Options
from .runs import SETS, children, toy_data

CASES = ("soak",)
ROWS = 10
WARM = 3  # rows before which memory may grow
GROWTH = 1.05


class Measure(HookBase):
    """Adds a row at intervals, after the evaluation of the same step."""

    def __init__(self, period: int) -> None:
        self.period = period
        self.rows: list[dict[str, Any]] = []

    def after_step(self) -> None:
        steps = self.trainer.iter + 1
        if steps % self.period == 0:
            self.rows.append({"steps": steps, **usage()})


def run(case: str, options: Options) -> list[dict[str, Any]]:
    """A row for each tenth of the steps."""
    torch.set_num_threads(1)
    toy_data(options.folder / "datasets")
    period = max(1, options.count // ROWS)
    cfg = small_config(
        *(SETS, options.folder / "soak", "SOLVER.MAX_ITER", options.count),
        *("TEST.EVAL_PERIOD", period, "SOLVER.CHECKPOINT_PERIOD", max(1, period // 2)),
        *("LOG.PICTURES", 4, "LOG.CURVES", True, "DATALOADER.NUM_WORKERS", 1),
        *("TEST.LOSS_PERIOD", period, "SOLVER.MAX_MINUTES", options.seconds / 60),
    )
    measure = Measure(period)
    trainer = Trainer(cfg)
    trainer.register_hooks([measure])
    trainer.train()
    measure.rows[-1]["result"] = ", ".join(grown(measure.rows)) or "ok"
    return measure.rows


def grown(rows: Sequence[Mapping[str, int]]) -> list[str]:
    """What is more in the last row than in any of the first rows."""
    first, last = rows[:WARM], rows[-1]
    factors = {"memory (MB)": GROWTH}
    return [
        name
        for name in usage()
        if last[name] > max(row[name] for row in first) * factors.get(name, 1)
    ]


def usage() -> dict[str, int]:
    """Resources of this process and its children."""
    everyone = [os.getpid(), *children(os.getpid())]
    return {
        "memory (MB)": round(sum(map(memory, everyone)) / 1e6),
        "processes": len(everyone),
        "open files": sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in everyone),
        "threads": sum(len(os.listdir(f"/proc/{pid}/task")) for pid in everyone),
        "shared memory files": len([name for name in os.listdir("/dev/shm") if "torch" in name]),
    }


def memory(pid: int) -> int:
    """Resident bytes, with a share of those that several processes use."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"process {pid} has no Pss")
