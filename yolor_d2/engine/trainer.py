"""detectron2's DefaultTrainer for a *.yaml configuration; translates it into the parts of a run."""

import logging
from argparse import Namespace
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, HookBase
from detectron2.evaluation import DatasetEvaluator
from detectron2.modeling import build_model
from detectron2.utils import comm
from torch import nn
from torch.utils.data import DataLoader

from ..checkpoint.provenance import Provenance
from ..data import build_test_loader, build_train_loader
from ..data.formats.registration import register_configured
from ..data.loading.validation import build_validation_loader
from ..evaluation import build_evaluator
from ..model_zoo import load_config
from ..modeling.deploy import best_device
from ..modeling.test_time_augmentation import TestTimeAugmentation
from ..tokenizer import Tokenizer
from .config_diff import yacs_changes
from .evaluation import EvaluationJob, Results, evaluate_datasets
from .hooks.standard import standard_hooks
from .optim.optimizer import build_optimizer
from .optim.schedule import Schedule, build_schedule
from .options import RunOptions
from .parts import ConfigText, Configuration, DataParts, RunParts
from .provenance import describe_data
from .run import Run
from .starting_point import StartingPoint, find_starting_point
from .tokenizing import resolve_tokenizer

logger = logging.getLogger(__name__)

WEIGHTS_KEY = "MODEL.WEIGHTS"


class Trainer(Run, DefaultTrainer):
    """A run from a configuration.

    Its parts can be replaced as in DefaultTrainer, by overriding `build_model`, `build_optimizer`,
    `build_lr_scheduler`, `build_train_loader`, `build_test_loader`, `build_evaluator`, `test`,
    `build_hooks`, or `build_writers`.

    Args:
        cfg: of the run. If it is not frozen, the tokenizer is chosen and set.
        allow_changes: resume although the configuration differs.
        overwrite: remove the files of an earlier run in OUTPUT_DIR.
    """

    def __init__(
        self, cfg: CfgNode, *, allow_changes: bool = False, overwrite: bool = False
    ) -> None:
        cfg = DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size())
        if not cfg.is_frozen() and "caption" in cfg.MODEL.YOLOR.TASKS:
            start = find_starting_point(cfg.OUTPUT_DIR, weights=cfg.MODEL.WEIGHTS, resume=False)
            resolve_tokenizer(cfg, start)
        self.cfg = cfg
        super().__init__(self.parts_of(cfg), allow_changes=allow_changes, overwrite=overwrite)
        self.register_hooks(self.build_hooks())

    @classmethod
    def parts_of(cls, cfg: CfgNode) -> RunParts:
        """The parts of a run, by the class methods below; TOKENIZER.MODEL is a file or ""."""
        tokenizer = Tokenizer.load(cfg.TOKENIZER.MODEL) if cfg.TOKENIZER.MODEL else None
        return RunParts(
            options=RunOptions.from_config(cfg),
            config=ConfigText(
                text=cfg.dump(),
                file_name="config.yaml",
                changes=yacs_changes,
                weights_key=WEIGHTS_KEY,
            ),
            data=DataParts(
                train=cfg.DATASETS.TRAIN,
                test=cfg.DATASETS.TEST,
                train_loader=partial(cls.build_train_loader, cfg, tokenizer),
                validation_loaders=partial(cls.build_validation_loaders, cfg, tokenizer),
                image_format=cfg.INPUT.FORMAT,
                batch_size=cfg.SOLVER.IMS_PER_BATCH,
                canvas=max(cfg.INPUT.STRONG.SIZE, cfg.INPUT.WEAK.SIZE),
            ),
            model=partial(cls.build_model, cfg),
            optimizer=partial(cls.build_optimizer, cfg),
            schedule=cls.build_lr_scheduler(cfg),
            test=partial(cls.test, cfg),
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
    def build_lr_scheduler(cls, cfg: CfgNode) -> Schedule:
        return build_schedule(cfg)

    @classmethod
    def build_train_loader(
        cls, cfg: CfgNode, tokenizer: Tokenizer | None, start_iteration: int
    ) -> DataLoader[Any]:
        return build_train_loader(cfg, tokenizer=tokenizer, start_iteration=start_iteration)

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
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        return build_evaluator(cfg, dataset_name)

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
        evaluators: Sequence[DatasetEvaluator] | None = None,
    ) -> Results:
        """Evaluate a model in evaluation mode on DATASETS.TEST; see `evaluate_datasets`.

        Args:
            cfg: of the data and the metrics.
            model: returns predictions in detectron2's format.
            evaluators: one for each data set, instead of those of `build_evaluator`.
        """
        if cfg.TEST.TTA.ENABLED:
            model = TestTimeAugmentation.from_config(cfg, model)
        jobs = {
            name: EvaluationJob(
                loader=partial(cls.build_test_loader, cfg, name),
                evaluator=partial(cls.build_evaluator, cfg, name),
            )
            for name in cfg.DATASETS.TEST
        }
        for name, evaluator in zip(cfg.DATASETS.TEST, evaluators or (), strict=False):
            given = partial(lambda evaluator: evaluator, evaluator)
            jobs[name] = jobs[name]._replace(evaluator=given)
        return evaluate_datasets(model, jobs, output_dir=cfg.OUTPUT_DIR)


def read_yacs(args: Namespace) -> Configuration:
    """Read a *.yaml file with the overrides of the command line."""
    cfg = load_config(args.config_file, args.opts)
    register_configured(cfg)
    if cfg.MODEL.DEVICE == "cuda":
        cfg.MODEL.DEVICE = best_device()
    cfg = DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size())
    torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK and not args.eval_only

    def parts(start: StartingPoint) -> RunParts:
        resolve_tokenizer(cfg, start)
        cfg.freeze()
        return Trainer.parts_of(cfg)

    return Configuration(
        options=RunOptions.from_config(cfg),
        seed=cfg.SEED,
        weights=cfg.MODEL.WEIGHTS,
        sources=[cfg.MODEL.WEIGHTS, cfg.TOKENIZER.MODEL],
        parts=parts,
    )


def build_for_inference(cfg: CfgNode) -> nn.Module:
    """The model of MODEL.WEIGHTS, folded; TEST.WEIGHTS selects raw or averaged weights."""
    start = find_starting_point(
        cfg.OUTPUT_DIR, weights=cfg.MODEL.WEIGHTS, resume=False, prefer=cfg.TEST.WEIGHTS
    )
    if start.stored is None:
        raise ValueError(f"{WEIGHTS_KEY} is empty: there is nothing to evaluate")
    if not cfg.is_frozen():
        resolve_tokenizer(cfg, start)
    return start.load_trained(Trainer.build_model(cfg))


def describe(cfg: CfgNode) -> Provenance:
    """The provenance of a run with this configuration."""
    return describe_data(cfg.dump(), (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST))
