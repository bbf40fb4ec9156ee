"""The same run from a LazyConfig: *.py files that name constructors and their arguments.

configs/lazy/common.py explains what such a file has.
"""

import ast
import copy
import dataclasses
import logging
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from omegaconf import DictConfig, OmegaConf
from torch import nn

from ..checkpoint.weights import load_weights
from ..data.loading.build import make_test_loader, make_train_loader, train_tokenizer
from ..data.loading.validation import PlainViews
from ..earlier_names import canonical_name, group_arguments, grouped_name, is_group
from ..modeling import deploy
from ..modeling.deploy import best_device
from ..modeling.test_time_augmentation import TestTimeAugmentation
from ..tokenizer import Tokenizer
from .config_diff import differences
from .evaluation import Examination, Results, examine
from .hooks.evaluation import Evaluation
from .hooks.samples import draw_first_samples
from .hooks.standard import standard_hooks
from .last_checkpoint import weights_to_evaluate
from .options import RunOptions, run_options
from .rewards import build_reward
from .run import Run
from .setup import begin, open_folder
from .tokenizing import choose_tokenizer, share_tokenizer
from .trainer import describe_data
from .writers import build_writers

logger = logging.getLogger(__name__)

# May change between two parts of a run: none of them moves what is learnt.
FREE = (
    "init.weights",
    "tokenizer.model",  # the checkpoint has the tokenizer itself
    "data.test",
    "data.num_workers",
    "train_mapper.cache_bytes",
    "test_mapper",
    "tta",
    "evaluators",
    "run.output_dir",
    "run.nonfinite",
    "run.max_skipped",
    "run.compile",
    "run.checkpoint_",
    "run.eval_",
    "run.loss_",
    "run.best_",
    "run.stop_",
    "run.log_period",
    "run.task_gradient_period",
    "run.pictures",
    "run.curves",
    "run.wandb",
    "run.max_data_wait",
)


class LazyRun(Run):
    """A run that knows what its last evaluation has found.

    Args:
        examine: evaluates a model.
        arguments: of Run.
    """

    def __init__(self, *, examine: Callable[[nn.Module], Results], **arguments: Any) -> None:
        super().__init__(**arguments)
        self.evaluation = Evaluation(self.evaluator(examine), period=self.options.eval_period)

    def train(self) -> Results:
        """Train to the end; the results of the last evaluation."""
        super().train()
        return self.evaluation.results


class LazySetup:
    """What a LazyConfig describes, made piece by piece.

    Args:
        args: of the command line.
    """

    def __init__(self, args: Namespace) -> None:
        self.cfg: DictConfig = LazyConfig.load(args.config_file)
        group_arguments(self.cfg)
        check_names(self.cfg, args.opts)
        LazyConfig.apply_overrides(self.cfg, args.opts)
        group_arguments(self.cfg)
        self._views = augmented_views(self.cfg)
        self.args = args
        self.options: RunOptions = instantiate(self.cfg.run)
        if best_device() == "cpu":  # faster without
            self.options = dataclasses.replace(self.options, precision="")
        folder = self.options.output_dir
        open_folder(folder, args, sources=[self.cfg.init.weights, self.cfg.tokenizer.model])
        self.text = LazyConfig.to_py(self.cfg)
        self.tokenizer = self._choose_tokenizer()
        begin(args, config_text=self.text, seed=self.cfg.init.seed)

    @property
    def canvas(self) -> int:
        """Side of a training view, in pixels."""
        mapper = self.cfg.train_mapper
        return max(mapper.weak_size, mapper.strong.size)

    def model(self) -> nn.Module:
        """A new model, on the best device."""
        config = self.cfg.model
        if self.tokenizer is not None:
            config.caption_head.vocabulary.usable_vocab = len(self.tokenizer)
        return make(config, tokenizer=self.tokenizer).to(best_device())

    def run(self) -> LazyRun:
        """A new run, or the one in the output folder."""
        model = self.model()
        run = LazyRun(
            examine=self.examine,
            model=model,
            build_optimizer=self._optimizer,
            schedule=instantiate(self.cfg.schedule),
            build_loader=self._train_loader,
            options=self.options,
            reward=build_reward(model, self.cfg.data.train, self.tokenizer),
            tokenizer=self.tokenizer,
            provenance=describe_data(self.text, [*self.cfg.data.train, *self.cfg.data.test]),
            compare=config_changes,
            allow_changes=self.args.allow_config_change,
            overwrite=self.args.overwrite,
            config_name="config.py",
        )
        run.register_hooks(
            standard_hooks(
                run,
                evaluation=run.evaluation,
                validation_loaders=self._validation_loaders,
                writers=lambda: build_writers(
                    self.options.output_dir, max_iter=run.max_iter, wandb=self.options.wandb
                ),
            )
        )
        self._resume_or_load(run)
        return run

    def _resume_or_load(self, run: Run) -> None:
        if self.args.resume and run.resume():
            return
        if self.args.resume:
            folder = self.options.output_dir
            logger.warning("run.output_dir %s has no checkpoint: a new run", folder)
        if self.cfg.init.weights:
            logger.info("%s", load_weights(run.model, self.cfg.init.weights))
            run.reset_ema()

    def trained_model(self) -> nn.Module:
        """The model of `init.weights` or, with --resume, of the last checkpoint; folded."""
        weights = weights_to_evaluate(
            self.cfg.init.weights, self.options.output_dir, resume=self.args.resume
        )
        if not weights:
            raise ValueError("init.weights is empty: there is nothing to evaluate")
        model = self.model()
        load_weights(model, weights, prefer=self.options.eval_weights, strict=True)
        return deploy(model)

    def examine(self, model: nn.Module) -> Results:
        """Evaluate a model on all test sets."""
        if self._views is not None:
            head: Any = model.detection_head
            model = TestTimeAugmentation(
                model,
                nms_threshold=head.suppression.nms_thresh,
                max_detections=head.suppression.detections_per_image,
                **self._views,
            )
        examinations = {
            name: Examination(
                loader=partial(self._test_loader, name, instantiate(self.cfg.test_mapper)),
                evaluator=partial(self._evaluator, name),
            )
            for name in self.cfg.data.test
        }
        return examine(model, examinations, output_dir=self.options.output_dir)

    def _evaluator(self, name: str) -> DatasetEvaluator:
        folder = f"{self.options.output_dir}/inference/{name}"
        return make(self.cfg.evaluators, dataset_name=name, output_dir=folder)

    def _optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return make(self.cfg.optimizer, model=model)

    def _train_loader(self, iteration: int) -> Iterable[Any]:
        data = self.cfg.data
        per_iteration = data.batch_size * self.options.accum_steps
        mapper = self._train_mapper()
        loader = make_train_loader(
            data.train,
            mapper=mapper,
            batch_size=data.batch_size,
            num_workers=data.num_workers,
            seed=max(self.cfg.init.seed, 0),
            start=iteration * per_iteration,
            mosaic_until=(self.options.max_iter - data.close_mosaic_iters) * per_iteration,
            output_dir=self.options.output_dir,
        )
        if iteration == 0 and self.options.pictures and comm.is_main_process():
            draw_first_samples(
                loader,
                Path(self.options.output_dir) / "samples",
                number=self.options.pictures,
                metadata=MetadataCatalog.get(data.train[0]),
                tokenizer=self.tokenizer,
                image_format=mapper.image_format,
            )
        return loader

    def _train_mapper(self) -> Any:
        return make(self.cfg.train_mapper, tokenizer=self.tokenizer)

    def _validation_loaders(self) -> list[Iterable[Any]]:
        views = PlainViews(self._train_mapper())
        limit = self.options.loss_images
        return [self._test_loader(name, views, max_images=limit) for name in self.cfg.data.test]

    def _test_loader(self, name: str, mapper: Any, *, max_images: int = 0) -> Iterable[Any]:
        return make_test_loader(
            name,
            mapper=mapper,
            batch_size=self.cfg.data.test_batch_size,
            num_workers=self.cfg.data.num_workers,
            output_dir=self.options.output_dir,
            max_images=max_images,
        )

    def _choose_tokenizer(self) -> Tokenizer | None:
        if self.cfg.model.get("caption_head") is None:
            return None
        wanted = self.cfg.tokenizer
        return share_tokenizer(
            lambda: choose_tokenizer(
                resume_from=self.options.output_dir if self.args.resume else "",
                weights=self.cfg.init.weights,
                model=wanted.model,
                train=lambda: train_tokenizer(self.cfg.data.train, vocab_size=wanted.vocab_size),
            ),
            output_dir=self.options.output_dir,
        )


def augmented_views(cfg: DictConfig) -> dict[str, Any] | None:
    """What test-time augmentation is told to look at; None without it."""
    views = dict(cfg.get("tta") or {})
    if not views.pop("enabled", False):
        return None
    if cfg.model.get("detection_head") is None:
        raise ValueError("tta is of boxes and masks, but the model has no detection_head")
    if isinstance(views.get("sizes"), int):
        raise ValueError(f"tta.sizes must be a list: tta.sizes=[{views['sizes']}]")
    return views


def make(node: DictConfig, **arguments: Any) -> Any:
    """What a node of the configuration names, with some more arguments."""
    complete = copy.copy(node)
    complete.update(arguments)
    return instantiate(complete)


def check_names(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Refuse an override of what there is not, which would be written down and never read."""
    for override in overrides:
        key = override.partition("=")[0]
        parent, _, name = key.rpartition(".")
        node = OmegaConf.select(cfg, parent) if parent else cfg
        if not (isinstance(node, DictConfig) and _takes(node, name)):
            raise ValueError(f"{key} is not a name of this configuration")


def _takes(node: DictConfig, name: str) -> bool:
    """Whether a node has a name, or calls something that takes it and has a default for it."""
    if name in node or "_target_" not in node:
        return name in node
    if grouped_name(node._target_, name) != name:
        return True
    target = RunOptions if node._target_ is run_options else node._target_
    parameters = signature(target).parameters.values()
    return any(name == each.name or each.kind is each.VAR_KEYWORD for each in parameters)


def config_changes(before: str, now: str) -> list[str]:
    """One line for each name that matters and differs, of two LazyConfigs as Python."""
    return differences(_flat(before), _flat(now), free=FREE)


def _flat(text: str) -> dict[str, str]:
    """What each statement `cfg.name = value` says, the arguments of calls by names of their own."""
    return {
        name: value
        for statement in ast.parse(text).body
        if isinstance(statement, ast.Assign)
        for name, value in _parts(
            ast.unparse(statement.targets[0]).removeprefix("cfg."), statement.value
        )
    }


def _parts(name: str, value: ast.expr) -> Iterator[tuple[str, str]]:
    if not isinstance(value, ast.Call):
        yield name, ast.unparse(value)
        return
    target = canonical_name(ast.unparse(value.func))
    if not is_group(target):  # earlier versions have none
        yield name, target
    for argument in value.keywords:
        yield from _parts(f"{name}.{grouped_name(target, str(argument.arg))}", argument.value)
