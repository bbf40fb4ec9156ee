"""detectron2's own trainer, predictor and tools with our configurations as they are shipped.

The overrides that docs/reference/detectron2_tools.md names are WITH_DETECTRON2; the others make the
network small.
"""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from detectron2.config import LazyConfig
from detectron2.engine import DefaultPredictor, DefaultTrainer
from detectron2.solver import build_lr_scheduler, build_optimizer

from yolor_d2 import add_yolor_config
from yolor_d2.model_zoo import config_folder, get_config, get_config_file

from ..engine.test_configs import NAMES, NARROW
from ..small_runs import SMALL

TOY = "toy/yolor_elan_n_toy.yaml"
# One image for all tasks, without AMP; masks as run lengths.
WITH_DETECTRON2 = [
    *("INPUT.WEAK_VIEW_TASKS", [], "SOLVER.AMP.ENABLED", False, "MODEL.DEVICE", "cpu"),
    *("MODEL.MASK_ON", True, "INPUT.MASK_FORMAT", "bitmask"),
]
SIZES = [
    *("INPUT.MIN_SIZE_TRAIN", (64,), "INPUT.MIN_SIZE_TEST", 64, "INPUT.MAX_SIZE_TEST", 96),
    *("MODEL.CAPTION_HEAD.TEST.MAX_TOKENS", 4),
]


def overrides(train: str, test: str, folder: Path) -> list[Any]:
    sets = ("DATASETS.TRAIN", (train,), "DATASETS.TEST", (test,))
    return [*SMALL, *NARROW, *WITH_DETECTRON2, *SIZES, *sets, "OUTPUT_DIR", str(folder)]


@pytest.fixture
def opts(toy_sets: tuple[str, str], coco_set: str, tmp_path: Path) -> list[Any]:
    """Overrides: all tasks train; detectron2's evaluator of the COCO format evaluates."""
    return overrides(toy_sets[1], coco_set, tmp_path)


@pytest.fixture
def run_tool(
    detectron2_main: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Any]]:
    """Run a program of tools/ with one added line, add_yolor_config(cfg); return its names."""

    def run(name: str, *arguments: Any) -> dict[str, Any]:
        text = (detectron2_main / "tools" / name).read_text()
        text = text.replace("cfg = get_cfg()", "cfg = get_cfg(); add_yolor_config(cfg)")
        names: dict[str, Any] = {"__name__": name, "add_yolor_config": add_yolor_config}
        exec(compile(text, name, "exec"), names)
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        names.get("invoke_main", names["main"])()
        return names

    return run


@pytest.mark.parametrize("name", NAMES)
def test_solver_of_detectron2_understands_every_configuration(name: str) -> None:
    cfg = get_config(name)
    model = torch.nn.Linear(2, 2)
    optimizer = build_optimizer(cfg, model)
    scheduler = build_lr_scheduler(cfg, optimizer)
    assert isinstance(optimizer, torch.optim.SGD)
    assert scheduler.get_last_lr()[0] <= cfg.SOLVER.BASE_LR


def test_default_trainer(opts: list[Any], tmp_path: Path) -> None:
    cfg = get_config(TOY)
    cfg.merge_from_list(opts)
    trainer = DefaultTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    losses = {name for name in trainer.storage.latest() if name.startswith("loss_")}
    assert {"loss_cls", "loss_mask", "loss_caption"} <= losses
    assert trainer.storage.latest()["loss_mask"][0] > 0
    assert (tmp_path / "model_final.pth").is_file()


def test_default_predictor(opts: list[Any], toy_root: Path) -> None:
    cfg = get_config(TOY)
    cfg.merge_from_list(opts)
    image = cv2.imread(str(next((toy_root / "toy_scenes/val").glob("*.*"))))
    result = DefaultPredictor(cfg)(image)
    assert result["instances"].image_size == image.shape[:2]
    assert {"sem_seg", "panoptic_seg"} <= result.keys()


def test_plain_train_net(
    run_tool: Callable[..., Any], opts: list[Any], coco_set: str, tmp_path: Path
) -> None:
    run_tool("plain_train_net.py", "--config-file", get_config_file(TOY), *opts)
    assert (tmp_path / "model_final.pth").is_file()
    found = tmp_path / "inference" / coco_set / "coco_instances_results.json"
    assert found.is_file()


def test_analyze_model(
    run_tool: Callable[..., Any], opts: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """It counts operations by tracing, which needs results that consist of tensors."""
    boxes = ["MODEL.YOLOR.TASKS", ["detection", "mask"]]
    logger = logging.getLogger("detectron2")
    logger.addHandler(caplog.handler)
    try:
        for tasks, more in ((("parameter", "structure"), []), (("flop", "activation"), boxes)):
            run_tool(
                "analyze_model.py",
                *("--config-file", get_config_file(TOY), "--tasks", *tasks, "--num-inputs", 2),
                *(*opts, *more),
            )
    finally:
        logger.removeHandler(caplog.handler)
    assert "Parameter Count" in caplog.text
    assert "caption_head" in caplog.text
    assert "Total GFlops" in caplog.text
    assert "Total (Million) Activations" in caplog.text


def test_visualize_data(run_tool: Callable[..., Any], coco_set: str, tmp_path: Path) -> None:
    """A data set without panoptic maps, for which it needs panopticapi."""
    flags = ["--source", "annotation", "--config-file", get_config_file(TOY), "--output-dir"]
    opts = overrides(coco_set, coco_set, tmp_path)
    run_tool("visualize_data.py", *flags, tmp_path / "drawn", *opts)
    assert len(list((tmp_path / "drawn").iterdir())) == 5


def test_lazyconfig_train_net(run_tool: Callable[..., Any], coco_set: str, tmp_path: Path) -> None:
    """The configurations in reuse/; those in lazy/ describe a run of ours by other names."""
    run_tool(
        "lazyconfig_train_net.py",
        *("--config-file", config_folder() / "reuse/fcos_yolor_elan.py"),
        *(f"train.output_dir={tmp_path}", "train.device=cpu", "train.max_iter=2"),
        *("train.init_checkpoint=''", "train.amp.enabled=False", "model.num_classes=10"),
        *("model.backbone.bottom_up.width=0.125", "model.backbone.bottom_up.depth=0.25"),
        *(f"dataloader.{part}.dataset.names={coco_set}" for part in ("train", "test")),
        *(f"dataloader.{part}.num_workers=0" for part in ("train", "test")),
        *("dataloader.train.total_batch_size=2", f"dataloader.evaluator.dataset_name={coco_set}"),
        *(
            f"dataloader.{part}.mapper.augmentations.0.{value}"
            for part in ("train", "test")
            for value in ("short_edge_length=64", "max_size=96")
        ),
    )
    assert (tmp_path / "model_final.pth").is_file()
    ours = LazyConfig.load(str(config_folder() / "lazy/yolor_elan_mtl.py"))
    assert "dataloader" not in ours
