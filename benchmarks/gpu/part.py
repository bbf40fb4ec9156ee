"""A part of the benchmark, in a process of its own: `python -m benchmarks.gpu.part FILE`."""

import json
import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from yolor_d2.engine.launch.arguments import import_modules

from ..model import make_setting
from ..model_setting import Result, Setting, calibrate, cpu_threads, random_images
from . import checks, measurements, processes
from .facts import gpu_facts
from .measurements import SkippedError

Part = Callable[[Setting], Iterator[Result]]

# In the order of their importance; compiling takes longest, and comes last. With the share of the
# remaining time that a part may take.
PARTS: dict[str, tuple[Part, float]] = {
    "parity": (checks.check_parity, 0.2),
    "steps": (measurements.measure_steps, 0.25),
    "forward": (measurements.measure_forward_pass, 0.25),
    "resume": (checks.check_resume, 0.25),
    "precision": (checks.check_precision, 0.25),
    "evaluation": (measurements.measure_evaluation, 0.25),
    "decoding": (measurements.measure_decoding, 0.25),
    "processes": (processes.measure_processes, 0.35),
    "loader": (measurements.measure_loader, 0.35),
    "memory": (measurements.measure_memory_of_losses, 0.5),
    "compiled": (measurements.measure_compiled, 1.0),
}


def run_part(part: Part, setting: Setting, save: Callable[[dict[str, Any]], None]) -> None:
    """Run a part and save its results after each of them, and its error in one line."""
    found: dict[str, Any] = {"tables": [], "aims": []}
    start = time.monotonic()
    try:
        for result in part(setting):
            for key, values in result.as_json().items():
                found[key].extend(values)
            found["seconds"] = round(time.monotonic() - start, 1)
            save(found)
    except SkippedError as error:
        found["skipped"] = str(error)
    except Exception as error:  # the other parts go on
        found["error"] = one_line(error)
    found["seconds"] = round(time.monotonic() - start, 1)
    found["gpu"] = gpu_facts(setting.device).get("nvidia-smi", [])  # clocks while it is warm
    save(found)


def one_line(error: BaseException) -> str:
    """The type and the first line of an error."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file so that it is complete whenever it is read."""
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def main(request_file: str) -> None:
    """Run the part of a request, a JSON file."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # for deterministic()
    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    args = Namespace(**request["args"])
    import_modules(args.modules)
    setting = make_setting(args)
    images = random_images(1, setting.size, setting.size, setting.device)
    calibrate(setting.model, lambda: setting.model.raw_outputs(images))
    result = Path(request["result"])
    with cpu_threads(args.threads):
        run_part(PARTS[request["part"]][0], setting, lambda found: write_json(result, found))


if __name__ == "__main__":
    main(sys.argv[1])
