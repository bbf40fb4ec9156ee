"""What train_net.py does: one process of a training run or of an evaluation."""

import logging
from argparse import Namespace
from typing import Any

from detectron2.config import CfgNode
from detectron2.evaluation import verify_results
from detectron2.utils import comm
from torch import nn

from ..checkpoint.saving import CheckpointError
from ..checkpoint.weights import load_weights
from ..modeling import deploy
from .hooks.memory_advice import explain_out_of_memory, is_out_of_memory
from .last_checkpoint import weights_to_evaluate
from .launch.preflight import check_cluster
from .nonfinite import NonFiniteError
from .run import Run
from .setup import one_line_errors, say_error, setup
from .trainer import Trainer

logger = logging.getLogger(__name__)


def main(args: Namespace) -> Any:
    """Train or evaluate; the results of the last evaluation, on the main process."""
    if args.config_file.endswith(".py"):
        from .lazy import LazySetup  # needs hydra, which a *.yaml does not

        with one_line_errors():
            lazy = LazySetup(args)
            if args.check_cluster:
                stop_after_check(lazy.text, lazy.options.output_dir)
            subject = lazy.trained_model() if args.eval_only else lazy.run()
            if isinstance(subject, Run):
                subject.make_ready()
        if isinstance(subject, Run):
            return train(subject, batch=lazy.cfg.data.batch_size, canvas=lazy.canvas)
        return lazy.examine(subject)
    with one_line_errors():
        cfg = setup(args)
        if args.check_cluster:
            stop_after_check(cfg.dump(), cfg.OUTPUT_DIR)
        if args.eval_only:
            model = build_for_inference(cfg, resume=args.resume)
        else:
            trainer = Trainer(cfg, allow_changes=args.allow_config_change, overwrite=args.overwrite)
            trainer.resume_or_load(resume=args.resume)
            trainer.make_ready()
    if args.eval_only:
        return evaluate(cfg, model)
    canvas = max(cfg.INPUT.STRONG.SIZE, cfg.INPUT.WEAK.SIZE)
    return train(trainer, batch=cfg.SOLVER.IMS_PER_BATCH, canvas=canvas)


def train(run: Run, *, batch: int, canvas: int) -> Any:
    """Train; what ends a run on its way is one paragraph, not a stack trace.

    Args:
        run: to be trained.
        batch: images at a time, over all processes.
        canvas: side of a training view, in pixels.
    """
    try:
        return run.train()
    except (CheckpointError, NonFiniteError) as error:
        say_error(error)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        advice = explain_out_of_memory(
            error,
            batch=batch,
            accum=run.options.accum_steps,
            canvas=canvas,
            amp=bool(run.options.precision),
            processes=comm.get_world_size(),
        )
        say_error(advice)
    raise SystemExit(1)


def build_for_inference(cfg: CfgNode, *, resume: bool = False) -> nn.Module:
    """The model of MODEL.WEIGHTS, folded; TEST.WEIGHTS says which of its weights.

    Args:
        cfg: of the run.
        resume: take the last checkpoint in OUTPUT_DIR instead, if there is one.
    """
    weights = weights_to_evaluate(cfg.MODEL.WEIGHTS, cfg.OUTPUT_DIR, resume=resume)
    if not weights:
        raise ValueError("MODEL.WEIGHTS is empty: there is nothing to evaluate")
    model = Trainer.build_model(cfg)
    load_weights(model, weights, prefer=cfg.TEST.WEIGHTS, strict=True)
    return deploy(model)


def evaluate(cfg: CfgNode, model: nn.Module) -> Any:
    """Results on DATASETS.TEST, compared with TEST.EXPECTED_RESULTS."""
    results = Trainer.test(cfg, model)
    if comm.is_main_process():
        verify_results(cfg, results)
    return results


def stop_after_check(config_text: str, output_dir: str) -> None:
    """What --check-cluster does instead of training."""
    raise SystemExit(not check_cluster(config_text=config_text, output_dir=output_dir))
