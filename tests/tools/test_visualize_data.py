"""The page of training samples."""

from pathlib import Path

import pytest

from yolor_d2.model_zoo import get_config_file
from yolor_d2.tools.visualize_data import main

from ..reports.pages import Page

CONFIG = get_config_file("toy/yolor_elan_n_toy.yaml")
KINDS = ("image", "boxes, masks", "semantic map", "panoptic map")
TRUTH = [f"annotations: {kind}" for kind in KINDS]


@pytest.mark.parametrize(
    ("tasks", "weak_tasks", "views"),
    [
        (
            "['detection', 'mask', 'semantic', 'caption']",
            "['caption']",
            [*(f"strong view: {kind}" for kind in KINDS[:3]), "weak view: image"],
        ),
        ("['semantic']", "[]", ["strong view: image", "strong view: semantic map"]),
        ("['caption']", "['caption']", ["weak view: image"]),
    ],
)
def test_every_view_and_target_is_on_the_page(
    scenes: str,
    tmp_path: Path,
    tasks: str,
    weak_tasks: str,
    views: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ["DATASETS.TRAIN", f"('{scenes}',)", "DATALOADER.NUM_WORKERS", "0"]
    options += ["MODEL.YOLOR.TASKS", tasks, "INPUT.WEAK_VIEW_TASKS", weak_tasks]
    arguments = ["--config-file", CONFIG, "--output", str(tmp_path), "--number", "2", *options]
    assert main(arguments) == 0
    page = Page(tmp_path / "index.html")
    assert len(page.headings) == 2
    assert page.captions == [*views, *TRUTH] * 2
    assert all(picture.std() > 10 for picture in page.pictures)
    assert "2 samples are in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["DATASETS.TRAIN", "('toy_scenes_no',)"], "toy_scenes_no"),
        (["MODEL.YOLOR.TASKS", "['depth']"], "MODEL.YOLOR.TASKS has depth"),
        (["NO.KEY", "1"], "NO.KEY"),
    ],
)
def test_errors_are_one_line(
    scenes: str,
    tmp_path: Path,
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    where = ["--config-file", CONFIG, "--output", str(tmp_path)]
    assert main([*where, "DATASETS.TRAIN", f"('{scenes}',)", *options]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("python -m yolor_d2.tools.visualize_data: ")
    assert message in error
