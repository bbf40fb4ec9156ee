"""Runs of version 0.1.0 before its modules moved: they load, resume and predict as they did.

`earlier/runs.tar.xz` has two run folders after 3 of 6 steps, one of a *.yaml and one of a
LazyConfig, `earlier/lazy` the LazyConfig that the latter was started from, `earlier/expected.json`
what that version computed next. The networks are tiny.
"""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from yolor_d2 import Predictor
from yolor_d2.engine.launch.arguments import argument_parser
from yolor_d2.engine.main import main

from .data.coco_files import restored_catalogs
from .small_runs import register

FOLDER = Path(__file__).parent / "earlier"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())


@pytest.fixture
def runs(tmp_path: Path, toy_root: Path) -> Iterator[Path]:
    """The run folders, and their data sets in the catalogue."""
    with tarfile.open(FOLDER / "runs.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    with restored_catalogs():
        register(toy_root)
        yield tmp_path


def assert_as_expected(run: Path) -> None:
    """Steps 4 to 6 had the losses of the version that began the run."""
    lines = [json.loads(line) for line in (run / "training.jsonl").read_text().splitlines()]
    losses = [{key: value for key, value in line.items() if "loss" in key} for line in lines]
    losses = [line for line in losses if line]
    assert losses == [pytest.approx(each, rel=1e-3) for each in EXPECTED[run.name]["losses"]]
    assert torch.load(run / "model_final.pth", weights_only=True)["iteration"] == 6


def test_resume_yaml(runs: Path) -> None:
    """With the configuration that the run wrote."""
    config = str(runs / "yaml/config.yaml")
    arguments = ["--config-file", config, "--resume", "OUTPUT_DIR", str(runs / "yaml")]
    main(argument_parser().parse_args(arguments))
    assert_as_expected(runs / "yaml")


def test_resume_lazy(runs: Path) -> None:
    """With the file and the overrides that started the run."""
    overrides = [
        *(f"model.{head}_head.input_shape.width=0.001" for head in ("detection", "mask")),
        *(f"model.{head}_head.input_shape.width=0.001" for head in ("semantic", "caption")),
        *("model.backbone.width=0.001", "model.backbone.depth=0.25"),
        *(f"model.{name}.in_features=[p3]" for name in ("detection_head", "mask_head")),
        *("model.backbone.out_features=[p3]", "model.caption_head.in_features=[p3]"),
        *("model.detection_head.reg_max=4", "model.mask_head.num_prototypes=4"),
        *("model.detection_head.num_classes=10", "model.semantic_head.num_classes=19"),
        *("model.caption_head.dim=8", "model.caption_head.ffn_dim=8"),
        *("model.caption_head.decoder_layers=1", "model.caption_head.num_heads=2"),
        *("model.caption_head.max_positions=40", "model.caption_head.vocab_size=60"),
        *("model.caption_head.decoding.max_tokens=8", "model.caption_head.region_feature=p3"),
        *("model.caption_head.num_classes=10", "tokenizer.vocab_size=60"),
        *("data.train=[engine_train]", "data.test=[engine_val]", "data.batch_size=4"),
        *("data.num_workers=0", "data.close_mosaic_iters=2", "train_mapper.weak_size=64"),
        *("train_mapper.strong.size=64", "train_mapper.num_sem_seg_classes=19"),
        *("test_mapper.test_size=64", "schedule.warmup_iters=2", "evaluators.meteor=False"),
        *("run.curves=False", "run.pictures=0", "run.checkpoint_period=3", "run.eval_period=-1"),
        *("run.loss_period=0", "run.log_period=1", "run.max_iter=6", "run.channels_last=False"),
        *("run.freeze=[backbone,detection_head]", f"run.output_dir={runs / 'lazy'}"),
    ]
    flags = ["--config-file", str(FOLDER / "lazy/yolor_elan_mtl.py"), "--resume"]
    main(argument_parser().parse_args([*flags, *overrides]))
    assert_as_expected(runs / "lazy")


@pytest.mark.parametrize("kind", ["yaml", "lazy"])
def test_predict(runs: Path, toy_root: Path, kind: str) -> None:
    """From the checkpoint alone."""
    predictor = Predictor(runs / kind / "model_0000002.pth", device="cpu")
    image = sorted((toy_root / "toy_scenes/val").iterdir())[0]
    found: Any = predictor(str(image))
    expected = EXPECTED[kind]
    assert len(found.instances) == expected["objects"]
    assert found.instances.scores[:5].tolist() == pytest.approx(expected["scores"], rel=1e-4)
    labels = torch.bincount(found.sem_seg.argmax(0).flatten(), minlength=19)
    assert labels.tolist() == pytest.approx(expected["labels"], abs=20)
    assert found.caption == expected["caption"]
