"""Graphs in files as functions of named arrays; the suffix selects the runtime."""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
Graph = Callable[[Mapping[str, np.ndarray]], Arrays]  # inputs that it does not have are ignored


def open_onnx(path: Path, threads: int) -> Graph:
    """Open a graph with onnxruntime; 0 threads are its default."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(path, options)
    inputs = [each.name for each in session.get_inputs()]
    outputs = [each.name for each in session.get_outputs()]

    def run(feeds: Mapping[str, np.ndarray]) -> Arrays:
        results = session.run(outputs, {name: feeds[name] for name in inputs})
        return dict(zip(outputs, results, strict=True))

    return run


@cache
def openvino_core() -> Any:
    """The only Core of the process.

    A Core replaces the stack of signal handlers on some processors, and restores the earlier one
    when it is freed. With two, that can be the freed stack of the other: the next signal crashes.
    """
    import openvino

    return openvino.Core()


def open_openvino(path: Path, threads: int) -> Graph:
    """Open a graph with OpenVINO on the CPU; 0 threads are its default."""
    # Without the hint, CPUs with bfloat16 compute in it, and results differ from the network's.
    settings: dict[str, str | int] = {"INFERENCE_PRECISION_HINT": "f32"}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    compiled = openvino_core().compile_model(path, "CPU", settings)
    # Several names, if OpenVINO has removed an operator that does not change its input.
    inputs = [each.names for each in compiled.inputs]
    outputs = [each.names for each in compiled.outputs]

    def run(feeds: Mapping[str, np.ndarray]) -> Arrays:
        results = compiled(
            [next(feeds[name] for name in names if name in feeds) for names in inputs]
        )
        arrays = [np.array(results[index]) for index in range(len(outputs))]
        return {name: a for names, a in zip(outputs, arrays, strict=True) for name in names}

    return run


RUNTIMES = {".onnx": open_onnx, ".xml": open_openvino}


class RunnerError(ValueError):
    """A graph cannot be opened. The code is explained in yolor_d2's docs/troubleshooting.md."""

    code = "EXPORT"


def open_graph(path: Path, *, threads: int = 0) -> Graph:
    """Open a graph with the runtime of its format.

    Raises:
        RunnerError: there is no such file, it is damaged, or no runtime opens its format; by the
            graph: it does not take its inputs.
    """
    if not path.is_file():
        raise RunnerError(f"{path}: no such file")
    if path.suffix not in RUNTIMES:
        raise RunnerError(f"{path}: the runner opens {' and '.join(RUNTIMES)} only")
    try:
        graph = RUNTIMES[path.suffix](path, threads)
    except ImportError:
        raise
    except Exception as error:  # runtimes have errors of their own
        raise RunnerError(_line(path, error)) from error

    def run(feeds: Mapping[str, np.ndarray]) -> Arrays:
        try:
            return graph(feeds)
        except Exception as error:
            raise RunnerError(_line(path, error)) from error

    return run


def _line(path: Path, error: Exception) -> str:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"{path}: {reason}"
