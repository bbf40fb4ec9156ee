"""Truthfulness of captions for data sets with machine-readable scenes."""

import csv
import json
import math
from pathlib import Path
from typing import NamedTuple

import pytest
from detectron2.data import MetadataCatalog

from tests.evaluation.caption.test_evaluator import PREDICTED, evaluate, register
from yolor_d2.evaluation.build import build_evaluators
from yolor_d2.evaluation.caption.baselines import caption_table
from yolor_d2.evaluation.caption.truthfulness import check_captions, confusion_csv, truthfulness
from yolor_d2.toy_scenes.builtin import register_toy_scenes
from yolor_d2.toy_scenes.dataset import generate_toy_scenes


class Claim(NamedTuple):
    kind: str
    words: str
    is_true: bool
    truth: str


class Check(NamedTuple):
    claims: tuple[Claim, ...]
    leftover: str = ""

    @property
    def is_truthful(self) -> bool:
        return not self.leftover and all(claim.is_true for claim in self.claims)


RED, BALL = Claim("color", "red", True, "red"), Claim("class", "ball", True, "ball")
GREEN, SIDE = Claim("color", "green", False, "red"), Claim("side", "on the left", False, "")


def test_shares_of_captions_and_of_claims() -> None:
    model = [Check((RED, BALL)), Check((GREEN, BALL)), Check((RED,), "dog"), Check(())]
    assert truthfulness({"": model}) == {
        "truthful": 2 / 4,
        "truthful_class": 1.0,
        "truthful_color": 2 / 3,
        "truthful_grammar": 3 / 4,
    }


def test_all_prefixes_have_the_same_metrics() -> None:
    metrics = truthfulness({"": [Check((RED,))], "sixth_": [Check((SIDE,))], "other_": []})
    names = ("truthful", "truthful_color", "truthful_grammar", "truthful_side")
    assert list(metrics) == [prefix + name for prefix in ("", "sixth_", "other_") for name in names]
    assert (metrics["truthful_color"], metrics["sixth_truthful_side"]) == (1, 0)
    assert math.isnan(metrics["sixth_truthful_color"])
    assert math.isnan(metrics["other_truthful"])
    assert truthfulness({"": []}) == {}


def test_images_without_a_checker_are_skipped() -> None:
    checkers = {3: lambda caption: Check((), leftover=caption)}
    assert check_captions({3: "a", 4: "b"}, checkers) == [Check((), "a")]


def test_confusion_csv() -> None:
    text = confusion_csv([Check((RED, SIDE)), Check((RED, GREEN))])
    assert list(csv.reader(text.splitlines())) == [
        ["kind", "said", "true", "claims"],
        ["color", "green", "red", "1"],
        ["color", "red", "red", "2"],
        ["side", "on the left", "", "1"],
    ]


def test_claims_have_a_second_table() -> None:
    metrics = {"Bleu_1": 0.5, "other_Bleu_1": 0.25}
    metrics |= truthfulness({"": [Check((RED,))], "other_": [Check((SIDE,))]})
    first, second = (
        [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
        for table in caption_table(metrics).split("\n\n")
    )
    assert first[0] == ["caption", "Bleu_1", "truthful"]
    assert first[2] == ["model", "0.5000", "1.0000"]
    assert second[0] == ["true claims", "color", "grammar", "side"]
    assert second[3] == ["a caption of another image", "-", "1.0000", "0.0000"]


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toys") / "toy_scenes"
    sizes = {"width": 96, "height": 72, "max_size": 60}
    generate_toy_scenes(folder, train=0, val=12, seed=4, progress=False, **sizes)
    return folder


def scores(folder: Path, captions: dict[int, str]) -> dict[str, float]:
    register_toy_scenes("toys", folder, "val")
    evaluator = build_evaluators("toys", ["caption"], output_dir=str(folder / "out"), meteor=False)
    for image_id, caption in captions.items():
        evaluator.process([{"image_id": image_id}], [{"caption": caption}])
    return evaluator.evaluate()["caption"]


def test_truthfulness_of_toy_scenes(toys: Path, catalogs: None) -> None:
    content = json.loads((toys / "annotations/captions_val.json").read_text())["annotations"]
    captions = {entry["image_id"]: entry["caption"] for entry in content}
    ids = list(captions)
    false = dict.fromkeys(ids[:3], "nine pink boxes") | {ids[3]: "a dog"}
    metrics = scores(toys, captions | false)
    assert metrics["truthful"] == 8 / 12
    assert metrics["truthful_grammar"] == 11 / 12
    assert metrics["truthful_number"] < 1
    assert metrics["sixth_truthful"] == metrics["sixth_truthful_color"] == 1
    assert metrics["other_truthful"] < metrics["truthful"]
    confusions = (toys / "out/caption_confusion.csv").read_text().splitlines()
    assert any(line.startswith("number,nine,") for line in confusions)


def test_toy_scenes_without_scene_file_have_no_truthfulness(toys: Path, catalogs: None) -> None:
    scenes = toys / "annotations/scenes_val.json"
    aside = scenes.rename(toys / "aside.json")
    try:
        metrics = scores(toys, {1000001: "a red ball", 1000002: "two red balls"})
    finally:
        aside.rename(scenes)
    assert metrics["Bleu_1"] > 0
    assert not any("truthful" in name for name in metrics)


def test_other_data_sets_have_no_truthfulness(tmp_path: Path, catalogs: None) -> None:
    register(tmp_path)
    assert MetadataCatalog.get("album").get("read_judges") is None
    metrics = evaluate(PREDICTED, output_dir=str(tmp_path / "out"))
    assert not any("truthful" in name for name in metrics)
    assert not (tmp_path / "out/caption_confusion.csv").exists()
