"""Results of a model on data sets."""

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from detectron2.evaluation import (
    DatasetEvaluator,
    DatasetEvaluators,
    inference_on_dataset,
)
from detectron2.utils import comm
from torch import nn

from ..evaluation.report import write_report
from ..modeling import to_channels_last
from .launch import signals

logger = logging.getLogger(__name__)

Results = dict[str, Any]


class Examination(NamedTuple):
    """What a model is asked, and who says how good the answers are; made when they are needed."""

    loader: Callable[[], Any]
    evaluator: Callable[[], DatasetEvaluator]


def examine(
    model: nn.Module, examinations: Mapping[str, Examination], *, output_dir: str
) -> Results:
    """Evaluate a model that is in evaluation mode, and report.

    Args:
        model: gives a result for each sample of a batch.
        examinations: by the names of data sets.
        output_dir: gets metrics.json and more.

    Returns:
        On the main process, the results of the data set, or of each by its name if there are
        several; else nothing.
    """
    if next(model.parameters()).device.type == "cpu":
        model = to_channels_last(model)
    results: Results = {}
    for name, examination in examinations.items():
        evaluator = InterruptibleEvaluator(examination.evaluator())
        loader = InterruptibleLoader(examination.loader())
        found = inference_on_dataset(model, loader, evaluator)
        if comm.is_main_process():
            results[name] = found
            write_report(found, Path(output_dir), dataset_name=name)
    return next(iter(results.values())) if len(results) == 1 else results


class InterruptibleLoader:
    """A loader that ends early when a signal has asked the process to stop."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        for batch in self.loader:
            if signals.requested() is not None:
                return
            yield batch


class InterruptibleEvaluator(DatasetEvaluators):
    """Evaluators, before each of which all processes end when one of them has been asked to stop.

    What is evaluated in training has been saved before.
    """

    def __init__(self, evaluator: DatasetEvaluator) -> None:
        is_one = type(evaluator) is not DatasetEvaluators
        parts = [evaluator] if is_one else evaluator._evaluators
        super().__init__([each for part in parts for each in (_Gate(), part)])


class _Gate(DatasetEvaluator):
    """Stands between evaluators, and has no results."""

    def evaluate(self) -> None:
        obey_signals()


def obey_signals() -> None:
    """End all processes if one of them has been asked to; all of them have to come here."""
    if any(comm.all_gather(signals.requested() is not None)):
        logger.info("stopped by a signal while evaluating; --resume does it again and goes on")
        raise signals.Interrupted
