"""Evaluators are built for tasks that are predicted and have ground truth."""

import logging
from pathlib import Path

import pytest
from detectron2.data import MetadataCatalog

from tests.data.coco_files import KINDS, Album
from tests.modeling.factory import tiny_config
from yolor_d2.evaluation import build, build_evaluator, build_evaluators
from yolor_d2.evaluation.caption.evaluator import CaptionEvaluator
from yolor_d2.evaluation.coco.evaluator import InstanceEvaluator
from yolor_d2.evaluation.evaluator_list import EvaluatorList
from yolor_d2.evaluation.panoptic.evaluator import PanopticEvaluator
from yolor_d2.evaluation.semantic import SemanticEvaluator
from yolor_d2.tasks import TASKS

ALL = (InstanceEvaluator, SemanticEvaluator, PanopticEvaluator, CaptionEvaluator)


def types(evaluators: EvaluatorList) -> tuple[type, ...]:
    return tuple(type(evaluator) for evaluator in evaluators.evaluators)


def test_all_tasks_of_a_configuration(album: Album, tmp_path: Path) -> None:
    album.register("album", *KINDS)
    cfg = tiny_config(TASKS, "OUTPUT_DIR", str(tmp_path), "TEST.COCO_PROCESSES", 3)

    evaluators = build_evaluator(cfg, "album")

    assert types(evaluators) == ALL
    instances = evaluators.evaluators[0]
    assert instances._folder == tmp_path / "inference/album"
    assert instances._tasks == ("bbox", "segm")
    assert instances._processes == 3


@pytest.mark.parametrize("number", [0, -1])
def test_fewer_than_one_process_is_refused(album: Album, number: int) -> None:
    album.register("album", "instances")
    cfg = tiny_config(("detection",), "TEST.COCO_PROCESSES", number)
    with pytest.raises(ValueError, match=f"TEST.COCO_PROCESSES must be at least 1, is {number}"):
        build_evaluator(cfg, "album")


def test_panoptic_maps_need_masks_semantic_maps_and_combine_enabled(album: Album) -> None:
    album.register("album", *KINDS)
    disabled = tiny_config(TASKS, "MODEL.PANOPTIC_FPN.COMBINE.ENABLED", False)
    without_masks = tiny_config(("detection", "semantic"))
    assert types(build_evaluator(disabled, "album")) == (*ALL[:2], ALL[3])
    evaluators = build_evaluator(without_masks, "album")
    assert types(evaluators) == ALL[:2]
    assert evaluators.evaluators[0]._tasks == ("bbox",)


def test_tasks_without_ground_truth_are_logged(album: Album, caplog) -> None:
    album.register("album", "semantic")
    with caplog.at_level(logging.WARNING):
        evaluators = build_evaluators("album", ["detection", "semantic", "caption"])
    assert types(evaluators) == (SemanticEvaluator,)
    message = caplog.messages[-1]
    assert "detection (no json_file in its metadata)" in message
    assert "caption (no captions_json in its metadata)" in message
    assert "\n" not in message


def test_tasks_with_missing_files_are_skipped(album: Album, caplog) -> None:
    album.register("album", *KINDS, skip_missing=True)
    album.path("instances").unlink()
    assert types(build_evaluators("album", TASKS)) == (SemanticEvaluator, CaptionEvaluator)
    assert f"mask ({album.path('instances')} does not exist)" in caplog.text


def test_official_metrics_need_all_classes(album: Album) -> None:
    """They cover all classes, so COCO's metrics replace them if only some are labeled."""
    album.register("album", "instances", evaluator_type="lvis")
    MetadataCatalog.get("album").set(labeled_thing_classes=["cat"])
    assert types(build_evaluators("album", ["detection"])) == (InstanceEvaluator,)


def test_no_ground_truth_at_all_is_refused(album: Album) -> None:
    album.register("album", "captions")
    with pytest.raises(ValueError, match=r"^album: nothing to evaluate: detection \(no json_file"):
        build_evaluators("album", ["detection"])


def test_a_data_set_without_panoptic_classes_has_no_panoptic_scores(album: Album, caplog) -> None:
    """Such as detectron2's builtin ones, which number panoptic classes differently."""
    album.register("album", "instances")
    MetadataCatalog.get("album").set(
        panoptic_json=str(album.path("panoptic")), panoptic_root=str(album.panoptic)
    )
    assert types(build_evaluators("album", ["detection", "panoptic"])) == (InstanceEvaluator,)
    assert "panoptic_classes" in caplog.text


def test_caption_options_are_passed_on(album: Album, monkeypatch) -> None:
    album.register("album", "captions")
    calls = []
    monkeypatch.setattr(build, "CaptionEvaluator", lambda name, **o: calls.append((name, o)))
    cfg = tiny_config(("caption",), "TEST.SPICE", True, "TEST.METEOR", False, "OUTPUT_DIR", "out")
    build_evaluator(cfg, "album")
    options = {"output_dir": "out/inference/album", "meteor": False, "spice": True}
    assert calls == [("album", options)]
