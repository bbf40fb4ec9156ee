"""The command: parts in processes of their own, each with a limit of time."""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from yolor_d2.tools.options import positive

from ..model import DEFAULT_CONFIG
from ..options import add_device, add_repeats
from ..printing import chosen_device, device_name
from ..timing import machine_facts
from .facts import gpu_facts
from .part import PARTS, write_json
from .report import markdown

MIN_SECONDS = 20.0  # a part is not started with less
SETTINGS = ("config_file", "size", "batch", "train_batch", "memory_batch", "repeats", "threads")

PartRunner = Callable[[dict[str, Any], float], str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument(
        "--minutes", type=float, default=10.0, help="time for all parts together (10)"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("output/gpu"), metavar="DIR",
        help="folder of gpu.json and gpu.md, written after each part (output/gpu)",
    )  # fmt: skip
    parser.add_argument(
        "--parts", nargs="+", choices=list(PARTS), default=list(PARTS), metavar="PART",
        help=f"some of {', '.join(PARTS)} (all)",
    )  # fmt: skip
    parser.add_argument(
        "--config-file", metavar="FILE", help=f"network to measure ({DEFAULT_CONFIG})"
    )
    parser.add_argument("--size", type=positive, default=640, help="side of the images (640)")
    parser.add_argument(
        "--batch", type=positive, nargs="+", default=[1, 32], metavar="N",
        help="images in inference (1 32)",
    )  # fmt: skip
    parser.add_argument(
        "--train-batch", type=positive, nargs="+", default=[16], metavar="N",
        help="images of a training step (16)",
    )  # fmt: skip
    parser.add_argument(
        "--memory-batch", type=positive, default=32, metavar="N", help="images of loss memory (32)"
    )
    parser.add_argument(
        "--threads", type=positive, default=min(os.cpu_count() or 1, 16), help="CPU threads (16)"
    )
    add_repeats(parser)
    add_device(parser)


def run(args: argparse.Namespace, run_part: PartRunner | None = None) -> dict[str, Any]:
    """Run the parts, write and return the results.

    Args:
        args: of the command line.
        run_part: runs a request within a number of seconds and returns an error in one line; None:
            in a process of its own.
    """
    try:
        device = chosen_device(args.device)
    except ValueError as error:
        raise SystemExit(f"benchmark gpu: {error}") from None
    args.output.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {
        "machine": machine_facts(),
        "gpu": gpu_facts(device),
        "settings": {
            "device": device_name(device),
            **{key: getattr(args, key) for key in SETTINGS},
        },
        "parts": {},
    }
    end = time.monotonic() + 60 * args.minutes
    with tempfile.TemporaryDirectory() as folder:
        for name in args.parts:
            left = end - time.monotonic()
            limit = max(MIN_SECONDS, left * PARTS[name][1])
            file = Path(folder) / f"{name}.json"
            if left < MIN_SECONDS:
                found = {"error": "no time was left"}
            else:
                print(f"{name}: at most {min(limit, left):.0f} s", flush=True)
                request = {"part": name, "args": _part_args(args), "result": str(file)}
                failure = (run_part or _in_process)(request, min(limit, left))
                found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
                if failure:
                    found["error"] = failure
            results["parts"][name] = found
            _write(args.output, results)
    print(markdown(results))
    return results


def _part_args(args: argparse.Namespace) -> dict[str, Any]:
    keys = (*SETTINGS, "device")
    return {key: getattr(args, key) for key in keys} | {"modules": list(args.modules or ())}


def _in_process(request: dict[str, Any], limit: float) -> str:
    """Run a request; the error in one line, or "". A part's own error is in its results."""
    file = Path(request["result"]).with_suffix(".request")
    file.write_text(json.dumps(request), encoding="utf-8")
    command = [sys.executable, "-m", "benchmarks.gpu.part", str(file)]
    log = Path(request["result"]).with_suffix(".log")
    with (
        log.open("w", encoding="utf-8") as output,
        subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        ) as process,
    ):
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            return f"stopped after {limit:.0f} s"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # with the processes that it has started
    if code == 0:
        return ""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"ended with exit code {code}: {lines[-1] if lines else 'no output'}"


def _write(folder: Path, results: dict[str, Any]) -> None:
    write_json(folder / "gpu.json", results)
    (folder / "gpu.md").write_text(markdown(results), encoding="utf-8")
