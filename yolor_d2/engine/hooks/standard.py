"""The hooks that every run has, as its options say."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from detectron2.engine import HookBase, hooks
from detectron2.utils import comm
from detectron2.utils.events import EventWriter

from ..run import Run
from .best_checkpoint import BestCheckpoint
from .curves import MetricCurves
from .data_wait import DataWait
from .early_stop import EarlyStop
from .evaluation import Evaluation, SaveRegularly, WriteBefore
from .rewards import RewardMetrics
from .validation_loss import ValidationLoss


def standard_hooks(
    run: Run,
    *,
    evaluation: Evaluation,
    validation_loaders: Callable[[], Sequence[Iterable[Any]]],
    writers: Callable[[], Sequence[EventWriter]],
) -> list[HookBase]:
    """In the order in which they work.

    Args:
        run: that they belong to.
        evaluation: of its weights.
        validation_loaders: of samples to measure losses on, called if they are measured.
        writers: of the log, called on the main process.
    """
    options = run.options
    judges = run.set_judges(
        _judges(run, evaluation, validation_loaders),
        periods=[options.eval_period, options.loss_period],
    )
    before: list[HookBase] = [
        DataWait(limit=options.max_data_wait),
        *([] if run.reward is None else [RewardMetrics(run.reward)]),
        SaveRegularly(run.save_or_go_on, period=options.checkpoint_period, judges=judges),
    ]
    if not comm.is_main_process():
        return [*before, judges]
    made = writers()
    reports: list[HookBase] = [hooks.PeriodicWriter(made, period=options.log_period)]
    if options.curves:
        reports.append(MetricCurves(run.folder.path))
    return [*before, WriteBefore(made, judges=judges), judges, *reports]


def _judges(
    run: Run,
    evaluation: Evaluation,
    validation_loaders: Callable[[], Sequence[Iterable[Any]]],
) -> list[HookBase]:
    options = run.options
    judges: list[HookBase] = []
    if options.loss_period:
        judges.append(
            ValidationLoss(
                model=run.model,
                loaders=validation_loaders(),
                period=options.loss_period,
                ema=lambda: run.ema,  # it is made anew when weights are loaded
                autocast=run.autocast,
            )
        )
    judges.append(evaluation)
    if options.best_metric:
        judges.append(
            BestCheckpoint(
                save=run.save_best_or_go_on, metric=options.best_metric, mode=options.best_mode
            )
        )
    if options.stop_metric:
        judges.append(
            EarlyStop(
                metric=options.stop_metric,
                mode=options.stop_mode,
                patience=options.stop_patience,
            )
        )
    return judges
