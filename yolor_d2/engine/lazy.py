"""Runs from LazyConfigs: *.py files that name constructors and their arguments.

configs/lazy/common.py documents the sections of such a file.
"""

import ast
import copy
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from inspect import signature
from typing import Any

from detectron2.config import LazyConfig, instantiate
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from omegaconf import DictConfig, OmegaConf
from torch import nn

from ..data.catalog.registered import require_registered
from ..data.loading.build import make_test_loader, make_train_loader, train_tokenizer
from ..data.loading.validation import PlainViews
from ..earlier_names import canonical_name, group_arguments, grouped_name, is_group
from ..errors import ConfigError
from ..inference.lazy_recipe import set_usable_vocab
from ..model_zoo import find_config
from ..modeling.deploy import best_device
from ..modeling.test_time_augmentation import TestTimeAugmentation
from ..tasks import TASKS
from ..tokenizer import Tokenizer
from .config_diff import differences
from .evaluation import EvaluationJob, Results, evaluate_datasets
from .options import MAY_CHANGE, RunOptions, run_options
from .parts import ConfigText, Configuration, DataParts, MemorySettings, RunParts
from .starting_point import StartingPoint
from .tokenizing import choose_tokenizer, share_tokenizer

# Prefixes of names that can differ when a run is resumed: training is the same.
MAY_DIFFER = (
    *(f"run.{name}" for name in MAY_CHANGE),
    "init.weights",
    "tokenizer.model",  # the checkpoint has the tokenizer itself
    "data.test",
    "model.precision",
    "data.num_workers",
    "train_mapper.cache_bytes",
    "test_mapper",
    "tta",
    "evaluators",
)

MEMORY_SETTINGS = MemorySettings(
    batch="data.batch_size={}",
    accum="run.accum_steps={}",
    amp="run.precision=bf16",
    checkpointing="run.activation_checkpointing=True",
    canvas="train_mapper.strong.size={0} train_mapper.weak_size={0}",
)


def read_lazy(args: Namespace) -> Configuration:
    """Read a LazyConfig with the overrides of the command line."""
    cfg: DictConfig = LazyConfig.load(find_config(args.config_file))
    group_arguments(cfg)
    check_overrides(cfg, args.opts)
    apply_overrides(cfg, args.opts)
    group_arguments(cfg)
    augmented_views(cfg)  # so that its errors are raised here
    require_registered([*(() if args.eval_only else cfg.data.train), *cfg.data.test])
    options = _options(cfg.run)
    is_trained = not (args.eval_only or args.check_cluster)

    def parts(start: StartingPoint) -> RunParts:
        translator = LazyTranslator(cfg, options, _tokenizer(cfg, options, start))
        if cfg.data.batch_size == 0 and is_trained:
            cfg.data.batch_size = translator.batch_size(start)
        return translator.parts()

    return Configuration(
        options=options,
        seed=cfg.init.seed,
        weights=cfg.init.weights,
        sources=[cfg.init.weights, cfg.tokenizer.model, options.teacher_weights],
        parts=parts,
    )


def _options(node: Any) -> RunOptions:
    try:
        options: RunOptions = instantiate(node)
        return options.on(best_device())
    except (AssertionError, AttributeError, TypeError) as error:  # by detectron2 and dataclasses
        raise ConfigError(f"run of the LazyConfig has no valid options: {error}") from None


def _tokenizer(cfg: DictConfig, options: RunOptions, start: StartingPoint) -> Tokenizer | None:
    if cfg.model.get("caption_head") is None:
        return None
    vocab_size = cfg.tokenizer.vocab_size
    return share_tokenizer(
        lambda: choose_tokenizer(
            start,
            model=cfg.tokenizer.model,
            train=lambda: train_tokenizer(cfg.data.train, vocab_size=vocab_size),
        ),
        output_dir=options.output_dir,
    )


class LazyTranslator:
    """Makes the parts of a run from a LazyConfig.

    Args:
        cfg: the configuration.
        options: of the run.
        tokenizer: of the captions; None without captions.
    """

    def __init__(self, cfg: DictConfig, options: RunOptions, tokenizer: Tokenizer | None) -> None:
        self.cfg = cfg
        self.options = options
        self.tokenizer = tokenizer

    def parts(self) -> RunParts:
        cfg = self.cfg
        mapper = cfg.train_mapper
        return RunParts(
            options=self.options,
            config=ConfigText(
                text=LazyConfig.to_py(cfg),
                file_name="config.py",
                changes=lazy_changes,
                weights_key="init.weights",
                memory=MEMORY_SETTINGS,
            ),
            data=DataParts(
                train=cfg.data.train,
                test=cfg.data.test,
                train_loader=self._train_loader,
                validation_loaders=self._validation_loaders,
                image_format=self._train_mapper().image_format,
                batch_size=cfg.data.batch_size,
                canvas=max(mapper.weak_size, mapper.strong.size),
            ),
            model=self._model,
            optimizer=lambda model: make(cfg.optimizer, model=model),
            schedule=lambda _: instantiate(cfg.schedule),
            evaluate=self._evaluate,
            tokenizer=self.tokenizer,
        )

    def batch_size(self, start: StartingPoint) -> int:
        """That of the run to resume, or else the largest that fits."""
        if start.checkpoint is not None:
            return int(_flat(start.checkpoint["provenance"]["config"])["data.batch_size"])
        trial = copy.deepcopy(self.cfg)
        trial.data.batch_size = comm.get_world_size()
        parts = LazyTranslator(trial, self.options, self.tokenizer).parts()
        return parts.largest_batch(device=best_device())

    def _model(self) -> nn.Module:
        config = copy.deepcopy(self.cfg.model)
        if self.tokenizer is not None:
            set_usable_vocab(config.caption_head, len(self.tokenizer))
        model: nn.Module = make(config, tokenizer=self.tokenizer)
        return model.to(best_device())

    def _train_mapper(self) -> Any:
        return make(self.cfg.train_mapper, tokenizer=self.tokenizer)

    def _train_loader(self, iteration: int) -> Iterable[Any]:
        data, options = self.cfg.data, self.options
        per_iteration = data.batch_size * options.accum_steps
        return make_train_loader(
            data.train,
            mapper=self._train_mapper(),
            batch_size=data.batch_size,
            num_workers=data.num_workers,
            seed=self.cfg.init.seed,
            start=iteration * per_iteration,
            mosaic_until=(options.max_iter - data.close_mosaic_iters) * per_iteration,
            output_dir=options.output_dir,
            taught=(options.teacher_tasks or TASKS) if options.teacher_weights else (),
        )

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

    def _evaluator(self, name: str) -> DatasetEvaluator:
        folder = f"{self.options.output_dir}/inference/{name}"
        return make(self.cfg.evaluators, dataset_name=name, output_dir=folder)

    def _evaluate(self, model: nn.Module) -> Results:
        model = with_augmentation(self.cfg, model)
        jobs = {
            name: EvaluationJob(
                loader=partial(self._test_loader, name, instantiate(self.cfg.test_mapper)),
                evaluator=partial(self._evaluator, name),
            )
            for name in self.cfg.data.test
        }
        return evaluate_datasets(model, jobs, output_dir=self.options.output_dir)


def with_augmentation(cfg: DictConfig, model: nn.Module) -> nn.Module:
    """The model with test-time augmentation, if the configuration has it."""
    views = augmented_views(cfg)
    if views is None:
        return model
    head: Any = model.detection_head
    return TestTimeAugmentation(
        model,
        nms_threshold=head.suppression.nms_thresh,
        max_detections=head.suppression.detections_per_image,
        **views,
    )


def augmented_views(cfg: DictConfig) -> dict[str, Any] | None:
    """Arguments of test-time augmentation; None without it."""
    views = cfg.get("tta") or {}
    if not isinstance(views, DictConfig | dict):
        raise ConfigError(f"tta of the LazyConfig is {views}; it must have names and values")
    views = dict(views)
    if not views.pop("enabled", False):
        return None
    if cfg.model.get("detection_head") is None:
        raise ConfigError("tta needs boxes, but the model has no detection_head")
    if isinstance(views.get("sizes"), int):
        raise ConfigError(f"tta.sizes must be a list: tta.sizes=[{views['sizes']}]")
    return views


def make(node: DictConfig, **arguments: Any) -> Any:
    """The object that a node of the configuration describes, with additional arguments."""
    complete = copy.copy(node)
    complete.update(arguments)
    return instantiate(complete)


def check_overrides(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Refuse an override of an unknown name, which would have no effect."""
    for override in overrides:
        key = override.partition("=")[0]
        parent, _, name = key.rpartition(".")
        node = OmegaConf.select(cfg, parent) if parent else cfg
        if not (isinstance(node, DictConfig) and _takes(node, name)):
            raise ConfigError(f"{key} is not a name of this configuration")


def apply_overrides(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Change a LazyConfig by overrides NAME=VALUE.

    Raises:
        ConfigError: an override cannot be parsed, or its value has the wrong type.
    """
    for override in overrides:
        key = override.partition("=")[0]
        before = OmegaConf.select(cfg, key)
        try:
            LazyConfig.apply_overrides(cfg, [override])
        except Exception as error:  # of hydra, its parser, or OmegaConf
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ConfigError(f"{override}: is not NAME=VALUE that fits: {reason}") from None
        after = OmegaConf.select(cfg, key)
        is_optional = OmegaConf.is_dict(before) and "_target_" in before
        if OmegaConf.is_config(before) and not (after is None and is_optional):
            if OmegaConf.is_list(before) and not OmegaConf.is_list(after):
                raise ConfigError(f"{key} must be a list: {key}=[{after}]")
            if OmegaConf.is_dict(before) and not OmegaConf.is_dict(after):
                raise ConfigError(f"{override}: {key} has names below it, as in {key}.NAME=VALUE")


def _takes(node: DictConfig, name: str) -> bool:
    """Whether a node has a name, or calls something with an argument of that name."""
    if name in node or "_target_" not in node:
        return name in node
    if grouped_name(node._target_, name) != name:
        return True
    target = RunOptions if node._target_ is run_options else node._target_
    parameters = signature(target).parameters.values()
    return any(name == each.name or each.kind is each.VAR_KEYWORD for each in parameters)


def lazy_changes(before: str, now: str) -> list[str]:
    """One line for each relevant name that differs between two LazyConfigs in Python."""
    return differences(_flat(before), _flat(now), ignore=MAY_DIFFER)


def _flat(text: str) -> dict[str, str]:
    """The value of each statement `cfg.name = value`, arguments of calls under their own names."""
    return {
        name: value
        for statement in ast.parse(text).body
        if isinstance(statement, ast.Assign)
        for name, value in _values(
            ast.unparse(statement.targets[0]).removeprefix("cfg."), statement.value
        )
    }


def _values(name: str, value: ast.expr) -> Iterator[tuple[str, str]]:
    if not isinstance(value, ast.Call):
        yield name, ast.unparse(value)
        return
    target = canonical_name(ast.unparse(value.func))
    if not is_group(target):  # texts of earlier versions have no groups
        yield name, target
    for argument in value.keywords:
        yield from _values(f"{name}.{grouped_name(target, str(argument.arg))}", argument.value)
