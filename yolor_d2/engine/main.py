"""The program of train_net.py: one process of a training run or of an evaluation."""

from argparse import Namespace
from collections.abc import Callable
from functools import partial

from detectron2.utils import comm
from torch import nn

from ..data.catalog.records import reading_once
from ..errors import OutOfMemoryError
from ..model_zoo import naming_source
from .batch_size import is_out_of_memory
from .evaluation import Results, verify
from .hooks.memory_advice import explain_out_of_memory
from .hooks.standard import standard_hooks
from .launch.arguments import import_modules
from .launch.preflight import check_cluster
from .parts import Configuration, RunParts
from .run import Run
from .setup import log_and_seed, logged_errors, open_folder
from .starting_point import find_starting_point
from .trainer import read_yacs

FAILED = 1  # exit code of work that cannot be finished


def main(args: Namespace) -> Results:
    """Train or evaluate; return the results of the last evaluation."""
    with logged_errors(), naming_source(args.config_file, args.opts), reading_once():
        work = prepare(args)
    # After the first step, other errors are bugs, and shown with a traceback.
    with logged_errors(OSError, exit_code=FAILED):
        return work()


def prepare(args: Namespace) -> Callable[[], Results]:
    """Read configuration, checkpoint and data, and build the model; return the remaining work."""
    import_modules(args.modules)
    config = read_configuration(args)
    options = config.options
    open_folder(options.output_dir, args, sources=config.sources)
    start = find_starting_point(
        options.output_dir,
        weights=config.weights,
        resume=args.resume,
        prefer=options.eval_weights if args.eval_only else "ema",
    )
    parts = config.parts(start)
    log_and_seed(args, config_text=parts.config.text, seed=config.seed)
    if args.check_cluster:
        is_ready = check_cluster(config_text=parts.config.text, output_dir=options.output_dir)
        raise SystemExit(not is_ready)
    if args.eval_only:
        model = start.trained_model(parts.model, weights_key=parts.config.weights_key)
        return partial(evaluate, parts, model)
    run = Run(parts, allow_changes=args.allow_config_change, overwrite=args.overwrite)
    run.register_hooks(standard_hooks(run))
    run.start_from(start)
    run.make_ready()
    return partial(train, run)


def read_configuration(args: Namespace) -> Configuration:
    """Read a *.yaml or, if it ends in *.py, a LazyConfig."""
    if args.config_file.endswith(".py"):
        from .lazy import read_lazy  # needs hydra, which a *.yaml does not

        return read_lazy(args)
    return read_yacs(args)


def evaluate(parts: RunParts, model: nn.Module) -> Results:
    """Evaluate a model on the test sets, and compare with the expected results."""
    results = parts.evaluate(model)
    verify(results, parts.options.expected_results)
    return results


def train(run: Run) -> Results:
    """Train; if memory runs out, log what to change."""
    try:
        return run.train()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        advice = explain_out_of_memory(
            error,
            batch=run.parts.data.batch_size,
            accum=run.options.accum_steps,
            canvas=run.parts.data.canvas,
            amp=bool(run.options.precision),
            checkpointing=run.options.activation_checkpointing or run.options.compile,
            processes=comm.get_world_size(),
            settings=run.parts.config.memory,
        )
        raise OutOfMemoryError(advice) from error
