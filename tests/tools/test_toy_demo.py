"""The demo: all stages, on few scenes with a small network."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from yolor_d2.tools import toy_demo as demo
from yolor_d2.toy_scenes.builtin import register_all

from ..data.coco_files import restored_catalogs

SMALL = """\
_BASE_: toy/yolor_elan_n_toy.yaml
MODEL:
  YOLOR_ELAN: {WIDTH: 0.125, DEPTH: 0.25}
  CAPTION_HEAD: {DIM: 32, NUM_HEADS: 2, FFN_DIM: 64, TEST: {MAX_TOKENS: 8}}
INPUT: {STRONG: {SIZE: 64}, WEAK: {SIZE: 64}, TEST_SIZE: 64}
TOKENIZER: {VOCAB_SIZE: 200}
SOLVER: {IMS_PER_BATCH: 4, MAX_ITER: 3}
DATALOADER: {NUM_WORKERS: 0}
LOG: {PICTURES: 1, PERIOD: 1}
"""


@pytest.fixture
def small(tmp_path: Path, toy_root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The demo with few scenes, a small network and an output folder, which is returned."""
    config = tmp_path / "small.yaml"
    config.write_text(SMALL)
    scenes = json.loads((toy_root / "toy_scenes/toy_scenes.json").read_text())
    del scenes["generator"]
    monkeypatch.setattr(demo, "CONFIG", str(config))
    monkeypatch.setattr(demo, "SCENES", scenes)
    monkeypatch.setattr(demo, "dataset_root", lambda: toy_root)
    with restored_catalogs():
        for name in ("toy_scenes_train", "toy_scenes_val"):
            DatasetCatalog.remove(name)
            MetadataCatalog.data = {
                key: value for key, value in MetadataCatalog.data.items() if "toy_scenes" not in key
            }
        register_all(toy_root)
        yield tmp_path / "demo"


def test_all_stages(small: Path, toy_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = image_times(toy_root)
    assert demo.main(["--output", str(small)]) == 0
    assert image_times(toy_root) == before  # the scenes exist
    out = capsys.readouterr().out
    assert re.search(r"takes about \d+ s on this machine: training \d+ s \(3 steps of \d", out)
    assert f"$ yolor-d2 train --config-file {small.parent}/small.yaml --overwrite OUTPUT_DIR" in out
    stages = re.findall(r"^\| (\w[\w ]+?) +\| +\d+ \| +\d+% \| +\d+ \|$", out, re.MULTILINE)
    assert stages == [
        *("toy scenes", "estimate of the time", "check of the scenes", "training", "evaluation"),
        *("pictures", "page of results", "together"),
    ]
    for name in re.findall(rf"^{small}/(\S+)", out, re.MULTILINE):
        assert (small / name).exists()
    assert len(list((small / "pictures").glob("*.png"))) == 5


def image_times(root: Path) -> list[float]:
    return [path.stat().st_mtime for path in sorted(root.rglob("*.*"))]


def test_minutes(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The training has the limit, and the numbers are not those of the README."""
    monkeypatch.setattr(demo, "seconds_per_step", lambda cfg: 0.5)
    monkeypatch.setattr(demo, "run_training", lambda arguments: len(arguments))
    assert demo.main(["--output", str(small), "--minutes", "5"]) > 2
    out = capsys.readouterr().out
    assert "training 5 min (about 600 steps of 0.50 s)" in out
    assert "SOLVER.MAX_MINUTES 5 SOLVER.MAX_ITER 1000000\n" in out

    small.mkdir(exist_ok=True)
    metrics = {**dict.fromkeys(demo.METRICS.values(), 12.346), "segm/AP": None}
    (small / "metrics.json").write_text(json.dumps(metrics))
    table = demo.metrics_table(small, 5.0).splitlines()
    assert table[2].count("12.35") == 5
    assert "| - " in table[2]
    assert table[3] == "after 5 minutes of training; the README's numbers are of the full recipe"
    assert len(demo.metrics_table(small, None).splitlines()) == 3


def test_a_stage_that_fails_is_the_last(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "TEST_SET", "toy_scenes_test")
    monkeypatch.setattr(demo, "estimate", lambda *_: "")
    assert demo.main(["--output", str(small)]) == 2
    assert "== training" not in capsys.readouterr().out


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "soon"])
def test_wrong_minutes(minutes: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        demo.main(["--minutes", minutes])
    assert "--minutes" in capsys.readouterr().err
