"""Output, report and exit code of check_data."""

import csv
import json
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from yolor_d2.data import register_coco_multitask
from yolor_d2.errors import DataError, line_of
from yolor_d2.tools import check_data
from yolor_d2.toy_scenes.dataset import generate_toy_scenes

from .small_dataset import HEIGHT, WIDTH, SmallDataset


def test_a_data_set_without_problems(dataset, check):
    dataset.register()
    code, out, err = check(dataset.name)
    assert out.endswith(f"{dataset.name}: OK\n")
    assert (code, err) == (0, "")
    cells = [line.split() for line in out.splitlines()]
    assert ["image", "3", "0", "0"] in cells
    assert ["captions", "2", "1", "0"] in cells
    assert ["cat", "2", "2", "3", "3", "3"] in cells
    assert ["lawn", "3", "3", "3"] in cells


def test_unknown_name(dataset, check):
    dataset.register()
    code, out, err = check(dataset.name + "x")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    expected = DataError(f"there is no data set {dataset.name}x; did you mean {dataset.name}?")
    assert err == f"yolor-d2 check-data: {line_of(expected)}\n"
    assert "qqqqqqqq; is its module imported?" in check("qqqqqqqq")[2]


def test_a_data_set_without_images(check):
    DatasetCatalog.register("check_data_empty", list)
    assert check("check_data_empty")[::2] == (
        2,
        f"yolor-d2 check-data: {line_of(DataError('check_data_empty: has no images'))}\n",
    )


def test_a_data_set_without_objects(dataset, check):
    crowds = [a for a in dataset.instances["annotations"] if a["iscrowd"]]
    dataset.instances["annotations"] = crowds
    dataset.register()
    code, out, err = check(dataset.name)
    assert (code, err) == (1, "")
    assert "objects: no object in any image: 1\n" in out
    assert out.endswith(f"{dataset.name}: 1 problem\n")


def test_labeled_classes(dataset, check):
    dataset.register()
    assert "labeled classes" not in check(dataset.name)[1]
    MetadataCatalog.get(dataset.name).set(labeled_thing_classes=["cat"])
    code, out, _ = check(dataset.name)
    assert code == 0
    assert "\nlabeled classes: cat\n" in out


def test_limit(dataset, check):
    dataset.image(2).unlink()
    dataset.register()
    assert check(dataset.name, "--limit", "1")[0] == 0
    assert check(dataset.name, "--limit", "2")[0] == 1


def test_workers_give_the_same_output_and_report(dataset, check, tmp_path):
    dataset.image(2).write_text("no image")
    dataset.write_semantic(2, np.full((HEIGHT, WIDTH), 3, np.uint8))
    dataset.add_caption("")
    dataset.change_segment(0, area=99)
    dataset.register()
    alone = check(dataset.name, "--report", str(tmp_path / "0.csv"))
    shared = check(dataset.name, "--workers", "2", "--report", str(tmp_path / "2.csv"))
    assert alone[0] == 1
    assert alone[1].endswith(": 4 problems\n")
    assert shared == alone
    assert (tmp_path / "0.csv").read_bytes() == (tmp_path / "2.csv").read_bytes()
    with (tmp_path / "0.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["kind"] for row in rows] == [
        "blank caption",
        "bad image file",
        "bad semantic file",
        "segment of another area",
    ]
    assert rows[1] == {
        "file": str(dataset.image(2)),
        "id": "2",
        "kind": "bad image file",
        "detail": "is not an image",
    }


def test_more_than_five_examples(dataset, check, tmp_path):
    for number in range(7):
        dataset.add_caption(" " * number)
    for number, caption in enumerate(dataset.captions["annotations"]):
        caption["id"] = number
    dataset.register()
    code, out, _ = check(dataset.name, "--report", str(tmp_path / "all.csv"))
    assert code == 1
    assert out.count("captions.json: image 2") == 5
    assert "    and 2 more\n" in out
    assert len((tmp_path / "all.csv").read_text().splitlines()) == 1 + 7


def test_several_data_sets(dataset, check, tmp_path):
    dataset.register()
    (tmp_path / "other").mkdir()
    other = SmallDataset(tmp_path / "other")
    other.image(1).unlink()
    other.register()
    code, out, _ = check(dataset.name, "--dataset", other.name)
    assert code == 1
    assert f"{dataset.name}: OK\n" in out
    assert f"{other.name}: 1 problem\n" in out


def test_killed_worker(dataset, check, monkeypatch):
    def killed(*_):
        raise BrokenProcessPool

    monkeypatch.setattr(ProcessPoolExecutor, "map", killed)
    dataset.register()
    code, _, err = check(dataset.name, "--workers", "1")
    assert code == 2
    assert "fewer --workers" in err


def test_unwritable_report(dataset, check, tmp_path):
    dataset.register()
    code, _, err = check(dataset.name, "--report", str(tmp_path / "no" / "folder.csv"))
    assert code == 2
    assert "folder.csv" in err


@pytest.mark.parametrize("arguments", [["--workers", "-1"], ["--limit", "0"]])
def test_bad_arguments(dataset, check, arguments):
    with pytest.raises(SystemExit, match="2"):
        check(dataset.name, *arguments)


def test_toy_scenes(check, tmp_path):
    generate_toy_scenes(tmp_path, train=6, val=0, seed=3, progress=False)
    annotations = tmp_path / "annotations"
    register_coco_multitask(
        "check_data_toys",
        tmp_path / "train",
        instances_json=annotations / "instances_train.json",
        captions_json=annotations / "captions_train.json",
        sem_seg_root=annotations / "semantic_train",
        panoptic_root=annotations / "panoptic_train",
        panoptic_json=annotations / "panoptic_train.json",
    )
    code, out, _ = check("check_data_toys")
    assert out.endswith("check_data_toys: OK\n")
    assert code == 0


@pytest.mark.parametrize(("split", "people"), [("train", 167), ("val", 117)])
def test_real_coco(check, shared_dir, split, people):
    root = shared_dir / "data/coco-mini"
    register_coco_multitask(
        "check_data_mini",
        root / f"{split}2017",
        instances_json=root / f"annotations/instances_{split}2017.json",
        captions_json=root / f"annotations/captions_{split}2017.json",
    )
    code, out, _ = check("check_data_mini")
    assert out.endswith("check_data_mini: OK\n")
    assert code == 0
    assert ["person", str(people)] in [line.split()[:2] for line in out.splitlines()]


def test_real_panoptic(check, shared_dir, tmp_path):
    root = shared_dir / "data/coco-panoptic-sample"
    content = json.loads((root / "panoptic_examples.json").read_text())
    content["categories"] = json.loads((root / "panoptic_coco_categories.json").read_text())
    (tmp_path / "panoptic.json").write_text(json.dumps(content))
    register_coco_multitask(
        "check_data_panoptic",
        root / "input_images",
        panoptic_root=root / "panoptic_examples",
        panoptic_json=tmp_path / "panoptic.json",
    )
    assert check("check_data_panoptic")[0] == 0


def test_import_registers_data_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my_registrations.py").write_text(
        "from yolor_d2.data import register_coco_multitask\n"
        f"register_coco_multitask('my_own', {str(tmp_path)!r}, captions_json='/nowhere.json')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    try:
        assert (
            check_data.main(
                ["--import", "my_registrations", "--dataset", "my_own", "--workers", "0"]
            )
            == 2
        )
        assert "/nowhere.json: No such file" in capsys.readouterr().err
    finally:
        DatasetCatalog.remove("my_own")
        MetadataCatalog.remove("my_own")
    assert check_data.main(["--import", "no_such_module", "--dataset", "my_own"]) == 2
    assert "no_such_module" in capsys.readouterr().err
