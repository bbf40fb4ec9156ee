"""Caption evaluator: metrics, result files and log."""

import json
import logging
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.utils import comm

from tests.processes import in_two_processes
from yolor_d2.evaluation.caption import evaluator as caption_module
from yolor_d2.evaluation.caption.evaluator import CaptionEvaluator, read_captions
from yolor_d2.evaluation.caption.metrics import METRICS, score
from yolor_d2.evaluation.missing import Missing

REFERENCES = {
    3: ["A man rides a horse.", "a cowboy on a brown horse", "one man riding"],
    7: ["Two dogs on the beach.", "dogs run along the sea", "two dogs playing"],
    12: ["A red bus.", "the bus is on the road", "a bus drives along a road"],
}
SIXTH = {3: "A man on a horse.", 7: "dogs are running on a beach", 12: "a bus on a road"}
PREDICTED = {3: "a man on a horse", 7: "two cats", 12: "a bus on the road"}


def write_captions(path: Path, captions: dict[int, list[str]]) -> str:
    annotations = [{"image_id": i, "caption": t} for i, texts in captions.items() for t in texts]
    path.write_text(json.dumps({"images": [], "annotations": annotations}))
    return str(path)


def register(folder: Path, *, sixth: bool = False) -> None:
    """Register the data set "album"."""
    files = {"captions_json": write_captions(folder / "captions.json", REFERENCES)}
    if sixth:
        captions = {i: [text] for i, text in SIXTH.items()}
        files["sixth_captions_json"] = write_captions(folder / "sixth.json", captions)
    MetadataCatalog.get("album").set(**files)


@pytest.fixture
def album(tmp_path: Path, catalogs: None) -> None:
    register(tmp_path, sixth=True)


def evaluate(predicted: dict[int, str], **options: Any) -> dict[str, float]:
    evaluator = CaptionEvaluator("album", **({"meteor": False} | options))
    for image_id, text in predicted.items():
        evaluator.process([{"image_id": image_id}], [{"caption": text}])
    return evaluator.evaluate()["caption"]


def test_metrics_of_the_model_and_the_baselines(album: None) -> None:
    metrics = evaluate(PREDICTED)
    expected = dict(score(REFERENCES, PREDICTED))
    others = {3: REFERENCES[7][0], 7: REFERENCES[12][0], 12: REFERENCES[3][0]}
    for name, captions in (("sixth", SIXTH), ("other", others)):
        expected |= {f"{name}_{m}": n for m, n in score(REFERENCES, captions).items()}
    constant = max(
        (text for texts in REFERENCES.values() for text in texts),
        key=lambda text: score(REFERENCES, dict.fromkeys(REFERENCES, text))["Bleu_4"],
    )
    for metric, number in score(REFERENCES, dict.fromkeys(REFERENCES, constant)).items():
        expected[f"constant_{metric}"] = number
    assert metrics == pytest.approx(expected, abs=1e-12)
    assert metrics["sixth_CIDEr"] > metrics["other_CIDEr"] > 0


def test_the_result_file_has_each_image_once(album: None, tmp_path: Path) -> None:
    predicted = {12: "b", 99: "no reference", 3: "a"}
    evaluate(predicted, output_dir=str(tmp_path / "out"))
    assert json.loads((tmp_path / "out/captions_results.json").read_text()) == [
        {"image_id": 3, "caption": "a"},
        {"image_id": 12, "caption": "b"},
        {"image_id": 99, "caption": "no reference"},
    ]


def test_the_result_file_has_log_probabilities(album: None, tmp_path: Path) -> None:
    evaluator = CaptionEvaluator("album", output_dir=str(tmp_path), meteor=False)
    evaluator.process([{"image_id": 3}], [{"caption": "a", "caption_score": -1.5}])
    evaluator.evaluate()
    (entry,) = json.loads((tmp_path / "captions_results.json").read_text())
    assert entry == {"image_id": 3, "caption": "a", "score": -1.5}


@pytest.mark.parametrize("score", [math.nan, -math.inf])
def test_scores_of_a_diverged_network_are_null(album: None, tmp_path: Path, score: float) -> None:
    evaluator = CaptionEvaluator("album", output_dir=str(tmp_path), meteor=False)
    evaluator.process([{"image_id": 3}], [{"caption": "", "caption_score": score}])
    assert evaluator.evaluate()["caption"]["Bleu_1"] == 0
    (entry,) = json.loads((tmp_path / "captions_results.json").read_text())
    assert entry == {"image_id": 3, "caption": "", "score": None}


def test_images_without_a_reference_or_a_prediction_do_not_count(album: None) -> None:
    some = {3: PREDICTED[3], 12: PREDICTED[12]}
    metrics = evaluate(some | {99: "no reference"})
    assert metrics["CIDEr"] == score(REFERENCES, some)["CIDEr"]


def test_nothing_to_score(album: None) -> None:
    evaluator = CaptionEvaluator("album")
    assert evaluator.evaluate() == {}
    evaluator.process([{"image_id": 99}], [{"caption": "no reference"}])
    assert evaluator.evaluate() == {}


def test_reset_discards_captions(album: None) -> None:
    evaluator = CaptionEvaluator("album", meteor=False)
    evaluator.process([{"image_id": 3}], [{"caption": "old"}])
    evaluator.reset()
    evaluator.process([{"image_id": 3}], [{"caption": PREDICTED[3]}])
    expected = score(REFERENCES, {3: PREDICTED[3]})
    assert evaluator.evaluate()["caption"]["Bleu_1"] == expected["Bleu_1"]


def test_outputs_without_captions_are_refused(album: None) -> None:
    evaluator = CaptionEvaluator("album")
    with pytest.raises(ValueError, match=r"album: .* image 3 has no caption; .*TOKENIZER\.MODEL"):
        evaluator.process([{"image_id": 3}], [{"caption_ids": [4, 5]}])


def test_java_metrics_are_optional(album: None, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def metric(name: str, number: float):
        def compute(references: Any, candidates: Any) -> float:
            calls.append((name, references[3][0], candidates[3]))
            return number

        return compute

    monkeypatch.setattr(caption_module, "meteor", metric("METEOR", Missing("no Java")))
    monkeypatch.setattr(caption_module, "spice", metric("SPICE", 0.5))
    assert "METEOR" not in evaluate(PREDICTED)
    assert calls == []
    metrics = evaluate(PREDICTED, meteor=True, spice=True)
    assert calls == [(n, "a man rides a horse", "a man on a horse") for n in ("METEOR", "SPICE")]
    assert math.isnan(metrics["METEOR"])
    assert metrics["SPICE"] == 0.5


def test_the_log_names_the_split_and_the_constant_caption(
    album: None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caption_module.logger, "propagate", True)
    caplog.set_level(logging.INFO, logger=caption_module.logger.name)
    evaluate(PREDICTED)
    (message,) = [record.getMessage() for record in caplog.records]
    assert re.fullmatch(r"album, captions of 3 images; the constant caption is: [a-z ]+", message)


def test_without_a_sixth_caption(tmp_path: Path, catalogs: None) -> None:
    register(tmp_path)
    MetadataCatalog.get("album").set(sixth_captions_json=str(tmp_path / "gone.json"))
    metrics = evaluate(PREDICTED)
    prefixes = ("", "constant_", "other_")
    assert metrics.keys() == {f"{prefix}{metric}" for prefix in prefixes for metric in METRICS}


def test_a_single_image_has_no_other_caption(album: None) -> None:
    metrics = evaluate({3: PREDICTED[3]})
    assert metrics["CIDEr"] == metrics["sixth_CIDEr"] == 0
    assert "other_CIDEr" not in metrics


def test_karpathy_format(tmp_path: Path) -> None:
    sentences = [{"raw": "A cat.", "tokens": ["a", "cat"]}, {"raw": "a tom", "tokens": []}]
    content = {"images": [{"cocoid": 5, "split": "val", "sentences": sentences}]}
    (tmp_path / "dataset_coco.json").write_text(json.dumps(content))
    assert read_captions(tmp_path / "dataset_coco.json") == {5: ["A cat.", "a tom"]}


def test_images_without_captions_are_left_out(tmp_path: Path) -> None:
    content = {
        "images": [{"cocoid": 5, "sentences": []}, {"cocoid": 6, "sentences": [{"raw": "a"}]}]
    }
    (tmp_path / "captions.json").write_text(json.dumps(content))
    assert read_captions(tmp_path / "captions.json") == {6: ["a"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        ("{", "is not valid JSON"),
        ("[]", "is not a caption file"),
        ('{"images": [{"id": 1}]}', "is not a caption file"),
        ('{"annotations": [{"image_id": 1}]}', "is not a caption file"),
    ],
)
def test_broken_caption_files_are_refused(
    tmp_path: Path, content: str | None, message: str
) -> None:
    path = tmp_path / "captions.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=rf"captions\.json: {message}"):
        read_captions(path)


def evaluate_share(folder: Path) -> None:
    """Evaluate the share of one process of three images, the first of them twice."""
    torch.set_num_threads(1)
    rank, processes = comm.get_rank(), comm.get_world_size()
    own_folder = folder / f"album{rank}"
    own_folder.mkdir(parents=True)
    register(own_folder, sixth=True)
    evaluator = CaptionEvaluator("album", meteor=False, output_dir=str(folder))
    for image_id in [*PREDICTED, next(iter(PREDICTED))][rank::processes]:
        text = PREDICTED[image_id]
        evaluator.process([{"image_id": image_id}], [{"caption": text}])
    (folder / f"rank{rank}.json").write_text(json.dumps(evaluator.evaluate()))


def test_two_processes_give_the_results_of_one(tmp_path: Path, catalogs: None) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    evaluate_share(one)
    in_two_processes(evaluate_share, two)
    alone, together = (json.loads((f / "rank0.json").read_text()) for f in (one, two))
    assert alone["caption"]["CIDEr"] == score(REFERENCES, PREDICTED)["CIDEr"]
    assert together == alone
    assert json.loads((two / "rank1.json").read_text()) == {}
    files = [(folder / "captions_results.json").read_text() for folder in (one, two)]
    assert files[0] == files[1]
