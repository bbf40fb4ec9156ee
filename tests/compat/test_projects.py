"""The `Trainer` classes of detectron2's own projects, with the base class exchanged for ours."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.evaluation import COCOEvaluator
from torch.optim.lr_scheduler import LRScheduler

from yolor_d2.engine.trainer import Trainer

from ..small_runs import Configure
from .test_overrides import BOXES

PROJECTS = ("PointRend", "DeepLab", "PointSup", "TridentNet")


def load_program(project: Path) -> dict[str, Any]:
    """The names of a project's train_net.py, whose Trainer is a subclass of ours."""
    text = (project / "train_net.py").read_text()
    line = "class Trainer(DefaultTrainer):"
    assert line in text
    names: dict[str, Any] = {"__name__": project.name, "Exchanged": Trainer}
    exec(text.replace(line, "class Trainer(Exchanged):"), names)
    return names


@pytest.fixture
def on_path(detectron2_main: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of projects; the packages of PointSup and TridentNet can be imported."""
    projects = detectron2_main / "projects"
    for name in ("PointSup", "TridentNet"):
        monkeypatch.syspath_prepend(str(projects / name))
    yield projects
    for name in [n for n in sys.modules if n.startswith(("point_sup", "tridentnet"))]:
        del sys.modules[name]


def project_config(names: dict[str, Any], configure: Configure, *overrides: Any) -> CfgNode:
    """Our configuration with the keys of a project."""
    cfg = configure("run", *BOXES)
    for name, value in names.items():
        if name.startswith("add_") and name.endswith("_config"):
            value(cfg)
    cfg.merge_from_list(list(overrides))
    return cfg


@pytest.mark.parametrize("name", PROJECTS)
def test_trains_and_evaluates(
    on_path: Path, configure: Configure, coco_set: str, name: str
) -> None:
    """YOLOR's boxes and masks, with the loaders, schedules and evaluators of the project."""
    names = load_program(on_path / name)
    cfg = project_config(names, configure)
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = (coco_set,)
    if name == "DeepLab":  # it has no evaluator for boxes
        cfg.DATASETS.TEST = ()
        cfg.SOLVER.LR_SCHEDULER_NAME = "WarmupPolyLR"
    if name == "TridentNet":  # the loader is ours
        cfg.INPUT.DATASET_MAPPER_NAME = "detectron2"
    cfg.freeze()
    trainer = names["Trainer"](cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()

    assert trainer.finished == 2
    if name == "DeepLab":
        assert type(trainer.scheduler).__name__ == "WarmupPolyLR"
        assert trainer.scheduler.last_epoch == 2
    else:
        evaluator = trainer.build_evaluator(cfg, coco_set)
        assert isinstance(evaluator, COCOEvaluator)


def test_panoptic_deeplab(
    on_path: Path, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its optimizer and schedule; its mapper and evaluators need panopticapi, which is not here."""
    utils = ModuleType("panopticapi.utils")
    utils.rgb2id = lambda colors: colors  # only imported
    monkeypatch.setitem(sys.modules, "panopticapi", ModuleType("panopticapi"))
    monkeypatch.setitem(sys.modules, "panopticapi.utils", utils)
    names = load_program(on_path / "Panoptic-DeepLab")
    cfg = project_config(names, configure, "SOLVER.LR_SCHEDULER_NAME", "WarmupPolyLR")
    trainer_class = names["Trainer"]
    model = trainer_class.build_model(cfg)
    optimizer = trainer_class.build_optimizer(cfg, model)
    scheduler = trainer_class.build_lr_scheduler(cfg, optimizer)
    assert isinstance(optimizer, torch.optim.Adam)
    assert isinstance(scheduler, LRScheduler)

    class WithOurData(trainer_class):
        build_train_loader = Trainer.build_train_loader

    trainer = WithOurData(cfg)
    trainer.train()
    assert trainer.finished == 2
    assert trainer.scheduler.last_epoch == 2
