"""`yolor-d2 train --data`: from a folder to a checkpoint, pictures and a prediction."""

import json
import shlex
import shutil
import sys
from collections.abc import Sequence
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

    check_evaluation(capsys)
    check_resume(flags, capsys)
    capsys.readouterr()

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
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("yolor-d2 train: OUTPUT_DIR again has a run already")
    assert not truth.exists()  # a refused run writes nothing


def check_evaluation(capsys: pytest.CaptureFixture[str]) -> None:
    """The checkpoint alone gives the numbers at the end of the run."""
    wanted = json.loads(Path("out/metrics.json").read_text())
    weights = ["--weights", "out/model_final.pth"]
    for data in ([], ["--data", "coco_folders"]):
        DatasetCatalog.remove("own_val")  # as in a new process
        assert yolor_d2_cli.main(["eval", *weights, *data, "--output", "evaluated"]) == 0
        assert json.loads(Path("evaluated/metrics.json").read_text()) == wanted
        assert "coco_folders: 2 images as own_val\n" in capsys.readouterr().out
        shutil.rmtree("evaluated")
    assert yolor_d2_cli.main(["info", *weights, "--size", "64"]) == 0
    assert "detection head: box" in capsys.readouterr().out

    renamed = Path("coco_folders/annotations/instances_val2017.json")
    text = renamed.read_text()
    Path("other/images").mkdir(parents=True)
    Path("other/coco.json").write_text(text.replace('"ball"', '"cone"'))
    shutil.copytree("coco_folders/val2017", "other/images", dirs_exist_ok=True)
    with pytest.raises(SystemExit) as stop:
        yolor_d2_cli.main(["eval", *weights, "--data", "other", "--output", "evaluated"])
    assert stop.value.code == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("yolor-d2 eval: ")
    assert "has objects of the class cone; the network's classes are ball, box" in error


def check_resume(flags: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A second command into the same folder needs --resume, which continues from the last step."""
    for name in ("model_final.pth", "metrics.json"):
        Path("out", name).unlink()
    plain = [word for word in flags if word not in ("--epochs", "1", "--batch", "auto")]
    for wrong, message in (
        (flags, "OUTPUT_DIR out has a run already: --resume continues it, --overwrite removes it"),
        (["--resume", "--epochs", "1", *plain], "--epochs: --resume continues with the config"),
        (["--resume", "--batch", "auto", *plain], "--batch: --resume continues with the config"),
    ):
        assert yolor_d2_cli.main(["train", *wrong]) == 2
        (error,) = capsys.readouterr().err.splitlines()
        assert error.startswith(f"yolor-d2 train: {message}")
    changed = ["train", "--resume", *plain, "SOLVER.WEIGHT_DECAY", "0.3"]
    with pytest.raises(SystemExit):
        yolor_d2_cli.main(changed)
    assert "another configuration: SOLVER.WEIGHT_DECAY" in capsys.readouterr().err
    assert yolor_d2_cli.main([changed[0], "--allow-config-change", *changed[1:]]) == 0
    assert Path("out/model_final.pth").is_file()
    assert "resumed after 1 steps" in Path("out/log.txt").read_text()


def test_resume_needs_the_same_data(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    make("yolo")
    make("voc")
    Path("out").mkdir()
    Path("out/training.yaml").write_text(
        f"VERSION: 2\nDATASETS: {{DATA: {Path('voc').absolute()}}}\n"
    )
    assert yolor_d2_cli.main(["train", "--data", "yolo", "--resume", "--output", "out"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("yolor-d2 train: out/training.yaml: is the configuration of a run on ")


def test_help_has_both_ways(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        yolor_d2_cli.main(["train", "--help"])
    text = capsys.readouterr().out
    for flag in ("--data", "--minutes", "--resume", "--config-file", "--num-gpus", "--import"):
        assert f"\n  {flag} " in text
    with pytest.raises(SystemExit):
        yolor_d2_cli.main(["train", "SEED", "3"])
    assert "--data DATA or --config-file FILE is required" in capsys.readouterr().err


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
