"""The trainer for *.yaml configurations, with the interface of detectron2's DefaultTrainer."""

import logging
from argparse import Namespace
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, HookBase
from detectron2.evaluation import DatasetEvaluator
from detectron2.modeling import build_model
from detectron2.utils import comm
from torch import nn

from ..data import build_test_loader, build_train_loader
from ..data.catalog.records import reading_once
from ..data.catalog.registered import require_registered
from ..data.catalog.shared_classes import set_configured_classes
from ..data.formats.registration import ensure_registered, register_configured
from ..data.loading.validation import build_validation_loader
from ..errors import ConfigError
from ..evaluation import build_evaluator
from ..model_zoo import load_config
from ..modeling.deploy import best_device
from ..modeling.test_time_augmentation import TestTimeAugmentation
from ..tokenizer import Tokenizer
from .checkpointer import RunCheckpointer
from .config_diff import yacs_changes
from .evaluation import EvaluationJob, Results, evaluate_datasets
from .hooks.standard import standard_hooks
from .optim.optimizer import build_optimizer
from .optim.schedule import build_schedule
from .options import RunOptions
from .overrides import accepts, call
from .parts import (
    ConfigText,
    Configuration,
    DataParts,
    MemorySettings,
    RunParts,
    Scheduler,
)
from .run import Run
from .starting_point import StartingPoint, find_starting_point
from .tokenizing import resolve_tokenizer

logger = logging.getLogger(__name__)

WEIGHTS_KEY = "MODEL.WEIGHTS"
MEMORY_SETTINGS = MemorySettings(
    batch="SOLVER.IMS_PER_BATCH {}",
    accum="SOLVER.ACCUM_STEPS {}",
    amp="SOLVER.AMP.ENABLED True",
    checkpointing="MODEL.YOLOR.ACTIVATION_CHECKPOINTING True",
    canvas="INPUT.STRONG.SIZE {0} INPUT.WEAK.SIZE {0}",
)


class Trainer(Run, DefaultTrainer):
    """A run from a *.yaml configuration.

    Its parts can be replaced as in DefaultTrainer, by overriding `build_model`, `build_optimizer`,
    `build_lr_scheduler`, `build_train_loader`, `build_test_loader`, `build_evaluator`, `test`,
    `build_hooks`, or `build_writers`. Overrides get detectron2's arguments, and the additional
    ones of the methods below (`tokenizer`, `start_iteration`) if their signatures have them.

    Args:
        cfg: of the run. The tokenizer, and the batch size if it is 0, are chosen and set, in a copy
            if it is frozen.
        allow_changes: resume although the configuration differs.
        overwrite: remove the files of an earlier run in OUTPUT_DIR.
    """

    def __init__(
        self, cfg: CfgNode, *, allow_changes: bool = False, overwrite: bool = False
    ) -> None:
        if "YOLOR" not in cfg.MODEL:
            raise ConfigError(
                "the configuration lacks the keys of yolor_d2: call yolor_d2.add_yolor_config(cfg)"
            )
        ensure_registered(cfg)
        cfg = DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size())
        self._records: dict[str, list[Any]] = {}  # until the training data are opened
        with reading_once(self._records):
            is_complete = not _needs_tokenizer(cfg) and cfg.SOLVER.IMS_PER_BATCH != 0
            self.cfg = cfg if is_complete else self._completed(cfg)
            parts = self.parts_of(self.cfg)
            super().__init__(parts, allow_changes=allow_changes, overwrite=overwrite)
        self.checkpointer = RunCheckpointer(self)
        self.register_hooks(self.build_hooks())

    @classmethod
    def complete(cls, cfg: CfgNode, start: StartingPoint) -> None:
        """Set the tokenizer and, if it is 0, the batch size of a run with this starting point."""
        resolve_tokenizer(cfg, start)
        if cfg.SOLVER.IMS_PER_BATCH == 0:
            cfg.SOLVER.IMS_PER_BATCH = cls._batch_size(cfg, start)

    @classmethod
    def _batch_size(cls, cfg: CfgNode, start: StartingPoint) -> int:
        """That of the run to resume, or else the largest that fits."""
        if start.checkpoint is not None:
            before = CfgNode.load_cfg(start.checkpoint["provenance"]["config"])
            return before.SOLVER.IMS_PER_BATCH
        trial = cfg.clone()
        trial.SOLVER.IMS_PER_BATCH = comm.get_world_size()
        return cls.parts_of(trial).largest_batch(device=cfg.MODEL.DEVICE)

    @classmethod
    def _completed(cls, cfg: CfgNode) -> CfgNode:
        """Complete the configuration of a run that is begun; a copy if it is frozen."""
        was_frozen = cfg.is_frozen()
        if was_frozen:
            cfg = cfg.clone()
            cfg.defrost()
        start = find_starting_point(cfg.OUTPUT_DIR, weights=cfg.MODEL.WEIGHTS, resume=False)
        cls.complete(cfg, start)
        if was_frozen:
            cfg.freeze()
        return cfg

    @classmethod
    def parts_of(cls, cfg: CfgNode) -> RunParts:
        """The parts of a run, made by the class methods below, of a complete configuration."""
        set_configured_classes(cfg)
        tokenizer = Tokenizer.load(cfg.TOKENIZER.MODEL) if cfg.TOKENIZER.MODEL else None
        return RunParts(
            options=RunOptions.from_config(cfg),
            config=ConfigText(
                text=cfg.dump(),
                file_name="config.yaml",
                changes=yacs_changes,
                weights_key=WEIGHTS_KEY,
                memory=MEMORY_SETTINGS,
            ),
            data=DataParts(
                train=cfg.DATASETS.TRAIN,
                test=cfg.DATASETS.TEST,
                train_loader=partial(cls._train_loader, cfg, tokenizer),
                validation_loaders=partial(cls.build_validation_loaders, cfg, tokenizer),
                image_format=cfg.INPUT.FORMAT,
                batch_size=cfg.SOLVER.IMS_PER_BATCH,
                canvas=max(cfg.INPUT.STRONG.SIZE, cfg.INPUT.WEAK.SIZE),
            ),
            model=partial(cls.build_model, cfg),
            optimizer=partial(cls.build_optimizer, cfg),
            schedule=lambda optimizer: call(cls.build_lr_scheduler, cfg, optimizer=optimizer),
            evaluate=partial(cls.test, cfg),
            tokenizer=tokenizer,
        )

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        model = build_model(cfg)
        logger.debug("%s", model)
        size = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        logger.info("%s of %.1f M parameters on %s", type(model).__name__, size, cfg.MODEL.DEVICE)
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(
        cls, cfg: CfgNode, optimizer: torch.optim.Optimizer | None = None
    ) -> Scheduler:
        """A schedule of ours, or one of torch or fvcore, which the hook LRScheduler steps."""
        return build_schedule(cfg)

    @classmethod
    def build_train_loader(
        cls, cfg: CfgNode, tokenizer: Tokenizer | None = None, start_iteration: int = 0
    ) -> Iterable[Any]:
        """An endless loader of the training batches.

        Args:
            cfg: of the run.
            tokenizer: of the captions; None: that of TOKENIZER.MODEL.
            start_iteration: step of the first batch, above 0 if the run is resumed.
        """
        if tokenizer is None and _needs_tokenizer(cfg) and cfg.TOKENIZER.MODEL:
            tokenizer = Tokenizer.load(cfg.TOKENIZER.MODEL)
        return build_train_loader(cfg, tokenizer=tokenizer, start_iteration=start_iteration)

    @classmethod
    def _train_loader(
        cls, cfg: CfgNode, tokenizer: Tokenizer | None, start_iteration: int
    ) -> Iterable[Any]:
        build = cls.build_train_loader
        if not accepts(build, "start_iteration"):
            logger.warning(
                "%s.build_train_loader has no argument start_iteration: a resumed run gets other "
                "batches than one that was not interrupted",
                cls.__name__,
            )
        return call(build, cfg, tokenizer=tokenizer, start_iteration=start_iteration)

    @classmethod
    def build_validation_loaders(
        cls, cfg: CfgNode, tokenizer: Tokenizer | None
    ) -> list[Iterable[Any]]:
        return [
            build_validation_loader(
                cfg,
                name,
                tokenizer=tokenizer,
                max_images=cfg.TEST.LOSS_IMAGES,
                batch_size=cfg.TEST.BATCH_SIZE,
            )
            for name in cfg.DATASETS.TEST
        ]

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Iterable[Any]:
        return build_test_loader(cfg, dataset_name, batch_size=cfg.TEST.BATCH_SIZE)

    @classmethod
    def build_evaluator(
        cls, cfg: CfgNode, dataset_name: str, output_folder: str | None = None
    ) -> DatasetEvaluator:
        """The evaluators of a data set; by default, they write to OUTPUT_DIR/inference/<set>."""
        return build_evaluator(cfg, dataset_name, output_folder)

    def make_ready(self) -> None:
        with reading_once(self._records):
            super().make_ready()
        self._records = {}

    def build_hooks(self) -> list[HookBase]:
        return standard_hooks(self)

    def resume_or_load(self, resume: bool = True) -> None:
        """Resume the run in OUTPUT_DIR if there is one, else load MODEL.WEIGHTS if it is set."""
        weights = self.cfg.MODEL.WEIGHTS
        self.start_from(find_starting_point(self.cfg.OUTPUT_DIR, weights=weights, resume=resume))

    @classmethod
    def test(
        cls,
        cfg: CfgNode,
        model: nn.Module,
        evaluators: Sequence[DatasetEvaluator] | DatasetEvaluator | None = None,
    ) -> Results:
        """Evaluate a model in evaluation mode on DATASETS.TEST; see `evaluate_datasets`.

        Args:
            cfg: of the data and the metrics.
            model: returns predictions in detectron2's format.
            evaluators: one for each data set, instead of those of `build_evaluator`.

        Raises:
            ValueError: the number of evaluators is not that of the data sets.
        """
        names = cfg.DATASETS.TEST
        if isinstance(evaluators, DatasetEvaluator):
            evaluators = [evaluators]
        if evaluators is not None and len(evaluators) != len(names):
            raise ConfigError(
                f"DATASETS.TEST has {len(names)} data sets, but there are "
                f"{len(evaluators)} evaluators"
            )
        if cfg.TEST.TTA.ENABLED and not isinstance(model, TestTimeAugmentation):
            model = TestTimeAugmentation.from_config(cfg, model)
        factories: list[Callable[[], DatasetEvaluator | None]]
        if evaluators is None:
            factories = [partial(cls.build_evaluator, cfg, name) for name in names]
        else:
            factories = [partial(_same, evaluator) for evaluator in evaluators]
        jobs = {
            name: EvaluationJob(
                loader=partial(cls.build_test_loader, cfg, name), evaluator=evaluator
            )
            for name, evaluator in zip(names, factories, strict=True)
        }
        output_dir = cfg.OUTPUT_DIR
        if isinstance(model, TestTimeAugmentation) and not cfg.TEST.TTA.ENABLED:
            output_dir = _tta_folder(cfg)  # beside the results without it
        return evaluate_datasets(model, jobs, output_dir=output_dir)

    @classmethod
    def test_with_TTA(cls, cfg: CfgNode, model: nn.Module) -> Results:
        """Evaluate with test-time augmentation (TEST.TTA); the names of results end in _TTA."""
        folder, names = _tta_folder(cfg), cfg.DATASETS.TEST
        folders = [folder] if len(names) == 1 else [f"{folder}/{name}" for name in names]
        evaluators = [
            cls.build_evaluator(cfg, name, output_folder=folder)
            for name, folder in zip(names, folders, strict=True)
        ]
        results = cls.test(cfg, TestTimeAugmentation.from_config(cfg, model), evaluators)
        return {f"{name}_TTA": value for name, value in results.items()}


def _tta_folder(cfg: CfgNode) -> str:
    return f"{cfg.OUTPUT_DIR}/inference_TTA"


def _needs_tokenizer(cfg: CfgNode) -> bool:
    return "caption" in cfg.MODEL.YOLOR.TASKS


def _same(evaluator: DatasetEvaluator | None) -> DatasetEvaluator | None:
    return evaluator


def read_yacs(args: Namespace) -> Configuration:
    """Read a *.yaml file with the overrides of the command line."""
    cfg = load_config(args.config_file, args.opts)
    lacks_gpu = cfg.MODEL.DEVICE == "cuda" and best_device() == "cpu"
    if lacks_gpu:
        cfg.MODEL.DEVICE = "cpu"
    cfg = DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size())
    torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK and not args.eval_only

    def parts(start: StartingPoint) -> RunParts:
        if lacks_gpu:
            logger.warning("MODEL.DEVICE is cuda, but there is no GPU: the CPU is used")
        register_configured(cfg)  # writes to OUTPUT_DIR, which has been checked now
        require_registered([*(() if args.eval_only else cfg.DATASETS.TRAIN), *cfg.DATASETS.TEST])
        if args.eval_only or args.check_cluster:
            resolve_tokenizer(cfg, start)
        else:
            Trainer.complete(cfg, start)
        cfg.freeze()
        return Trainer.parts_of(cfg)

    return Configuration(
        options=RunOptions.from_config(cfg),
        seed=cfg.SEED,
        weights=cfg.MODEL.WEIGHTS,
        sources=[cfg.MODEL.WEIGHTS, cfg.TOKENIZER.MODEL, cfg.SOLVER.TEACHER.WEIGHTS],
        parts=parts,
    )


def build_for_inference(cfg: CfgNode) -> nn.Module:
    """The model of MODEL.WEIGHTS, folded for inference; TEST.WEIGHTS selects raw or EMA weights."""
    start = find_starting_point(
        cfg.OUTPUT_DIR, weights=cfg.MODEL.WEIGHTS, resume=False, prefer=cfg.TEST.WEIGHTS
    )

    def build() -> nn.Module:
        if not cfg.is_frozen():
            resolve_tokenizer(cfg, start)
        return Trainer.build_model(cfg)

    return start.trained_model(build, weights_key=WEIGHTS_KEY)
