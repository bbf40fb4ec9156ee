"""Disks that are full, files that vanish, clocks that jump, and one folder for two runs."""

import os
import random
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from yolor_d2.checkpoint.run_folder import RunFolder
from yolor_d2.toy_scenes.dataset import generate_toy_scenes

from ..processes import is_alive
from .options import Options
from .runs import Small, finished, toy_data

Result = tuple[str, str]  # how it ended; "ok" or what is wrong
DISK = "64m"
FILLER = "filler"
IMAGES = 60  # two of them are below the allowed share of bad files
# Every image is read again after the first checkpoint.
EPOCHS = ("SOLVER.MAX_ITER", 60, "SOLVER.CHECKPOINT_PERIOD", 20, "TEST.EVAL_PERIOD", -1)
EPOCHS += ("DATALOADER.IMAGE_CACHE_MB", 0)
DAY = 86_400.0
NOT_PERMITTED = ("not measured: this user must not mount a disk", "ok")


def run(case: str, options: Options) -> list[dict[str, Any]]:
    """The row of a case."""
    toy_data(options.folder / "datasets")
    home = options.folder / "disks"
    straight = small(home / "straight", options)
    if not (straight.folder / "metrics.json").is_file() and straight.finish():
        raise RuntimeError(f"the undisturbed run failed: {straight.last_line()}")
    broken = small(home / re.sub(r"\W+", "_", case), options)
    shutil.rmtree(broken.folder, ignore_errors=True)  # of a call that was interrupted
    broken.terminal.unlink(missing_ok=True)
    ending, result = KINDS[case](broken, straight)
    return [{"case": case, "ends with": ending.replace(str(home), "..."), "result": result}]


def small(folder: Path, options: Options) -> Small:
    steps = options.count
    keys = ("SOLVER.MAX_ITER", steps, "SOLVER.CHECKPOINT_PERIOD", 1, "TEST.EVAL_PERIOD", steps // 2)
    return Small(folder, (*keys, "LOG.PICTURES", 2, "LOG.CURVES", True, "LOG.PERIOD", 1))


@contextmanager
def disk(folder: Path, options: str = f"size={DISK}") -> Iterator[bool]:
    """Mount a small disk at a folder; yields whether that is permitted."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    is_mounted = subprocess.run(command, check=False, capture_output=True).returncode == 0
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Write a file until the disk is full."""
    with (folder / FILLER).open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass


def full_disk(broken: Small, straight: Small, *, checkpoints: int) -> Result:
    """The disk is full after some checkpoints; then there is space again, and the run goes on."""
    with disk(broken.folder) as is_mounted:
        if not is_mounted:
            return NOT_PERMITTED
        if not checkpoints:
            fill(broken.folder)
        process = broken.start()
        if checkpoints:
            wait_for_checkpoints(broken, process, checkpoints)
            fill(broken.folder)
        code = finished(process)
        ending = ending_of(broken, code)
        (broken.folder / FILLER).unlink()
        problem = problem_of(broken)
        is_begun = bool(RunFolder(broken.folder).regular())
        again = 0
        if code or not checkpoints:
            again = broken.finish(resume=is_begun)
        result = broken.differences(straight) if again == 0 else f"then: {broken.last_line()}"
        return ending, problem or result or "ok"


def wait_for_checkpoints(run: Small, process: int, number: int) -> None:
    """Wait until a run has saved this number of checkpoints; it keeps two."""
    seen: set[str] = set()
    while len(seen) < number and is_alive(process):
        seen |= {path.name for path in RunFolder(run.folder).regular()}
        time.sleep(0.005)


def read_only(broken: Small, straight: Small) -> Result:
    with disk(broken.folder, "ro") as is_mounted:
        if not is_mounted:
            return NOT_PERMITTED
        code = broken.finish()
        return ending_of(broken, code), problem_of(broken) or ("ok" if code else "not ok")


def vanishing(broken: Small, straight: Small, *, images: int) -> Result:
    """Half of the images are deleted during the run, the others are cut off."""
    data = broken.folder.parent / f"data{images}"
    shutil.rmtree(data, ignore_errors=True)
    generate_toy_scenes(
        data / "toy_scenes", train=IMAGES, val=5, width=96, height=64, max_size=50, progress=False
    )
    environment = {"DETECTRON2_DATASETS": str(data)}
    broken = broken._replace(keys=(*broken.keys, *EPOCHS))
    process = broken.start(fork=False, prepare=lambda: os.environ.update(environment))
    wait_for_checkpoints(broken, process, 1)
    for number, path in enumerate(sorted((data / "toy_scenes/train").iterdir())[:images]):
        if number % 2:
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:100])
    code = finished(process)
    problem = problem_of(broken)
    bad_files = broken.folder / "bad_files.txt"
    listed = len(bad_files.read_text().splitlines()) if bad_files.is_file() else 0
    ending = f"{ending_of(broken, code)}, {listed} images are listed"
    is_expected = (code == 0) == (images < IMAGES) and listed
    return ending, problem or ("ok" if is_expected else "not as expected")


def jumping_clock(broken: Small, straight: Small) -> Result:
    """The clock jumps by a day, forward or back, at each call."""

    def jump() -> None:
        rng, now = random.Random(0), time.time
        time.time = lambda: now() + rng.choice((-DAY, 0, DAY))

    code = broken.finish(prepare=jump)
    result = broken.differences(straight) if code == 0 else broken.last_line()
    return ending_of(broken, code), result or "ok"


def at_once(broken: Small, straight: Small) -> Result:
    """Two runs start in one folder; one of them is refused."""
    codes = sorted(map(finished, [broken.start(), broken.start()]))
    ending = f"exit codes {codes[0]} and {codes[1]}; {ending_of(broken, codes[1])}"
    if codes[0] != 0 or codes[1] == 0:
        return ending, "not exactly one has finished"
    return ending, problem_of(broken) or broken.differences(straight) or "ok"


def ending_of(run: Small, code: int) -> str:
    """The exit code and the error, if any."""
    text = run.terminal.read_text(errors="replace")
    errors = re.findall(r"^\S+\.py: (.+)", text, re.MULTILINE)
    return f"exit code {code}" + (f": {errors[-1][:150]}" if code and errors else "")


def problem_of(run: Small) -> str:
    """What users must not see; "" if they do not."""
    text = run.terminal.read_text(errors="replace")
    return "a traceback is printed" if "Traceback" in text else ""


KINDS: dict[str, Callable[[Small, Small], Result]] = {
    "full disk before the start": partial(full_disk, checkpoints=0),
    "full disk after 1 checkpoint": partial(full_disk, checkpoints=1),
    "full disk after 2 checkpoints": partial(full_disk, checkpoints=2),
    "full disk after 3 checkpoints": partial(full_disk, checkpoints=3),
    "read-only folder": read_only,
    f"2 of {IMAGES} images vanish": partial(vanishing, images=2),
    "all images vanish": partial(vanishing, images=IMAGES),
    "the clock jumps by days": jumping_clock,
    "two runs in one folder at once": at_once,
}
CASES = tuple(KINDS)
