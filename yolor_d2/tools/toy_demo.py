"""Train all tasks on toy scenes, evaluate, and draw the results.

    yolor-d2 demo [--minutes M] [--output DIR]

Prints an estimate of the time on this machine first, and a table with the time of each stage last.
Toy scenes are generated in DETECTRON2_DATASETS (default: datasets) and reused. The commands of the
other stages are printed, so you can repeat them. The output folder is overwritten.
"""

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tabulate import tabulate

from ..compat import dataset_root
from ..engine.launch.arguments import argument_parser
from ..engine.launch.processes import launch
from ..engine.main import main as train_or_evaluate
from ..engine.own_data import seconds_per_step
from ..model_zoo import load_config
from ..modeling.deploy import best_device
from ..toy_scenes.dataset import generate_toy_scenes
from . import check_data, draw_predictions, visualize_results
from .errors import one_line_errors

CONFIG = "toy/yolor_elan_n_toy.yaml"
SCENES: dict[str, Any] = {"train": 4000, "val": 200, "min_size": 32, "max_objects": 6}
TEST_SET = "toy_scenes_val"
MANY_STEPS = 1_000_000  # if the time is limited
TIMED = ["SOLVER.CPU", "timed"]  # for a network this small, more threads only cost CPU time

# Evaluation and pictures take about as long as this number of training steps.
STEPS_AFTERWARDS = 40

METRICS = {
    "box AP": "bbox/AP",
    "mask AP": "segm/AP",
    "mIoU": "sem_seg/mIoU",
    "PQ": "panoptic_seg/PQ",
    "CIDEr": "caption/CIDEr",
    "CIDEr of a true caption": "caption/sixth_CIDEr",
}
AT_THE_END = """\
{0}/pictures            true and predicted boxes, masks, maps and captions
{0}/results/index.html  best and worst images and captions
{0}/samples             what the network is trained on
{0}/curves.png          losses
{0}/metrics.json        all metrics"""


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--minutes", type=float, metavar="M", help="minutes of training; default: the full recipe"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("output/demo"), metavar="DIR", help="(output/demo)"
    )
    return parser


def parse_args(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser()
    args = parser.parse_args(arguments)
    if args.minutes is not None and not 0 < args.minutes < 1e6:
        parser.error("--minutes must be positive")
    return args


@one_line_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """Run all stages; returns the exit code of the last one."""
    args = parse_args(arguments)
    output = args.output
    limit: list[str] = []
    if args.minutes is not None:
        limit = ["SOLVER.MAX_MINUTES", f"{args.minutes:g}", "SOLVER.MAX_ITER", str(MANY_STEPS)]
    stages = Stages()
    with stages.measured("toy scenes"):
        make_scenes(dataset_root() / "toy_scenes")
    with stages.measured("estimate of the time"):
        print(f"{estimate(output, args.minutes)}\n{AT_THE_END.format(output)}", flush=True)
    for command in commands(output, limit):
        with stages.measured(command.stage):
            print(f"$ {command}", flush=True)
            if code := command.run(command.arguments):
                return code
    print(f"\n{stages.table()}\n\n{metrics_table(output, args.minutes)}")
    print(f"\n{AT_THE_END.format(output)}")
    return 0


class Command(NamedTuple):
    """A stage that is a command."""

    stage: str
    program: str
    run: Callable[[Sequence[str]], int]
    arguments: list[str]

    def __str__(self) -> str:
        return f"{self.program} {shlex.join(self.arguments)}"


def commands(output: Path, limit: Sequence[str]) -> list[Command]:
    """The commands after the scenes.

    Args:
        output: folder of the run.
        limit: KEY VALUE pairs of the training.
    """
    config = ["--config-file", CONFIG]
    folder = ["OUTPUT_DIR", str(output)]
    weights = ["MODEL.WEIGHTS", str(output / "model_final.pth")]
    tools = "python -m yolor_d2.tools"
    return [
        Command(
            "check of the scenes",
            "yolor-d2 check-data",
            check_data.main,
            ["--dataset", TEST_SET, "--workers", "0"],
        ),
        Command(
            "training",
            "yolor-d2 train",
            run_training,
            [*config, "--overwrite", *folder, "TEST.EVAL_PERIOD", "-1", *TIMED, *limit],
        ),
        Command("evaluation", "yolor-d2 eval", run_evaluation, [*config, *folder, *weights]),
        Command(
            "pictures",
            f"{tools}.draw_predictions",
            draw_predictions.main,
            [*config, "--output", str(output / "pictures"), "--number", "12", *weights],
        ),
        Command(
            "page of results",
            f"{tools}.visualize_results",
            visualize_results.main,
            [
                *config,
                *("--results", str(output / "inference" / TEST_SET)),
                *("--output", str(output / "results")),
            ],
        ),
    ]


def make_scenes(folder: Path) -> None:
    """Make the scenes, unless they exist."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    generate_toy_scenes(folder, **SCENES, workers=cores or 1, keep=True)
    print(f"{SCENES['train']} + {SCENES['val']} images in {folder}", flush=True)


def estimate(output: Path, minutes: float | None) -> str:
    """Return a line about the time of the remaining stages, after some steps on this machine."""
    cfg = load_config(CONFIG, ["MODEL.DEVICE", best_device(), "OUTPUT_DIR", str(output)])
    seconds = seconds_per_step(cfg)
    training = 60 * minutes if minutes else cfg.SOLVER.MAX_ITER * seconds
    afterwards = STEPS_AFTERWARDS * seconds
    steps = f"about {training / seconds:.0f}" if minutes else f"{cfg.SOLVER.MAX_ITER}"
    return (
        f"This takes about {duration(training + afterwards)} on this machine: training "
        f"{duration(training)} ({steps} steps of {seconds:.2f} s), evaluation and pictures "
        f"{duration(afterwards)}. At the end:"
    )


def duration(seconds: float) -> str:
    """Return a rough duration as text."""
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def run_training(arguments: Sequence[str]) -> int:
    """Run train_net.py."""
    launch(train_or_evaluate, argument_parser().parse_args(arguments))
    return 0


def run_evaluation(arguments: Sequence[str]) -> int:
    """Run train_net.py with --eval-only."""
    return run_training(["--eval-only", *arguments])


class Stages:
    """Measures the seconds and the CPU seconds of stages, with those of finished processes."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, float, float]] = []

    @contextmanager
    def measured(self, stage: str) -> Iterator[None]:
        print(f"\n== {stage}", flush=True)
        start, cpu_start = time.monotonic(), cpu_seconds()
        yield
        self._rows.append((stage, time.monotonic() - start, cpu_seconds() - cpu_start))

    def table(self) -> str:
        """Return the table of all stages."""
        total = sum(seconds for _, seconds, _ in self._rows)
        rows = [*self._rows, ("together", total, sum(cpu for *_, cpu in self._rows))]
        cells = [[name, f"{s:.0f}", f"{s / total:.0%}", f"{c:.0f}"] for name, s, c in rows]
        return tabulate(
            cells,
            headers=["stage", "seconds", "share", "CPU seconds"],
            tablefmt="pipe",
            disable_numparse=True,
            colalign=("left", "right", "right", "right"),
        )


def cpu_seconds() -> float:
    """Return the CPU time of this process and of finished child processes."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def metrics_table(output: Path, minutes: float | None) -> str:
    """Return the main metrics of the evaluation as a table."""
    metrics = json.loads((output / "metrics.json").read_text())
    values = {name: metrics[key] for name, key in METRICS.items()}
    cells = ["-" if value is None else f"{value:.2f}" for value in values.values()]
    table = tabulate([cells], headers=list(METRICS), tablefmt="pipe", disable_numparse=True)
    if minutes:
        table += (
            f"\nafter {minutes:g} minutes of training; the README's numbers are of the full recipe"
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
