"""The code of the documents, run as a reader would run it: docs/extend.md, then the others."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode

from .data.coco_files import restored_catalogues
from .saved_networks import Saved

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs/extend.md"

Names = dict[str, Any]


def code_blocks(text: str) -> list[str]:
    """Each with as many empty lines before it as it takes for the line numbers to be right."""
    blocks = re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return ["\n" * text[: block.start(1)].count("\n") + block[1] for block in blocks]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Names]:
    """What the blocks leave behind."""
    names: Names = {"__name__": "extend"}
    with restored_catalogues(), pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("extend"))
        for code in code_blocks(DOCUMENT.read_text()):
            exec(compile(code, str(DOCUMENT), "exec"), names)
        yield names


def test_every_block_is_run() -> None:
    text = DOCUMENT.read_text()
    assert len(code_blocks(text)) == text.count("```") // 2 == 12


def test_the_record(names: Names) -> None:
    assert names["picture_file"] == "second/images/1.png"
    assert names["caption"] == f"a {names['class_name']} in the dark"
    assert names["classes"] == ["ball", "box"]


def test_the_check_finds_nothing_wrong(names: Names) -> None:
    assert names["exit_code"] == 0


def test_the_batch(names: Names) -> None:
    assert names["strong_image"].shape == (3, 320, 320)
    assert names["weak_image"].shape == (3, 240, 320)
    assert names["strong_image"].dtype == names["weak_image"].dtype == torch.uint8
    assert set(names["instances"].get_fields()) == {"gt_boxes", "gt_classes"}
    assert names["words"] in ("a ball in the dark", "a box in the dark")


def test_the_mixture_and_what_is_missing(names: Names) -> None:
    epoch, without_caption = names["epoch"], names["without_caption"]
    assert (len(epoch), len(without_caption), len(names["with_boxes"])) == (24, 8, 24)
    assert all(s["file_name"].startswith("first/") for s in without_caption)
    assert any(len(sample["instances"]) for sample in epoch)


def test_other_heads(names: Names) -> None:
    assert "weak_image" not in names["full_size"]
    assert names["full_size"]["image"].shape == (3, 320, 320)
    assert names["plain"]["image"].shape == (3, 240, 320)
    assert len(names["plain"]["instances"]) == 1


def test_the_network(names: Names) -> None:
    assert names["shapes"]["p3"].channels == names["maps"]["p3"].shape[1] == 64
    assert set(names["losses"]) == {"loss_cls", "loss_box", "loss_dfl", "loss_caption"}
    assert names["predicted"].image_size == (120, 160)
    assert type(names["cautious"].detection_head).__name__ == "CautiousHead"


def test_predicting(saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = ROOT / "docs/predict.md"
    for name in ("output", "photos"):
        (tmp_path / name).mkdir()
    shutil.copy(saved.path, tmp_path / "output/model_final.pth")
    for name in ("street.jpg", "photos/1.jpg", "photos/2.jpg"):
        shutil.copy(saved.images[0], tmp_path / name)
    (tmp_path / "photos/3.jpg").touch()
    monkeypatch.chdir(tmp_path)
    names: Names = {"__name__": "predict"}
    for code in code_blocks(document.read_text()):
        exec(compile(code, str(document), "exec"), names)
    assert names["picture"].shape[2] == 3
    assert [error.path for error in names["errors"]] == ["photos/3.jpg"]
    assert names["areas"]


@pytest.mark.parametrize(
    ("document", "result", "kind"),
    [
        ("README.md", "model", torch.nn.Module),
        ("docs/architecture.md", "backbone", torch.nn.Module),
        ("docs/training.md", "cfg", CfgNode),
        ("docs/evaluation.md", "score", Callable),
    ],
)
def test_other_documents(document: str, result: str, kind: type) -> None:
    names: Names = {"__name__": "document"}
    for code in code_blocks((ROOT / document).read_text()):
        exec(compile(code, document, "exec"), names)
    assert isinstance(names[result], kind)
