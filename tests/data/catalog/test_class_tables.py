"""Classes on their way into a checkpoint and out of it."""

from collections.abc import Iterator
from typing import Any

import pytest
from detectron2.data import MetadataCatalog

from yolor_d2.data.catalog.categories import COCO_LEAVES, COCO_PANOPTIC, COCO_THINGS
from yolor_d2.data.catalog.class_tables import (
    describe_classes,
    find_metadata,
    make_metadata,
    registered,
)
from yolor_d2.modeling.panoptic import panoptic_tables

from ..coco_files import restored_catalogs


@pytest.fixture(autouse=True)
def catalogs() -> Iterator[None]:
    with restored_catalogs():
        yield


def described_sets(*names: str) -> dict[str, Any]:
    return describe_classes(MetadataCatalog.get(name) for name in names)


def test_coco_and_back() -> None:
    described = described_sets("coco_karpathy_train", "coco_2017_train_multitask")
    assert described["class_ids"] == {
        "thing_classes": list(COCO_THINGS.ids),
        "stuff_classes": list(COCO_LEAVES.ids),
        "panoptic_classes": list(COCO_PANOPTIC.ids),
    }
    made = make_metadata(described["classes"], described["class_ids"])
    known = MetadataCatalog.get("coco_2017_train_multitask")
    for kind in ("thing", "stuff", "panoptic"):
        for key in (f"{kind}_classes", f"{kind}_dataset_id_to_contiguous_id"):
            assert made[key] == known.get(key)
        assert len(made[f"{kind}_colors"]) == len(made[f"{kind}_classes"])
    assert made["panoptic_is_thing"] == list(COCO_PANOPTIC.is_thing)


def test_classes_of_the_first_data_set_that_has_them() -> None:
    MetadataCatalog.get("mine").set(thing_classes=["cat"])
    MetadataCatalog.get("other").set(thing_classes=["dog"], stuff_classes=["sea", "sky"])
    assert described_sets("mine", "other") == {
        "classes": {"thing_classes": ["cat"], "stuff_classes": ["sea", "sky"]},
        "class_ids": {},  # neither has ids
    }
    assert described_sets() == {"classes": {}, "class_ids": {}}


def test_ids_are_in_the_order_of_the_classes() -> None:
    table = {7: 1, 3: 0}
    MetadataCatalog.get("mine").set(
        thing_classes=["cat", "dog"], thing_dataset_id_to_contiguous_id=table
    )
    described = described_sets("mine")
    assert described["class_ids"] == {"thing_classes": [3, 7]}
    made = make_metadata(described["classes"], described["class_ids"])
    assert made["thing_dataset_id_to_contiguous_id"] == table


def test_metadata_is_found_by_equal_classes() -> None:
    MetadataCatalog.get("mine").set(thing_classes=["cat", "dog"])
    assert find_metadata({"thing_classes": ["cat", "dog"]}, ["mine"]).name == "mine"
    assert find_metadata({"thing_classes": ["dog", "cat"]}, ["mine"]) is None
    assert find_metadata({"thing_classes": ["cat"], "stuff_classes": ["sea"]}, ["mine"]) is None
    assert find_metadata({"thing_classes": ["cat"]}, ["unknown"]) is None
    assert "unknown" not in MetadataCatalog.list()


def test_registered_metadata_is_removed() -> None:
    classes = {key: ["cat", "sea"] for key in ("stuff_classes", "panoptic_classes")}
    made = make_metadata({"thing_classes": ["cat"], **classes}, {})
    with registered(made) as first, registered(made) as second:
        assert first.name != second.name
        assert panoptic_tables(MetadataCatalog.get(first.name)) == ([0], [-1, 1])
    assert first.name not in MetadataCatalog.list()
