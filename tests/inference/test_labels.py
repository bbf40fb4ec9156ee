"""Labels from constructed predictions."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import Metadata

from yolor_d2.inference.labels import LabelClasses, Thresholds, label_pixels, make_labels
from yolor_d2.structures import SemanticMap

from .test_prediction import METADATA, prediction

ALL = ("detection", "mask", "semantic", "caption")


def classes_of(metadata: Any, *tasks: str) -> LabelClasses:
    layers = ("panoptic",) if "mask" in tasks else ()
    predictor: Any = SimpleNamespace(metadata=metadata, tasks=tasks, layers=layers)
    return LabelClasses.of(predictor)


@pytest.mark.parametrize(
    ("score", "crowds"), [(0.75, [0]), (0.5, [0]), (0.4999, [1]), (0.25, [1]), (0.2, [])]
)
def test_objects_between_the_thresholds_are_crowds(score: float, crowds: list[int]) -> None:
    found = prediction()
    found.instances.scores[:] = score
    labels = make_labels(found, classes_of(METADATA, "detection"), Thresholds())
    assert labels.objects is not None
    assert [entry["iscrowd"] for entry in labels.objects] == crowds
    assert labels.labels is labels.ids is None
    for entry in labels.objects:
        assert entry["category_id"] == 18
        assert (entry["bbox"], entry["area"]) == ([10, 4, 6, 5], 30)
        assert entry["score"] == pytest.approx(score)


def test_a_box_is_that_of_the_mask() -> None:
    found = prediction()
    found.instances.pred_boxes.tensor[0] -= 2
    found.instances.pred_masks[0, :, 12:] = False
    things = classes_of(METADATA, "detection")
    (entry,) = make_labels(found, things, Thresholds()).objects or ()
    assert (entry["bbox"], entry["area"]) == ([10, 4, 2, 5], 10)
    found.instances.pred_masks[:] = False
    assert make_labels(found, things, Thresholds()).objects == []
    found.instances.remove("pred_masks")
    (entry,) = make_labels(found, things, Thresholds()).objects or ()
    assert (entry["bbox"], entry["area"]) == ([8, 2, 6, 5], 30)
    assert "segmentation" not in entry


def test_pixels_below_the_threshold_are_unknown() -> None:
    logits = torch.tensor([[[3.0, 0.5]], [[0.0, 0.4]]])  # (2, 1, 2)
    labels = torch.zeros(1, 2, dtype=torch.uint8)
    probabilities = logits.softmax(dim=0)[0]
    for sem_seg in (logits, SemanticMap(labels, 2, probabilities)):
        found = label_pixels(sem_seg, Thresholds(pixel=0.6))
        assert found.dtype == np.uint8
        assert found.tolist() == [[0, 255]]
        assert label_pixels(sem_seg, Thresholds(pixel=0)).tolist() == [[0, 0]]
    assert label_pixels(SemanticMap(labels, 2), Thresholds()).tolist() == [[0, 0]]


def test_panoptic_maps_have_unsure_things_and_unknown_stuff() -> None:
    found = prediction()
    sem_seg = found.sem_seg
    assert isinstance(sem_seg, SemanticMap)
    probabilities = torch.ones(sem_seg.labels.shape)
    probabilities[:5] = 0.3  # also on the dog
    found = prediction(sem_seg=SemanticMap(sem_seg.labels, 2, probabilities))
    classes = classes_of(METADATA, *ALL)
    labels = make_labels(found, classes, Thresholds(score=0.8, unsure=0.5))
    assert labels.ids is not None
    assert labels.segments is not None
    height, width = labels.ids.shape
    assert (labels.ids[4:9, 10:16] == 1).all()
    assert np.count_nonzero(labels.ids[:5]) == 6
    areas = [30, (height - 5) * width - 24]
    assert [s["area"] for s in labels.segments] == areas
    assert [(s["category_id"], s["iscrowd"]) for s in labels.segments] == [(18, 1), (178, 0)]
    sure = make_labels(found, classes, Thresholds(pixel=0))
    assert [s["iscrowd"] for s in sure.segments or ()] == [0, 0]
    assert (sure.ids != 0).all()


def test_panoptic_classes_of_data_without_them() -> None:
    """Things, then stuff, whose ids are moved where things have them."""
    metadata = Metadata(
        thing_classes=["cat", "dog"],
        thing_colors=[(1, 2, 3), (4, 5, 6)],
        thing_dataset_id_to_contiguous_id={1: 0, 18: 1},
        stuff_classes=["dog", "sea", "sky"],
        stuff_dataset_id_to_contiguous_id={0: 0, 1: 1, 2: 2},
    )
    classes = classes_of(metadata, *ALL)
    table = classes.panoptic
    assert table is not None
    assert table.names == ("cat", "dog", "sea", "sky")
    assert table.ids == (1, 18, 20, 21)
    assert table.is_thing == (True, True, False, False)
    assert table.colors[:2] == ((1, 2, 3), (4, 5, 6))
    assert classes.panoptic_rows == {(True, 0): 0, (True, 1): 1, (False, 1): 2, (False, 2): 3}
    ids = torch.tensor([[1, 2]], dtype=torch.int32)
    segments = [
        {"id": 1, "isthing": True, "score": 0.9, "category_id": 1},
        {"id": 2, "isthing": False, "category_id": 2},
    ]
    found = prediction(panoptic_seg=(ids, segments), sem_seg=SemanticMap(ids.byte(), 3))
    labels = make_labels(found, classes, Thresholds())
    assert [s["category_id"] for s in labels.segments or ()] == [18, 21]


def test_classes_without_ids_and_colors() -> None:
    things = classes_of(Metadata(thing_classes=["cat", "dog"]), "detection").things
    assert things is not None
    assert (things.names, things.ids, things.is_thing) == (("cat", "dog"), (0, 1), (True, True))


def test_too_many_semantic_classes_are_refused() -> None:
    metadata = Metadata(stuff_classes=[f"class {i}" for i in range(255)])
    with pytest.raises(ValueError, match="255 semantic classes do not fit into PNGs"):
        classes_of(metadata, "semantic")
    assert classes_of(metadata, "caption").sem_seg is None
