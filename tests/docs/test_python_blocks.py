"""Runs the Python of documents without a test of their own."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from yolor_d2 import Predictor

from ..saved_networks import Saved
from .documents import DOCUMENTS, ROOT, Names, read_blocks, run_blocks

OWN_TESTS = (
    *("docs/guides/own_data.md", "docs/guides/register_data.md"),
    *("docs/guides/extend.md", "docs/reference/heads.md"),
)
# Needs an exported network; tests/export/test_export.py covers it.
NOT_RUN = {"docs/guides/deploy.md"}
WITH_PYTHON = [
    document
    for document in DOCUMENTS
    if any(block.language == "python" for block in read_blocks(document))
]


@pytest.fixture
def folder(saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that documents use: a trained network, images."""
    for name in ("output", "photos"):
        (tmp_path / name).mkdir()
    shutil.copy(saved.path, tmp_path / "output/model_final.pth")
    for name in ("street.jpg", "photos/1.jpg", "photos/2.jpg"):
        shutil.copy(saved.images[0], tmp_path / name)
    (tmp_path / "photos/3.jpg").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(document: str, **names: object) -> Names:
    variables: Names = {"__name__": "document", **names}
    run_blocks(document, variables)
    return variables


def test_predict_page(folder: Path) -> None:
    names = run("docs/guides/predict.md")
    assert names["picture"].shape[2] == 3
    assert [error.path for error in names["errors"]] == ["photos/3.jpg"]
    assert names["areas"]


def test_pictures_page(folder: Path) -> None:
    prediction = Predictor("output/model_final.pth", device="cpu")("street.jpg")
    names = run("docs/guides/pictures.md", image=prediction.image, result=prediction.results)
    assert names["picture"].shape[1] >= prediction.width
    assert np.ptp(names["picture"]) > 0


REST = {  # documents, and a variable that their code sets
    "README.md": "model",
    "docs/internals/architecture.md": "backbone",
    "docs/guides/train.md": "cfg",
    "docs/guides/teacher.md": "register_images",
    "docs/reference/trainer.md": "MyTrainer",
    "docs/get_started.md": "prediction",
    "docs/guides/from_ultralytics.md": "predictor",
    "docs/guides/from_detectron2.md": "cfg",
    "docs/reference/metrics.md": "score",
}


@pytest.mark.parametrize("document", REST)
def test_other_pages(folder: Path, document: str) -> None:
    assert run(document)[REST[document]]


def test_every_document_with_python_is_tested() -> None:
    tested = {"docs/guides/predict.md", "docs/guides/pictures.md", *REST, *OWN_TESTS}
    assert set(WITH_PYTHON) == tested


def test_python_outside_of_python_blocks_is_known() -> None:
    pattern = re.compile(r"^ {4,}(?:from [\w.]+ )?import \w+", re.MULTILINE)
    assert {d for d in DOCUMENTS if pattern.search((ROOT / d).read_text())} == NOT_RUN
