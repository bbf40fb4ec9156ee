"""The evaluators are those of what is both predicted and known."""

import logging
from pathlib import Path

import pytest
from detectron2.data import MetadataCatalog

from tests.data.coco_files import KINDS, Album
from tests.modeling.factory import tiny_config
from yolor_d2.evaluation import build, build_evaluator, build_evaluators
from yolor_d2.evaluation.caption.evaluator import CaptionEvaluator
from yolor_d2.evaluation.coco.evaluator import InstanceEvaluator
from yolor_d2.evaluation.panoptic.evaluator import PanopticEvaluator
from yolor_d2.evaluation.semantic import SemanticEvaluator
from yolor_d2.tasks import TASKS

ALL = (InstanceEvaluator, SemanticEvaluator, PanopticEvaluator, CaptionEvaluator)


def kinds(evaluators) -> tuple[type, ...]:
    return tuple(type(evaluator) for evaluator in evaluators._evaluators)


def test_all_tasks_of_a_configuration(album: Album, tmp_path: Path) -> None:
    album.register("album", *KINDS)
    cfg = tiny_config(TASKS, "OUTPUT_DIR", str(tmp_path), "TEST.COCO_PROCESSES", 3)

    evaluators = build_evaluator(cfg, "album")

    assert kinds(evaluators) == ALL
    instances = evaluators._evaluators[0]
    assert instances._output_dir == str(tmp_path / "inference/album")
    assert instances._tasks == ("bbox", "segm")
    assert instances._processes == 3


@pytest.mark.parametrize("number", [0, -1])
def test_there_is_at_least_one_process(album: Album, number: int) -> None:
    album.register("album", "instances")
    cfg = tiny_config(("detection",), "TEST.COCO_PROCESSES", number)
    with pytest.raises(ValueError, match=f"TEST.COCO_PROCESSES must be at least 1, is {number}"):
        build_evaluator(cfg, "album")


def test_panoptic_maps_need_masks_semantics_and_the_merger(album: Album) -> None:
    album.register("album", *KINDS)
    switched_off = tiny_config(TASKS, "MODEL.PANOPTIC_FPN.COMBINE.ENABLED", False)
    without_masks = tiny_config(("detection", "semantic"))
    assert kinds(build_evaluator(switched_off, "album")) == (*ALL[:2], ALL[3])
    evaluators = build_evaluator(without_masks, "album")
    assert kinds(evaluators) == ALL[:2]
    assert evaluators._evaluators[0]._tasks == ("bbox",)


def test_what_is_left_out_is_said(album: Album, caplog) -> None:
    album.register("album", "semantic")
    with caplog.at_level(logging.WARNING):
        evaluators = build_evaluators("album", ["detection", "semantic", "caption"])
    assert kinds(evaluators) == (SemanticEvaluator,)
    message = caplog.messages[-1]
    assert "detection (its metadata have no json_file)" in message
    assert "caption (its metadata have no captions_json)" in message
    assert "\n" not in message


def test_files_that_are_not_there_are_left_out(album: Album, caplog) -> None:
    album.register("album", *KINDS, skip_missing=True)
    album.path("instances").unlink()
    assert kinds(build_evaluators("album", TASKS)) == (SemanticEvaluator, CaptionEvaluator)
    assert f"mask ({album.path('instances')} is not there)" in caplog.text


def test_nothing_to_evaluate_is_one_line(album: Album) -> None:
    album.register("album", "captions")
    with pytest.raises(ValueError, match=r"^album: nothing to evaluate: detection \(.+json_file\)"):
        build_evaluators("album", ["detection"])


def test_a_data_set_without_panoptic_classes_has_no_panoptic_scores(album: Album, caplog) -> None:
    """As detectron2's own, which number panoptic classes in another way."""
    album.register("album", "instances")
    MetadataCatalog.get("album").set(
        panoptic_json=str(album.path("panoptic")), panoptic_root=str(album.panoptic)
    )
    assert kinds(build_evaluators("album", ["detection", "panoptic"])) == (InstanceEvaluator,)
    assert "panoptic_classes" in caplog.text


def test_caption_options_arrive(album: Album, monkeypatch) -> None:
    album.register("album", "captions")
    calls = []
    monkeypatch.setattr(build, "CaptionEvaluator", lambda name, **o: calls.append((name, o)))
    cfg = tiny_config(("caption",), "TEST.SPICE", True, "TEST.METEOR", False, "OUTPUT_DIR", "out")
    build_evaluator(cfg, "album")
    options = {"output_dir": "out/inference/album", "meteor": False, "spice": True}
    assert calls == [("album", options)]
