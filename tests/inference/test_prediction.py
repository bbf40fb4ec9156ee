"""Predictions as JSON, supervision objects and pictures."""

import json
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import Metadata
from detectron2.structures import Boxes, Instances
from pycocotools import mask as coco_mask

from yolor_d2.inference.prediction import Prediction, describe
from yolor_d2.structures import SemanticMap

HEIGHT, WIDTH = 20, 30
METADATA = Metadata().set(
    thing_classes=["cat", "dog"],
    thing_colors=[(255, 0, 0), (0, 255, 0)],
    thing_dataset_id_to_contiguous_id={17: 0, 18: 1},
    stuff_classes=["dog", "sea"],
    stuff_colors=[(0, 255, 0), (0, 0, 255)],
    stuff_dataset_id_to_contiguous_id={18: 0, 155: 1},
    panoptic_classes=["dog", "sea"],
    panoptic_colors=[(0, 255, 0), (0, 0, 255)],
    panoptic_dataset_id_to_contiguous_id={18: 0, 178: 1},
    panoptic_is_thing=[True, False],
)


def prediction(**changes: Any) -> Prediction:
    """A dog in the sea."""
    mask = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)
    mask[0, 4:9, 10:16] = True
    instances = Instances((HEIGHT, WIDTH))
    instances.pred_boxes = Boxes(torch.tensor([[10.0, 4.0, 16.0, 9.0]]))
    instances.scores = torch.tensor([0.75])
    instances.pred_classes = torch.tensor([1])
    instances.pred_masks = mask
    segments = [
        {"id": 1, "isthing": True, "score": 0.75, "category_id": 0, "instance_id": 0},
        {"id": 2, "isthing": False, "category_id": 1, "area": HEIGHT * WIDTH - 30},
    ]
    known = {
        "instances": instances,
        "sem_seg": SemanticMap(1 - mask[0].byte(), 2),
        "panoptic_seg": (2 - mask[0].int(), segments),
        "caption": "a dog in the sea",
        "caption_score": -1.5,
    }
    image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    values = {"source": "sea.jpg", "frame": None, "metadata": METADATA, **known, **changes}
    return Prediction(image, **values)


def test_nan_becomes_null() -> None:
    found = prediction(caption="", caption_score=float("nan")).to_json()
    assert json.loads(json.dumps(found, allow_nan=False))["caption_score"] is None
    assert prediction(caption_score=None).to_json()["caption_score"] is None
    ids_only = prediction(caption=None, caption_ids=[2, 7, 3]).to_json()
    assert (ids_only["caption_ids"], ids_only["caption_score"]) == ([2, 7, 3], -1.5)
    assert "caption" not in ids_only


def test_what_was_found_in_a_line() -> None:
    assert describe(prediction().to_json()) == '1 dog; "a dog in the sea"'
    nothing = prediction().instances[torch.zeros(1, dtype=torch.bool)]
    assert describe(prediction(instances=nothing, caption=None).to_json()) == "no objects"
    two = Instances.cat([prediction().instances] * 2)
    assert describe(prediction(instances=two, caption=None).to_json()) == "2 dog"
    shares = describe(prediction(instances=None, caption=None).to_json())
    assert shares == "95 % sea, 5 % dog"
    assert describe(prediction(instances=None, sem_seg=None).to_json()) == '"a dog in the sea"'


def test_json_has_coco_conventions() -> None:
    found = prediction().to_json()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["file_name"], found["width"], found["height"]) == ("sea.jpg", WIDTH, HEIGHT)
    assert "frame" not in found
    (dog,) = found["instances"]
    assert (dog["category_id"], dog["category_name"], dog["score"]) == (18, "dog", 0.75)
    assert dog["bbox"] == [10.0, 4.0, 6.0, 5.0]
    mask = prediction().instances.pred_masks[0].numpy()
    np.testing.assert_array_equal(coco_mask.decode(dog["segmentation"]), mask)
    segments = found["segments_info"]
    assert [s["category_id"] for s in segments] == [18, 178]
    assert [(s["isthing"], s["area"], s["iscrowd"]) for s in segments] == [(1, 30, 0), (0, 570, 0)]
    assert segments[0]["bbox"] == [10.0, 4.0, 6.0, 5.0]
    np.testing.assert_array_equal(coco_mask.decode(segments[1]["segmentation"]), ~mask)
    assert [s["category_id"] for s in found["sem_seg"]] == [18, 155]
    assert (found["caption"], found["caption_score"]) == ("a dog in the sea", -1.5)


def test_json_omits_missing_results() -> None:
    nothing = dict.fromkeys(["instances", "sem_seg", "panoptic_seg", "caption", "caption_score"])
    found = prediction(frame=3, **nothing).to_json()
    assert found == {"file_name": "sea.jpg", "width": WIDTH, "height": HEIGHT, "frame": 3}


def test_json_without_names_and_ids() -> None:
    """Without panoptic metadata, segments have the classes of the heads."""
    found = prediction(metadata=Metadata()).to_json()
    assert [found["instances"][0][f"category_{key}"] for key in ("id", "name")] == [1, "1"]
    few = Metadata().set(thing_classes=["cat", "dog"], stuff_classes=["dog", "sea"])
    segments = prediction(metadata=few).to_json()["segments_info"]
    assert [s["category_name"] for s in segments] == ["cat", "sea"]


def test_without_supervision_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ImportError, match=r"pip install 'yolor_d2\[supervision\]'"):
        prediction().to_supervision()


def test_conversion_to_supervision(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = SimpleNamespace(Detections=lambda **values: values)
    monkeypatch.setitem(sys.modules, "supervision", fake)
    check_detections(SimpleNamespace(**prediction().to_supervision()))
    with pytest.raises(ValueError, match="there are no objects"):
        prediction(instances=None).to_supervision()


def test_conversion_with_supervision_installed() -> None:
    pytest.importorskip("supervision", reason="the extra is not installed")
    check_detections(prediction().to_supervision())


def check_detections(found: Any) -> None:
    np.testing.assert_array_equal(found.xyxy, [[10, 4, 16, 9]])
    assert found.mask.dtype == bool
    assert found.mask.shape == (1, HEIGHT, WIDTH)
    assert found.mask.sum() == 30
    assert (found.class_id.tolist(), found.confidence.tolist()) == ([1], [0.75])
    assert found.data["class_name"].tolist() == ["dog"]


def test_pictures_have_the_given_layers() -> None:
    found = prediction()
    image = found.image.copy()
    everything = found.draw()
    assert everything.dtype == np.uint8
    assert everything.shape[0] > HEIGHT  # the caption
    objects = found.draw(["boxes"])
    assert (objects != 90).any()
    assert (found.draw(["boxes"], score_threshold=0.8) == 90).all()
    np.testing.assert_array_equal(found.image, image)
