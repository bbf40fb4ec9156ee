"""The hooks of every run, set up from its options."""

from detectron2.engine import HookBase, hooks
from detectron2.utils import comm

from ..optim.schedule import Schedule
from ..run import Run
from ..writers import ProgressPrinter
from .best_checkpoint import BestCheckpoint
from .curves import MetricCurves
from .data_wait import DataWait
from .early_stop import EarlyStop
from .evaluation import Evaluation, EvaluationHooks, SaveRegularly, WriteAroundEvaluation
from .progress import FirstSteps
from .rewards import RewardMetrics
from .samples import SamplePictures
from .time_limit import TimeLimit
from .validation_loss import ValidationLoss


def standard_hooks(run: Run) -> list[HookBase]:
    """The hooks of a run, in their order."""
    options = run.options
    periods = [options.eval_period] if _evaluates(run) else []
    if options.loss_period > 0:
        periods.append(options.loss_period)
    evaluation_hooks = EvaluationHooks(_evaluation_hooks(run), periods=periods)
    before: list[HookBase] = [
        *([TimeLimit(60 * options.max_minutes)] if options.max_minutes else []),
        *([] if isinstance(run.scheduler, Schedule) else [hooks.LRScheduler()]),
        DataWait(limit=options.max_data_wait),
        *([] if run.reward is None else [RewardMetrics(run.reward)]),
        SaveRegularly(
            run.try_save, period=options.checkpoint_period, evaluation_hooks=evaluation_hooks
        ),
    ]
    if not comm.is_main_process():
        return [*before, evaluation_hooks]
    writers = run.build_writers()
    if options.pictures:
        before.append(_sample_pictures(run))
    reports: list[HookBase] = [hooks.PeriodicWriter(writers, period=options.log_period)]
    if options.curves:
        reports.append(MetricCurves(run.folder.path))
    first = FirstSteps([writer for writer in writers if isinstance(writer, ProgressPrinter)])
    write = WriteAroundEvaluation(writers, evaluation_hooks=evaluation_hooks)
    return [*before, first, write, evaluation_hooks, write, *reports]


def _evaluates(run: Run) -> bool:
    """Whether the run is evaluated at all; as in detectron2, period 0 is the end of the run."""
    return bool(run.parts.data.test) and run.options.eval_period >= 0


def _evaluation_hooks(run: Run) -> list[HookBase]:
    options = run.options
    found: list[HookBase] = []
    if options.loss_period > 0:
        found.append(
            ValidationLoss(
                model=run.model,
                loaders=run.parts.data.validation_loaders(),
                period=options.loss_period,
                ema=lambda: run.ema,  # replaced when weights are loaded
                autocast=run.autocast,
            )
        )
    if _evaluates(run):
        found.append(Evaluation(run.evaluate, period=options.eval_period))
    if options.best_metric:
        found.append(
            BestCheckpoint(save=run.try_save_as, metric=options.best_metric, mode=options.best_mode)
        )
    if options.stop_metric:
        found.append(
            EarlyStop(
                metric=options.stop_metric,
                mode=options.stop_mode,
                patience=options.stop_patience,
            )
        )
    return found


def _sample_pictures(run: Run) -> SamplePictures:
    return SamplePictures(
        run.folder.path / "samples",
        number=run.options.pictures,
        loader=lambda: run.loader,
        dataset_name=run.parts.data.train[0],
        tokenizer=run.parts.tokenizer,
        image_format=run.parts.data.image_format,
    )
