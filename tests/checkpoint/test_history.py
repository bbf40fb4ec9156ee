"""Weights tell what they were trained with, and how well."""

from pathlib import Path

import pytest
import torch

from yolor_d2.checkpoint.history import MAX_ROWS, weights_page
from yolor_d2.checkpoint.release import StoredWeights, read_release, write_release

DIGEST = "0123456789abcdef" * 4


@pytest.fixture
def stored() -> StoredWeights:
    history = [{"steps": n * 100, "bbox/AP": n / 7, "bbox/APs": None} for n in range(1, 30)]
    provenance = {
        "argv": ["--config-file", "a.yaml"],
        "commit": "abc123",
        "versions": {"torch": "2.14", "cuda": None},
        "classes": {"thing_classes": [f"class{n}" for n in range(9)]},
        "data": {
            "toys": {"json_file": DIGEST, "image_root": {"files": 1234, "sha256": DIGEST[::-1]}}
        },
        "steps": 2900,
        "history": history,
    }
    return StoredWeights({"a": torch.ones(2, 2)}, kind="ema", provenance=provenance)


def test_page(stored: StoredWeights) -> None:
    page = weights_page(stored, Path("folder/model.pth"))
    facts, curve, last = page.split("\n\n", 1)[1].split("\n\n")

    assert page.startswith("# model.pth\n")
    assert facts.splitlines() == [
        "- averaged weights (EMA) after 2,900 steps: 1 tensors",
        "- arguments: --config-file a.yaml",
        "- commit: abc123",
        "- versions: torch 2.14",
        "- thing classes (9): class0, class1, class2, class3, class4, class5 and 3 more",
        "- data toys: json_file 0123456789ab; image_root fedcba987654, 1,234 files",
    ]
    rows = [row.split("|")[1:3] for row in curve.splitlines()[2:]]
    assert len(rows) <= MAX_ROWS
    assert [float(cell) for cell in rows[-1]] == pytest.approx([2900, 29 / 7], rel=1e-3)
    assert last.splitlines()[-1].split() == ["|", "bbox/APs", "|", "-", "|"]


def test_a_release_keeps_the_history(stored: StoredWeights, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_release(stored, path)
    assert weights_page(read_release(path), path) == weights_page(stored, path)


def test_weights_without_a_history() -> None:
    page = weights_page(StoredWeights({}), Path("x.pth"))
    assert page.splitlines()[-1] == "- of unknown origin"
