"""Evaluation of a model on data sets."""

import logging
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from detectron2.evaluation import DatasetEvaluator, inference_on_dataset
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm
from torch import nn

from ..evaluation.evaluator_list import EvaluatorList
from ..evaluation.report import headline, write_report
from ..files import json_number
from ..modeling import to_channels_last
from .launch import signals

logger = logging.getLogger(__name__)

Results = dict[str, Any]


class EvaluationJob(NamedTuple):
    """Factories of the loader and the evaluator of a data set.

    As in detectron2, an evaluator of None only runs the model, and a factory that raises
    NotImplementedError skips the data set.
    """

    loader: Callable[[], Any]
    evaluator: Callable[[], DatasetEvaluator | None]


def evaluate_datasets(
    model: nn.Module, jobs: Mapping[str, EvaluationJob], *, output_dir: str
) -> Results:
    """Evaluate a model that is in evaluation mode, and write reports.

    Args:
        model: returns a result for each sample of a batch.
        jobs: by the names of data sets.
        output_dir: folder for metrics.json and other reports.

    Returns:
        On the main process, the results of the data set, or a dictionary of results by data set
        name if there are several. On other processes, {}.
    """
    if all(parameter.device.type == "cpu" for parameter in model.parameters()):
        model = to_channels_last(model)
    results: Results = {}
    for name, job in jobs.items():
        found: Results = {}
        try:
            evaluator = interruptible(job.evaluator())
        except NotImplementedError as error:
            logger.warning("%s is not evaluated: %s", name, str(error).strip() or "no evaluator")
        else:
            loader = InterruptibleLoader(job.loader())
            found = inference_on_dataset(model, loader, evaluator)
        if comm.is_main_process():
            results[name] = found
            write_report(found, Path(output_dir), dataset_name=name)
    return next(iter(results.values())) if len(results) == 1 else results


def scalars(results: Results) -> dict[str, float | None]:
    """The metrics that are not of one class, by names such as "bbox/AP"; None for missing ones."""
    numbers = flatten_results_dict(headline(results))
    return {name: json_number(number) for name, number in numbers.items()}


def verify(results: Results, expected: Sequence[Sequence[Any]]) -> None:
    """Exit with an error if results differ from (task, metric, value, tolerance) tuples.

    For several data sets, a task is "<data set>/<task>".
    """
    if not expected or not comm.is_main_process():
        return
    found = flatten_results_dict(results)
    wrong = []
    for task, metric, value, tolerance in expected:
        actual = found.get(f"{task}/{metric}", math.nan)
        if not abs(actual - value) <= tolerance:
            wrong.append(f"{task}/{metric} is {actual}, not {value} +- {tolerance}")
    if wrong:
        logger.error("TEST.EXPECTED_RESULTS: %s", "; ".join(wrong))
        sys.exit(1)
    logger.info("the results are those of TEST.EXPECTED_RESULTS")


class InterruptibleLoader:
    """A loader that ends early if a signal has asked the process to stop."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        for batch in self.loader:
            if signals.requested() is not None:
                return
            yield batch


def interruptible(evaluator: DatasetEvaluator | None) -> EvaluatorList:
    """Evaluators that end all processes between two of them if one process was asked to stop.

    During training the state has been saved before.
    """
    if evaluator is None:
        return EvaluatorList([])
    parts = evaluator.evaluators if isinstance(evaluator, EvaluatorList) else [evaluator]
    return EvaluatorList([each for part in parts for each in (_StopIfRequested(), part)])


class _StopIfRequested(DatasetEvaluator):
    """Stands between evaluators, and has no results."""

    def evaluate(self) -> None:
        stop_if_requested()


def stop_if_requested() -> None:
    """End all processes if one of them was asked to stop; all processes must call this."""
    if any(comm.all_gather(signals.requested() is not None)):
        logger.info("stopped by a signal while evaluating; --resume repeats the evaluation")
        raise signals.Interrupted
