"""detectron2's DefaultTrainer: from a configuration to a run that cannot be lost."""

import functools
import logging
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.engine import DefaultTrainer, HookBase
from detectron2.evaluation import DatasetEvaluator, verify_results
from detectron2.modeling import build_model
from detectron2.utils import comm
from detectron2.utils.events import EventWriter
from torch import nn
from torch.utils.data import DataLoader

from ..checkpoint.provenance import describe_run
from ..checkpoint.weights import load_weights
from ..data import build_test_loader, build_train_loader
from ..data.catalog.class_tables import describe_classes
from ..data.catalog.fingerprint import dataset_fingerprint
from ..data.loading.validation import build_validation_loader
from ..evaluation import build_evaluator
from ..modeling.test_time_augmentation import TestTimeAugmentation
from ..tokenizer import Tokenizer
from .evaluation import Examination, Results, examine
from .hooks.evaluation import Evaluation
from .hooks.samples import draw_first_samples
from .hooks.standard import standard_hooks
from .optim.optimizer import build_optimizer
from .optim.schedule import Schedule, build_schedule
from .options import RunOptions
from .rewards import build_reward
from .run import Run
from .tokenizing import resolve_tokenizer
from .writers import build_writers

logger = logging.getLogger(__name__)


class Trainer(Run, DefaultTrainer):
    """A run as a configuration describes it.

    What it is made of can be replaced as in DefaultTrainer: `build_model`, `build_optimizer`,
    `build_lr_scheduler`, `build_train_loader`, `build_test_loader`, `build_evaluator`,
    `build_hooks`, `build_writers`.

    Args:
        cfg: of the run. Where it is frozen, its tokenizer has been chosen.
        allow_changes: go on with a run although the configuration differs.
        overwrite: remove what an earlier run has left in OUTPUT_DIR.
    """

    def __init__(
        self, cfg: CfgNode, *, allow_changes: bool = False, overwrite: bool = False
    ) -> None:
        cfg = DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size())
        if not cfg.is_frozen():
            resolve_tokenizer(cfg)
        self.cfg = cfg
        tokenizer = Tokenizer.load(cfg.TOKENIZER.MODEL) if cfg.TOKENIZER.MODEL else None
        model = self.build_model(cfg)
        super().__init__(
            model=model,
            build_optimizer=functools.partial(self.build_optimizer, cfg),
            schedule=self.build_lr_scheduler(cfg),
            build_loader=self._load_from,
            options=RunOptions.from_config(cfg),
            reward=build_reward(model, cfg.DATASETS.TRAIN, tokenizer),
            tokenizer=tokenizer,
            provenance=describe(cfg),
            allow_changes=allow_changes,
            overwrite=overwrite,
        )
        test = functools.partial(self.test, cfg)
        self.evaluation = Evaluation(self.evaluator(test), period=self.options.eval_period)
        self.register_hooks(self.build_hooks())

    # --- what a run is made of

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
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Iterable[Any]:
        return build_test_loader(cfg, dataset_name, batch_size=cfg.TEST.BATCH_SIZE)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        return build_evaluator(cfg, dataset_name)

    def build_hooks(self) -> list[HookBase]:
        return standard_hooks(
            self,
            evaluation=self.evaluation,
            validation_loaders=self.build_validation_loaders,
            writers=self.build_writers,
        )

    def build_writers(self) -> list[EventWriter]:
        options = self.options
        return build_writers(options.output_dir, max_iter=self.max_iter, wandb=options.wandb)

    def build_validation_loaders(self) -> list[Iterable[Any]]:
        return [
            build_validation_loader(
                self.cfg,
                name,
                tokenizer=self.tokenizer,
                max_images=self.options.loss_images,
                batch_size=self.cfg.TEST.BATCH_SIZE,
            )
            for name in self.cfg.DATASETS.TEST
        ]

    def _load_from(self, iteration: int) -> Iterable[Any]:
        loader = self.build_train_loader(self.cfg, self.tokenizer, iteration)
        if iteration == 0 and self.options.pictures and comm.is_main_process():
            draw_first_samples(
                loader,
                self.folder.path / "samples",
                number=self.options.pictures,
                metadata=MetadataCatalog.get(self.cfg.DATASETS.TRAIN[0]),
                tokenizer=self.tokenizer,
                image_format=self.cfg.INPUT.FORMAT,
            )
        return loader

    # --- beginning and end

    def resume_or_load(self, resume: bool = True) -> None:
        """Go on with the run in OUTPUT_DIR, if asked to and if there is one, else MODEL.WEIGHTS."""
        if resume and self.resume():
            return
        if resume:
            logger.warning("OUTPUT_DIR %s has no checkpoint: a new run", self.cfg.OUTPUT_DIR)
        if self.cfg.MODEL.WEIGHTS:
            logger.info("%s", load_weights(self.model, self.cfg.MODEL.WEIGHTS))
            self.reset_ema()

    def train(self) -> Results:
        """Train to the end; the results of the last evaluation."""
        super().train()
        results = self.evaluation.results
        if self.cfg.TEST.EXPECTED_RESULTS and comm.is_main_process():
            verify_results(self.cfg, results)
        return results

    @classmethod
    def test(
        cls,
        cfg: CfgNode,
        model: nn.Module,
        evaluators: Sequence[DatasetEvaluator] | None = None,
    ) -> Results:
        """Evaluate a model in evaluation mode on DATASETS.TEST, as `examine` does.

        Args:
            cfg: of the data and the metrics.
            model: may be any that predicts as detectron2's do.
            evaluators: one for each data set, instead of those of `build_evaluator`.
        """
        if cfg.TEST.TTA.ENABLED:
            model = TestTimeAugmentation.from_config(cfg, model)
        examinations = {
            name: Examination(
                loader=functools.partial(cls.build_test_loader, cfg, name),
                evaluator=functools.partial(cls.build_evaluator, cfg, name),
            )
            for name in cfg.DATASETS.TEST
        }
        for name, evaluator in zip(cfg.DATASETS.TEST, evaluators or (), strict=False):
            given = functools.partial(lambda evaluator: evaluator, evaluator)
            examinations[name] = examinations[name]._replace(evaluator=given)
        return examine(model, examinations, output_dir=cfg.OUTPUT_DIR)


def describe(cfg: CfgNode) -> dict[str, Any]:
    """What a checkpoint says of where it comes from."""
    return describe_data(cfg.dump(), (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST))


def describe_data(config_text: str, names: Iterable[str]) -> dict[str, Any]:
    """Likewise, from the configuration as text and the names of all data sets."""
    unique = list(dict.fromkeys(names))
    return describe_run(
        config_text,
        argv=sys.argv[1:],
        data={name: dataset_fingerprint(name) for name in unique},
        **describe_classes(map(MetadataCatalog.get, unique)),
    )
