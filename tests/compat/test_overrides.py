"""Subclasses of `Trainer` as detectron2's documentation writes those of DefaultTrainer."""

import logging
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetMapper, build_detection_test_loader, build_detection_train_loader
from detectron2.engine import DefaultTrainer, HookBase, hooks
from detectron2.evaluation import COCOEvaluator, DatasetEvaluator, DatasetEvaluators
from detectron2.solver import build_lr_scheduler, build_optimizer
from detectron2.utils.events import JSONWriter
from fvcore.common.param_scheduler import MultiStepParamScheduler
from torch.optim.lr_scheduler import MultiStepLR

from yolor_d2.engine.optim.schedule import Schedule
from yolor_d2.engine.overrides import call
from yolor_d2.engine.trainer import Trainer

from ..small_runs import Configure

BOXES = [
    *("MODEL.YOLOR.TASKS", ["detection", "mask"], "INPUT.WEAK_VIEW_TASKS", []),
    *("INPUT.MASK_FORMAT", "bitmask", "MODEL.MASK_ON", True, "SOLVER.MAX_ITER", 2),
    *("INPUT.MIN_SIZE_TRAIN", (64,), "INPUT.MIN_SIZE_TEST", 64),
]


@pytest.fixture
def coco_config(configure: Configure, coco_set: str) -> CfgNode:
    """A frozen configuration of boxes and masks on a data set of detectron2's format."""
    cfg = configure("run", *BOXES)
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = (coco_set,)
    cfg.freeze()
    return cfg


class Count(DatasetEvaluator):
    """From detectron2's tutorial on evaluation: results without the name of a task."""

    def reset(self) -> None:
        self.count = 0

    def process(self, inputs: Any, outputs: Any) -> None:
        for output in outputs:
            self.count += len(output["instances"])

    def evaluate(self) -> dict[str, int]:
        return {"count": self.count}


class Watch(HookBase):
    """Records the learning rate of each step."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def before_step(self) -> None:
        self.rates.append(self.trainer.optimizer.param_groups[0]["lr"])


class Documented(Trainer):
    """Every method that detectron2's documentation names, with its signature."""

    @classmethod
    def build_model(cls, cfg):
        return super().build_model(cfg)

    @classmethod
    def build_optimizer(cls, cfg, model):
        return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(cls, cfg, optimizer):
        return MultiStepLR(optimizer, milestones=[1, 3], gamma=0.1)

    @classmethod
    def build_train_loader(cls, cfg):
        return build_detection_train_loader(cfg, mapper=DatasetMapper(cfg, is_train=True))

    @classmethod
    def build_test_loader(cls, cfg, dataset_name):
        return build_detection_test_loader(cfg, dataset_name)

    @classmethod
    def build_evaluator(cls, cfg, dataset_name, output_folder=None):
        folder = output_folder or f"{cfg.OUTPUT_DIR}/inference"
        coco = COCOEvaluator(dataset_name, output_dir=folder, use_fast_impl=False)
        return DatasetEvaluators([coco, Count()])

    def build_hooks(self):
        hooks = super().build_hooks()
        self.watch = Watch()
        hooks.insert(-1, self.watch)
        return hooks

    def build_writers(self):
        os.makedirs(self.cfg.OUTPUT_DIR, exist_ok=True)  # default_setup makes it
        return [JSONWriter(f"{self.cfg.OUTPUT_DIR}/mine.json")]

    def run_step(self):
        self._trainer.iter = self.iter
        self._trainer.run_step()

    @classmethod
    def test_with_TTA(cls, cfg, model):
        evaluators = [
            cls.build_evaluator(cfg, name, output_folder=f"{cfg.OUTPUT_DIR}/inference_TTA")
            for name in cfg.DATASETS.TEST
        ]
        results = cls.test(cfg, model, evaluators)
        return OrderedDict({f"{name}_TTA": value for name, value in results.items()})


def test_all_documented_overrides(coco_config: CfgNode, caplog: pytest.LogCaptureFixture) -> None:
    cfg = coco_config.clone()
    cfg.merge_from_list(["TEST.EVAL_PERIOD", 2])
    with caplog.at_level(logging.WARNING, logger="yolor_d2"):
        trainer = Documented(cfg)
        trainer.resume_or_load(resume=False)
        results = trainer.train()

    assert isinstance(trainer, DefaultTrainer)
    assert (trainer.start_iter, trainer.max_iter, trainer.finished) == (0, 2, 2)
    assert isinstance(trainer.optimizer, torch.optim.SGD)
    assert trainer.watch.rates == pytest.approx([cfg.SOLVER.BASE_LR, cfg.SOLVER.BASE_LR / 10])
    assert {"bbox", "segm", "count"} <= results.keys()
    assert (Path(cfg.OUTPUT_DIR) / "mine.json").is_file()
    assert (Path(cfg.OUTPUT_DIR) / "inference/coco_instances_results.json").is_file()
    warnings = [r.getMessage() for r in caplog.records if "start_iteration" in r.getMessage()]
    assert len(warnings) == 1
    assert warnings[0].startswith("Documented.build_train_loader has no argument start_iteration")
    augmented = Documented.test_with_TTA(cfg, trainer.model.eval())
    assert {"bbox_TTA", "count_TTA"} <= augmented.keys()


def test_state_of_a_torch_scheduler_is_resumed(coco_config: CfgNode) -> None:
    Documented(coco_config).train()
    cfg = coco_config.clone()
    cfg.merge_from_list(["SOLVER.MAX_ITER", 4])
    resumed = Documented(cfg, allow_changes=True)
    resumed.resume_or_load(resume=True)
    assert resumed.start_iter == 2
    resumed.train()
    base = cfg.SOLVER.BASE_LR
    assert resumed.watch.rates == pytest.approx([base / 10, base / 100])
    assert resumed.scheduler.last_epoch == 4


def test_state_of_an_fvcore_scheduler_is_resumed(coco_config: CfgNode) -> None:
    class Own(Documented):
        @classmethod
        def build_lr_scheduler(cls, cfg, optimizer):
            return MultiStepParamScheduler([1.0, 0.1, 0.01], milestones=[1, 3], num_updates=4)

    cfg = coco_config.clone()
    cfg.merge_from_list(["SOLVER.MAX_ITER", 4])
    Own(coco_config).train()
    resumed = Own(cfg, allow_changes=True)
    resumed.resume_or_load(resume=True)
    resumed.train()
    base = cfg.SOLVER.BASE_LR
    assert resumed.watch.rates == pytest.approx([base / 10, base / 100])


class OfDetectron2(Trainer):
    """Its schedule is detectron2's, its hooks are all replaced."""

    @classmethod
    def build_lr_scheduler(cls, cfg, optimizer):
        return build_lr_scheduler(cfg, optimizer)

    def build_hooks(self):
        self.watch = Watch()
        return [
            hooks.IterationTimer(),
            hooks.LRScheduler(),
            hooks.PeriodicCheckpointer(self.checkpointer, 1, max_to_keep=2),
            hooks.EvalHook(2, lambda: self.test(self.cfg, self.model)),
            hooks.BestCheckpointer(2, self.checkpointer, "bbox/AR@100"),
            hooks.PeriodicWriter(self.build_writers(), period=1),
            self.watch,
        ]


OWN = ["SOLVER.LR_SCHEDULER_NAME", "WarmupMultiStepLR", "SOLVER.STEPS", (2,)]


def test_hooks_of_detectron2_alone(configure: Configure) -> None:
    cfg = configure("run", *BOXES, *OWN, "SOLVER.MAX_ITER", 3, "SOLVER.WARMUP_ITERS", 2)
    trainer = OfDetectron2(cfg)
    trainer.train()
    folder = Path(cfg.OUTPUT_DIR)
    names = {path.name for path in folder.glob("*.pth")}
    assert {"model_0000001.pth", "model_0000002.pth", "model_final.pth"} <= names
    assert "model_0000000.pth" not in names
    assert "model_best.pth" in names
    rates = [rate / cfg.SOLVER.BASE_LR for rate in trainer.watch.rates]
    assert rates == pytest.approx([0.001, 0.0505, 0.1], abs=1e-3)

    resumed = OfDetectron2(cfg)
    resumed.resume_or_load(resume=True)
    assert resumed.start_iter == 3
    assert resumed.scheduler.last_epoch == 3


def test_hook_lr_scheduler_beside_our_schedule(configure: Configure) -> None:
    class Plain(OfDetectron2):
        @classmethod
        def build_lr_scheduler(cls, cfg, optimizer):
            return Trainer.build_lr_scheduler(cfg, optimizer)

    cfg = configure("run", *BOXES, "SOLVER.MAX_ITER", 2)
    trainer = Plain(cfg)
    trainer.train()
    assert isinstance(trainer.scheduler, Schedule)
    assert trainer.finished == 2


def test_checkpointer_saves_and_loads_the_run(configure: Configure) -> None:
    cfg = configure("run", *BOXES, "SOLVER.MAX_ITER", 1)
    trainer = Trainer(cfg)
    trainer.train()
    trainer.checkpointer.save("mine")
    assert trainer.checkpointer.has_checkpoint()
    path = str(Path(cfg.OUTPUT_DIR) / "mine.pth")

    other = Trainer(configure("other", *BOXES, "SOLVER.MAX_ITER", 2), allow_changes=True)
    assert other.checkpointer.load(path, checkpointables=[]) == {}
    assert other.start_iter == 0
    assert other.checkpointer.load(path)["iteration"] == 1
    assert other.start_iter == 1
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(other.model.state_dict()[name], value), name
    with pytest.raises(TypeError, match="a hook that has a state_dict"):
        other.checkpointer.add_checkpointable("mine", object())


def test_data_loader_is_available_before_training(configure: Configure) -> None:
    trainer = Trainer(configure("run", *BOXES, "SOLVER.MAX_ITER", 1))
    batch = next(iter(trainer.data_loader))
    assert len(batch) == 4
    assert "instances" in batch[0]
    assert trainer.data_loader is trainer.data_loader


def test_frozen_configuration_with_captions(configure: Configure) -> None:
    cfg = configure("run", "SOLVER.MAX_ITER", 1)
    cfg.freeze()
    trainer = Trainer(cfg)
    assert cfg.TOKENIZER.MODEL == ""
    assert trainer.cfg.is_frozen()
    assert trainer.cfg.TOKENIZER.MODEL.endswith("tokenizer.model")
    loader = Trainer.build_train_loader(trainer.cfg)  # as an override calls it
    assert "weak_image" in next(iter(loader))[0]


def test_our_own_arguments_reach_an_override(configure: Configure) -> None:
    seen = {}

    class Own(Trainer):
        @classmethod
        def build_train_loader(cls, cfg, tokenizer, start_iteration):
            seen.update(tokenizer=tokenizer, start=start_iteration)
            return super().build_train_loader(cfg, tokenizer, start_iteration)

    trainer = Own(configure("run", "SOLVER.MAX_ITER", 1))
    trainer.open_data()
    assert seen["start"] == 0
    assert seen["tokenizer"] is trainer.parts.tokenizer


def test_arguments_are_passed_by_signature() -> None:
    assert call(lambda cfg: cfg, 1, own=2) == 1
    assert call(lambda cfg, own: own, 1, own=2) == 2
    assert call(lambda cfg, **all: all, 1, own=2) == {"own": 2}


def test_evaluators_of_test(coco_config: CfgNode) -> None:
    model = Trainer.build_model(coco_config).eval()
    assert Trainer.test(coco_config, model, Count()).keys() == {"count"}
    assert Trainer.test(coco_config, model, [None]) == {}
    with pytest.raises(ValueError, match="has 1 data sets, but there are 2 evaluators"):
        Trainer.test(coco_config, model, [Count(), Count()])

    class Without(Trainer):
        @classmethod
        def build_evaluator(cls, cfg, dataset_name):
            raise NotImplementedError

    assert Without.test(coco_config, model) == {}


def test_own_test_time_augmentation(configure: Configure) -> None:
    cfg = configure("run", *BOXES)
    results = Trainer.test_with_TTA(cfg, Trainer.build_model(cfg).eval())
    assert {"bbox_TTA", "segm_TTA"} == results.keys()
    folder = Path(cfg.OUTPUT_DIR)
    assert (folder / "inference_TTA/metrics.json").is_file()
    assert not (folder / "metrics.json").exists()


def test_configuration_without_our_keys_is_refused() -> None:
    from detectron2.config import get_cfg

    with pytest.raises(ValueError, match="add_yolor_config"):
        Trainer(get_cfg())
