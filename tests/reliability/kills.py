"""Kills of processes at random moments: the resumed run ends like an undisturbed one."""

import os
import random
import shutil
import signal
import time
from collections import Counter
from typing import Any

from yolor_d2.checkpoint.run_folder import RunFolder

from ..processes import is_alive
from .options import Options
from .runs import Small, children, finished, members, toy_data

STEPS_PER_KILL = 4  # a run must not end before its last kill
WORKERS = ("DATALOADER.NUM_WORKERS", 1)
TWO = ("--num-gpus", "2", "--dist-url", "auto")
VARIANTS: dict[str, tuple[tuple[Any, ...], tuple[str, ...]]] = {
    "with EMA": (WORKERS, ()),
    "without EMA": ((*WORKERS, "SOLVER.EMA.ENABLED", False), ()),
    "2 batches a step": ((*WORKERS, "SOLVER.ACCUM_STEPS", 2), ()),
    "captions by rewards": ((*WORKERS, "MODEL.CAPTION_HEAD.SCST.SAMPLES", 2), ()),
    "2 processes": ((), TWO),
}
CASES = tuple(VARIANTS)
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
# What is killed, and with which signals. A run starts anew for each kill.
ALONE = [("main", each) for each in SIGNALS] + [("worker", signal.SIGKILL)]
ALONE += [("start", each) for each in SIGNALS]  # before training, in the first seconds
TOGETHER = [("rank", signal.SIGKILL)] + [("launcher", each) for each in SIGNALS]
TOGETHER += [("start", each) for each in SIGNALS]
START_SECONDS = 8.0


def run(case: str, options: Options) -> list[dict[str, Any]]:
    """The row of a variant."""
    toy_data(options.folder / "datasets")
    keys, flags = VARIANTS[case]
    kills = max(1, options.count // len(CASES))
    steps = ("SOLVER.MAX_ITER", STEPS_PER_KILL * kills, "SOLVER.CHECKPOINT_PERIOD", 1)
    more = ("TEST.EVAL_PERIOD", 2 * kills, "TEST.LOSS_PERIOD", kills)
    home = options.folder / "kills" / case.replace(" ", "_")
    straight, broken = (
        Small(home / f"{name}{options.seed}", (*keys, *steps, *more), flags)
        for name in ("straight", "broken")
    )
    shutil.rmtree(home, ignore_errors=True)  # of a call that was interrupted
    is_alone = not flags
    if straight.finish(fork=is_alone):
        return [{"run": case, "result": f"undisturbed: {straight.last_line()}"}]
    rng = random.Random(f"{options.seed} {case}")
    plan = (ALONE if is_alone else TOGETHER) * kills
    counts: Counter[str] = Counter()
    for number, (what, signum) in enumerate(rng.sample(plan, kills)):
        killed, problem = kill(broken, what, signum, rng, is_first=not number, fork=is_alone)
        if problem:
            return [{"run": case, "result": f"{what}, {signum.name}: {problem}"}]
        counts.update([what, signum.name, "kills"] if killed else [])
    code = broken.finish(resume=True, fork=is_alone)
    result = broken.differences(straight) if code == 0 else broken.last_line()
    if not result and list(broken.folder.glob(".*.tmp")):
        result = "temporary files are left"
    names = ("kills", *(each.name for each in SIGNALS), "start", "main", "worker")
    columns = {name: counts[name] for name in (*names, "rank", "launcher")}
    return [{"run": case, **columns, "result": result or "ok"}]


def kill(
    run: Small, what: str, signum: signal.Signals, rng: random.Random, *, is_first: bool, fork: bool
) -> tuple[bool, str]:
    """Start or resume a run and kill one of its processes.

    Returns:
        Whether a process was killed, and what went wrong after it.
    """
    is_start = what == "start"
    before = RunFolder(run.folder).regular()
    session = run.start(resume=bool(before) or not is_first, fork=fork and not is_start)
    if is_start:
        time.sleep(rng.uniform(0, START_SECONDS))
    else:
        while RunFolder(run.folder).regular() == before and is_alive(session):
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.3))
    if not is_alive(session):
        return False, "" if finished(session) == 0 else run.last_line()
    victims = {"worker": children, "rank": ranks}.get(what, lambda pid: [pid])(session)
    os.kill(rng.choice(victims or [session]), signum)
    if finished(session) == 0:
        return True, "the exit code is 0"
    end = time.monotonic() + 60
    while left := members(session):
        if time.monotonic() > end:
            return True, f"{len(left)} processes are left"
        time.sleep(0.05)
    return True, "" if not run.is_locked() else "the folder is locked"


def ranks(launcher: int) -> list[int]:
    """The training processes that a launcher has started."""
    return [pid for pid in children(launcher) if "spawn_main" in command(pid)]


def command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline") as file:
            return file.read()
    except OSError:
        return ""
