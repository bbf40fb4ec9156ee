"""The pictures of the demo."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from yolor_d2.data.builtin import register_toy_scenes
from yolor_d2.data.images import read_image
from yolor_d2.data.toy_scenes import generate_toy_scenes
from yolor_d2.model_zoo import get_config_file
from yolor_d2.tools.show_views import draw_record, main
from yolor_d2.visualization import READABLE_WIDTH, Layers, draw_layers

CONFIG = get_config_file("toy/yolor_elan_n_toy.yaml")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("toys")
    generate_toy_scenes(root, train=8, val=1, width=160, height=120, progress=False)
    name = "toy_scenes_shown"
    register_toy_scenes(name, root, "train")
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)
    MetadataCatalog.remove(f"{name}_panoptic")


def test_every_annotation_shows(scenes: str) -> None:
    """Columns for objects, semantic map, panoptic map and captions, none of them plain."""
    record = next(r for r in DatasetCatalog.get(scenes) if r["annotations"])
    picture = draw_record(record, MetadataCatalog.get(scenes))
    scale = -(-READABLE_WIDTH // record["width"])
    assert picture.shape[1] == 4 * record["width"] * scale + 3 * 8
    image = read_image(record["file_name"], width=record["width"], height=record["height"])
    plain = draw_layers(image, Layers(), scale=scale)
    columns = [picture[:, k * (plain.shape[1] + 8) :][:, : plain.shape[1]] for k in range(4)]
    top = columns[0].shape[0] - plain.shape[0]
    changed = [(column[top:] != plain).any(axis=2).mean() for column in columns[:3]]
    assert 0.01 < changed[0] < 0.9
    assert min(changed[1:]) > 0.9  # every pixel has a class and a segment
    assert (columns[3] < 100).any()


@pytest.mark.parametrize("tasks", ["detection,mask,semantic,caption", "semantic", "caption"])
def test_pictures_are_drawn(
    scenes: str, tmp_path: Path, tasks: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["DATASETS.TRAIN", f"('{scenes}',)", "DATALOADER.NUM_WORKERS", "0"]
    options += ["MODEL.YOLOR.TASKS", str(tasks.split(","))]
    arguments = ["--config-file", CONFIG, "--output", str(tmp_path), "--number", "3", *options]
    assert main(arguments) == 0
    pictures = [cv2.imread(str(path)) for path in sorted(tmp_path.glob("*.png"))]
    assert len(pictures) == 3
    assert all(picture.std() > 10 for picture in pictures)
    assert "3 pictures" in capsys.readouterr().out


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
    assert error.startswith("show_views: ")
    assert message in error
