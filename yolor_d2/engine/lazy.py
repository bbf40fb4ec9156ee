"""The same run from a LazyConfig: *.py files that name constructors and their arguments.

configs/lazy/common.py explains what such a file has.
"""

import copy
from argparse import Namespace
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.evaluation import DatasetEvaluator
from omegaconf import DictConfig
from torch import nn

from ..checkpoint.weights import load_weights
from ..data.build import make_test_loader, make_train_loader, train_tokenizer
from ..data.validation import PlainViews
from ..modeling import deploy
from ..tokenizer import Tokenizer
from .evaluating import Examination, Results, examine
from .judges import Evaluation
from .options import RunOptions
from .run import Run
from .setup import begin, best_device, open_folder
from .standard_hooks import standard_hooks
from .tokenizing import choose_tokenizer, share_tokenizer
from .trainer import describe_data
from .writers import build_writers


class LazySetup:
    """What a LazyConfig describes, made piece by piece.

    Args:
        args: of the command line.
    """

    def __init__(self, args: Namespace) -> None:
        self.cfg: DictConfig = LazyConfig.load(args.config_file)
        LazyConfig.apply_overrides(self.cfg, args.opts)
        self.args = args
        self.options: RunOptions = instantiate(self.cfg.run)
        folder = self.options.output_dir
        open_folder(folder, args, weights=self.cfg.init.weights)
        self.text = LazyConfig.to_py(self.cfg)
        self.tokenizer = self._choose_tokenizer()
        begin(args, config_text=self.text, output_dir=folder, seed=self.cfg.init.seed)

    @property
    def canvas(self) -> int:
        """Side of a training view, in pixels."""
        mapper = self.cfg.train_mapper
        return max(mapper.weak_size, mapper.strong.size)

    def model(self) -> nn.Module:
        """A new model, on the best device."""
        config = self.cfg.model
        if self.tokenizer is not None:
            config.caption_head.usable_vocab = len(self.tokenizer)
        return make(config, tokenizer=self.tokenizer).to(best_device())

    def run(self) -> Run:
        """A new run, or the one in the output folder."""
        run = Run(
            model=self.model(),
            build_optimizer=self._optimizer,
            schedule=instantiate(self.cfg.schedule),
            build_loader=self._train_loader,
            options=self.options,
            tokenizer=self.tokenizer,
            provenance=describe_data(self.text, [*self.cfg.data.train, *self.cfg.data.test]),
            compare=changed_statements,
            allow_changes=self.args.allow_config_change,
        )
        evaluation = Evaluation(run.evaluator(self.examine), period=self.options.eval_period)
        run.register_hooks(
            standard_hooks(
                run,
                evaluation=evaluation,
                validation_loaders=self._validation_loaders,
                writers=lambda: build_writers(
                    self.options.output_dir, max_iter=run.max_iter, wandb=self.options.wandb
                ),
            )
        )
        if not (self.args.resume and run.resume()) and self.cfg.init.weights:
            load_weights(run.model, self.cfg.init.weights)
            run.reset_ema()
        return run

    def trained_model(self) -> nn.Module:
        """The model of `init.weights`, folded."""
        if not self.cfg.init.weights:
            raise ValueError("init.weights is empty: there is nothing to evaluate")
        model = self.model()
        load_weights(model, self.cfg.init.weights, prefer=self.options.eval_weights, strict=True)
        return deploy(model)

    def examine(self, model: nn.Module) -> Results:
        """Evaluate a model on all test sets."""
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
        return make_train_loader(
            data.train,
            mapper=self._train_mapper(),
            batch_size=data.batch_size,
            num_workers=data.num_workers,
            seed=max(self.cfg.init.seed, 0),
            start=iteration * per_iteration,
            mosaic_until=(self.options.max_iter - data.close_mosaic_iters) * per_iteration,
            output_dir=self.options.output_dir,
        )

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
        goes_on = self.args.resume and not self.args.eval_only
        return share_tokenizer(
            lambda: choose_tokenizer(
                resume_from=self.options.output_dir if goes_on else "",
                weights=self.cfg.init.weights,
                model=wanted.model,
                train=lambda: train_tokenizer(self.cfg.data.train, vocab_size=wanted.vocab_size),
            ),
            output_dir=self.options.output_dir,
        )


def make(node: DictConfig, **arguments: Any) -> Any:
    """What a node of the configuration names, with some more arguments."""
    complete = copy.copy(node)
    complete.update(arguments)
    return instantiate(complete)


def changed_statements(before: str, now: str) -> list[str]:
    """What differs between two LazyConfigs as Python, but for the options of the run."""
    old, new = (set(_statements(text)) for text in (before, now))
    return sorted(f"now {line}" for line in new - old) or sorted(
        f"was {line}" for line in old - new
    )


def _statements(text: str) -> Iterator[str]:
    for statement in text.replace("\n ", " ").splitlines():
        if not statement.startswith(("cfg.run", "cfg.init")):
            yield statement
