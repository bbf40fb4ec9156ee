"""Data sets with different classes, and classes that are labeled only in some of them."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances

from yolor_d2 import add_yolor_config
from yolor_d2.data.catalog.records import labeled_classes, read_metadata, read_records, reading_once
from yolor_d2.data.catalog.shared_classes import (
    set_configured_classes,
    set_labeled_classes,
    share_thing_classes,
    warn_about_unlabeled,
)
from yolor_d2.errors import DataError

from ..coco_files import Album, restored_catalogs
from ..official_files import write_coco, write_images

TABLE = ["bird", "dog", "cat"]


@pytest.fixture(autouse=True)
def catalogs() -> Iterator[None]:
    with restored_catalogs():
        yield


@pytest.fixture(params=["multitask", "detectron2", "function"])
def pets(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A data set of cats (class 0) and dogs (class 1), registered in several ways."""
    write_images(tmp_path)
    categories = [{"id": 3, "name": "cat"}, {"id": 8, "name": "dog"}]
    path = write_coco(tmp_path / "pets.json", categories, ids=(3, 8))
    if request.param == "multitask":
        from yolor_d2.data import register_coco_multitask

        register_coco_multitask("pets", tmp_path, instances_json=path)
    else:
        register_coco_instances("pets", {}, path, str(tmp_path))
    if request.param == "function":
        records = DatasetCatalog.get("pets")
        DatasetCatalog.remove("pets")
        MetadataCatalog.remove("pets")
        DatasetCatalog.register("pets", lambda: records)
        MetadataCatalog.get("pets").set(thing_classes=["cat", "dog"])
    return "pets"


def classes_in(name: str) -> set[int]:
    return {a["category_id"] for record in read_records(name) for a in record["annotations"]}


def config(**keys: Any) -> CfgNode:
    cfg = get_cfg()
    add_yolor_config(cfg)
    cfg.merge_from_list([each for k, v in keys.items() for each in (f"DATASETS.{k}", v)])
    return cfg


def test_all_classes_are_labeled_by_default(pets: str) -> None:
    assert labeled_classes(read_metadata(pets)) is None
    assert all("labeled_classes" not in record for record in read_records(pets))


def test_labeled_classes(pets: str) -> None:
    set_labeled_classes(pets, ["dog"])
    assert all(record["labeled_classes"] == (False, True) for record in read_records(pets))
    set_labeled_classes(pets, ["dog", "cat"])  # can be changed, unlike other metadata
    assert "labeled_classes" not in read_records(pets)[0]
    set_labeled_classes(pets, [])
    assert read_records(pets)[0]["labeled_classes"] == (False, False)


def test_labeled_classes_in_the_metadata(album: Album) -> None:
    album.register("album", "instances", labeled_thing_classes=["kite", "cat"])
    assert read_records("album")[0]["labeled_classes"] == (True, False, True)
    album.register("misspelt", "instances", labeled_thing_classes=["kites"])
    with pytest.raises(DataError, match="misspelt: the labeled class kites is not one of its cla"):
        read_records("misspelt")


def test_classes_are_matched_by_name(pets: str) -> None:
    with reading_once():
        assert classes_in(pets) == {0, 1}
        before = read_records(pets)
        share_thing_classes(pets, TABLE)
        after = read_records(pets)  # not the records that were kept
    metadata = read_metadata(pets)
    assert metadata.thing_classes == TABLE
    assert metadata.get("thing_dataset_id_to_contiguous_id") in (None, {3: 2, 8: 1})
    assert len(metadata.get("thing_colors") or TABLE) == 3
    assert all(record["labeled_classes"] == (False, True, True) for record in after)
    for old, new in zip(before, after, strict=True):
        names = [["cat", "dog"][a["category_id"]] for a in old["annotations"]]
        assert [TABLE[a["category_id"]] for a in new["annotations"]] == names
        assert [a["bbox"] for a in new["annotations"]] == [a["bbox"] for a in old["annotations"]]
    share_thing_classes(pets, TABLE)  # changes nothing
    assert read_records(pets) == after


@pytest.mark.parametrize("labeled", [[], ["cat"], ["dog"]])
@pytest.mark.parametrize("table", [TABLE, ["dog", "cat"]])
def test_labeled_classes_survive_a_new_order(
    pets: str, labeled: list[str], table: list[str]
) -> None:
    set_labeled_classes(pets, labeled)
    share_thing_classes(pets, table)
    found = read_records(pets)[0]["labeled_classes"]
    assert [name for name, is_labeled in zip(table, found, strict=True) if is_labeled] == labeled


def test_another_order_of_the_same_classes_leaves_all_labeled(pets: str) -> None:
    share_thing_classes(pets, ["dog", "cat"])
    assert "labeled_classes" not in read_records(pets)[0]


def test_errors_name_the_class(pets: str, album: Album) -> None:
    with pytest.raises(
        DataError, match=r"pets has the class cat, which DATASETS.THING_CLASSES lac"
    ):
        share_thing_classes(pets, ["dog", "bird"])
    with pytest.raises(DataError, match=r"DATASETS.THING_CLASSES has the class dog twice"):
        share_thing_classes(pets, ["cat", "dog", "dog"])
    with pytest.raises(DataError, match=r"there is no data set pet; did you mean pets?"):
        set_labeled_classes("pet", ["dog"])
    with pytest.raises(DataError, match="pets: the labeled class dogs is not one of its classes"):
        set_labeled_classes(pets, ["dogs"])
    album.register("album", "instances")
    DatasetCatalog.register("repeated", list)
    MetadataCatalog.get("repeated").set(thing_classes=["cat", "cat"])
    with pytest.raises(DataError, match="repeated has the class cat twice"):
        share_thing_classes("repeated", TABLE)


def test_panoptic_objects_are_not_renumbered() -> None:
    record = {"file_name": "a", "segments_info": [], "height": 1, "width": 1}
    DatasetCatalog.register("segments", lambda: [record])
    MetadataCatalog.get("segments").set(thing_classes=["cat"])
    share_thing_classes("segments", TABLE)
    with pytest.raises(
        DataError, match=r"segments: DATASETS.THING_CLASSES cannot renumber panopti"
    ):
        read_records("segments")


def test_configuration(pets: str, album: Album, caplog: pytest.LogCaptureFixture) -> None:
    album.register("album", "instances")
    table = ["cat", "dog", "kite", "bird"]
    cfg = config(
        TRAIN=(pets, "album", "not registered"),
        THING_CLASSES=table,
        LABELED_CLASSES=[["album", ["kite"]]],
    )
    for _ in range(2):
        set_configured_classes(cfg)
        assert read_records(pets)[0]["labeled_classes"] == (True, True, False, False)
        assert read_records("album")[0]["labeled_classes"] == (False, False, True, False)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        warn_about_unlabeled([pets, "album"])
        assert caplog.messages == ["labeled in no data set, not trained: bird"]
        caplog.clear()
        set_labeled_classes(pets, table)
        warn_about_unlabeled([pets, "album"])
        assert not caplog.messages
