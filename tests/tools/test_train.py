"""`yolor-d2 train --data`: from a folder to a checkpoint, pictures and a prediction."""

import shlex
import sys
from pathlib import Path

import pytest
import yaml
from detectron2.data import DatasetCatalog

import yolor_d2_cli

from ..data.formats.conftest import Make, make

__all__ = ["make"]  # a fixture

QUICK = ("DATALOADER.NUM_WORKERS", "0", "LOG.PICTURES", "0", "LOG.CURVES", "False")


@pytest.fixture(autouse=True)
def arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """The script replaces sys.argv."""
    monkeypatch.setattr(sys, "argv", ["yolor-d2"])


def test_train_predict_and_train_again(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    make("coco_folders")
    flags = [
        "--data",
        "coco_folders",
        "--epochs",
        "1",
        "--output",
        "out",
        "--batch",
        "auto",
        *QUICK,
    ]
    assert yolor_d2_cli.main(["train", *flags]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "data:    COCO, coco_folders"
    assert lines[5].startswith("detection, mask, caption on c")
    assert len(list(Path("out/pictures").glob("*.png"))) == 2
    assert Path("out/metrics.json").is_file()

    program, *command = shlex.split(lines[-1])
    assert program == "yolor-d2"
    assert yolor_d2_cli.main([*command, "--device", "cpu"]) == 0
    assert Path("out/predicted/predictions.jsonl").is_file()

    # As in a new process.
    DatasetCatalog.remove("own_train")
    again = ["--config-file", "out/training.yaml", "OUTPUT_DIR", "again", "SOLVER.MAX_ITER", "1"]
    assert yolor_d2_cli.main(["train", *again]) == 0
    assert Path("again/model_final.pth").is_file()
    first, second = (yaml.safe_load(Path(f, "config.yaml").read_text()) for f in ("out", "again"))
    assert first["DATASETS"] == second["DATASETS"]

    assert yolor_d2_cli.main(["train", *flags]) == 2
    assert "has a run already" in capsys.readouterr().err
    truth = Path("again/data/val_instances.json")
    truth.unlink()
    with pytest.raises(SystemExit):
        yolor_d2_cli.main(["train", *again])
    assert not truth.exists()  # a refused run writes nothing


def test_errors_write_nothing(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    root = make("yolo")
    (root / "labels/train/1.txt").write_text("0 0.5 0.5 x 0.1\n")
    for flags, message in (
        (["--data", "yolo"], "1.txt, line 1: '0 0.5 0.5 x 0.1' has a word that is not a number"),
        (["--data", "nowhere"], "nowhere: no such file or folder"),
        (["--data=yolo/images"], "yolo/images: no known format; looked for COCO JSON: "),
    ):
        assert yolor_d2_cli.main(["train", *flags]) == 2
        (error,) = capsys.readouterr().err.splitlines()
        assert error.startswith("yolor-d2 train: ")
        assert message in error
    (root / "labels/train/1.txt").write_text("")
    assert yolor_d2_cli.main(["train", "--data", "yolo", "--tasks", "mask"]) == 2
    assert sorted(path.name for path in Path().iterdir()) == ["yolo"]


def test_wrong_flags(make: Make) -> None:
    for flags in (
        ["--epochs", "0"],
        ["--minutes", "-1"],
        ["--minutes", "1", "--epochs", "1"],
        ["--size", "x"],
        ["--batch", "0"],
        ["--batch", "many"],
    ):
        with pytest.raises(SystemExit) as stop:
            yolor_d2_cli.main(["train", "--data", "yolo", *flags])
        assert stop.value.code == 2


def test_check_data(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    root = make("coco_folders")
    assert yolor_d2_cli.main(["check-data", "coco_folders", "--workers", "0"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("data:    COCO, coco_folders\nimages:  6 for training, 2 for valid")
    assert "own_train: OK" in out
    assert "own_val: OK" in out
    image = root / "val2017/6.jpg"
    image.write_bytes(image.read_bytes()[:100])
    assert yolor_d2_cli.main(["check-data", "coco_folders", "--workers", "0"]) == 1
    assert "6.jpg" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        yolor_d2_cli.main(["check-data"])
