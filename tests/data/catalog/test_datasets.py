"""Registering any subset of files: joined records, metadata, errors."""

import json
import pickle
import shutil
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from PIL import Image
from pycocotools import mask as mask_util

from yolor_d2.config import add_yolor_config
from yolor_d2.data import build_train_loader, register_coco_multitask, register_images
from yolor_d2.data.catalog.categories import Categories
from yolor_d2.data.catalog.datasets import read_categories
from yolor_d2.errors import DataError

from ..coco_files import KINDS, LISTED, SEMANTIC, SIZES, THINGS, Album, restored_catalogs

Json = dict[str, Any]

SUBSETS = [kinds for size in range(1, 5) for kinds in combinations(KINDS, size)]
KEYS = {
    "instances": {"annotations"},
    "captions": {"captions"},
    "semantic": {"sem_seg_file_name"},
    "panoptic": {"pan_seg_file_name", "segments_info"},
}
KNOWN = {"instances": {3, 7}, "captions": {7, 12}, "semantic": {3, 12}, "panoptic": {3}}


def is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain(v) for key, v in value.items())
    if isinstance(value, list):
        return all(map(is_plain, value))
    return isinstance(value, str | int | float | bytes | None)


# Joining files


@pytest.mark.parametrize("kinds", SUBSETS, ids="+".join)
def test_record_joins_all_files(album: Album, kinds: tuple[str, ...]) -> None:
    listed = {i for kind in kinds if kind != "semantic" for i in LISTED[kind]} or {3, 12}
    records = album.load(*kinds)

    assert [record["image_id"] for record in records] == sorted(listed)
    for record in records:
        image_id = record["image_id"]
        known = [KEYS[kind] for kind in kinds if image_id in KNOWN[kind]]
        expected = {"file_name", "image_id", "height", "width"}.union(*known)
        assert record.keys() == expected
        assert (record["width"], record["height"]) == SIZES[image_id]
        assert record["file_name"] == str(album.images / f"{image_id:06d}.jpg")


def test_records_are_plain_data(album: Album) -> None:
    records = album.load(*KINDS)
    assert is_plain(records)
    assert not is_plain([{"segmentation": np.zeros(2)}])  # the check itself works
    assert pickle.loads(pickle.dumps(records)) == records


def test_objects_have_contiguous_classes_and_segmentations(album: Album) -> None:
    cat, dog, crowd = album.load("instances")[0]["annotations"]
    assert [a["category_id"] for a in (cat, dog, crowd)] == [0, 1, 0]
    assert [a["iscrowd"] for a in (cat, dog, crowd)] == [0, 0, 1]
    assert cat["bbox"] == [4, 5, 16, 10]
    assert cat["bbox_mode"] == BoxMode.XYWH_ABS
    assert cat["segmentation"] == [[4, 5, 20, 5, 20, 15, 4, 15]]
    for rle, (x, y, width, height) in ((a["segmentation"], a["bbox"]) for a in (dog, crowd)):
        mask = mask_util.decode(rle)
        assert mask.shape == (24, 32)
        assert mask.sum() == mask[y : y + height, x : x + width].sum() == width * height


def test_empty_and_missing_annotations_differ(album: Album) -> None:
    records = {record["image_id"]: record for record in album.load("instances", "captions")}
    assert records[7]["annotations"] == []
    assert "annotations" not in records[12]


def test_blank_captions_are_dropped(album: Album) -> None:
    with album.changed("captions") as content:
        content["annotations"] = [{"image_id": 7, "caption": " \n"}]
    assert all("captions" not in record for record in album.load("captions"))


def test_captions_keep_their_order(album: Album) -> None:
    captions = {r["image_id"]: r["captions"] for r in album.load("captions")}
    assert captions == {7: ["a red bar", 'a sign says "categories": []'], 12: ["categories"]}


def test_segments_have_contiguous_classes_and_isthing(album: Album) -> None:
    record = album.load("panoptic")[0]
    segments = [(s["id"], s["category_id"], s["isthing"]) for s in record["segments_info"]]
    assert segments == [(300, 1, True), (70000, 2, False)]
    assert record["pan_seg_file_name"] == str(album.panoptic / "000003.png")


def test_missing_sizes_are_read_from_the_image(album: Album) -> None:
    with album.changed("instances") as content:
        for image in content["images"]:
            del image["width"], image["height"]
    sizes = {r["image_id"]: (r["width"], r["height"]) for r in album.load("instances")}
    assert sizes == {3: SIZES[3], 7: SIZES[7]}


@pytest.mark.parametrize("empty", [None, [], {}])
def test_object_without_segmentation_keeps_its_box(album: Album, empty: Any) -> None:
    with album.changed("instances") as content:
        for entry in content["annotations"]:
            entry["segmentation"] = empty
    annotations = album.load("instances")[0]["annotations"]
    assert [a["bbox"] for a in annotations] == [[4, 5, 16, 10], [22, 2, 8, 18], [0, 16, 20, 8]]
    assert all("segmentation" not in a for a in annotations)


def test_object_with_invalid_polygons_is_dropped(
    album: Album, caplog: pytest.LogCaptureFixture
) -> None:
    with album.changed("instances") as content:
        content["annotations"][0]["segmentation"] = [[4, 5, 20, 5]]
    annotations = album.load("instances")[0]["annotations"]
    assert [a["category_id"] for a in annotations] == [1, 0]
    assert "left out 1 object" in caplog.text


def test_registration_reads_only_categories(album: Album) -> None:
    album.register("later", *KINDS)
    for kind in ("instances", "captions", "panoptic"):
        album.path(kind).unlink()
    with pytest.raises(DataError, match="instances"):
        DatasetCatalog.get("later")


# Semantic maps


def test_semantic_maps_are_paired_by_name(album: Album) -> None:
    """The published code pairs sorted lists, which one additional file shifts."""
    before = album.load("semantic")
    album.add_image("000001.jpg", width=10, height=10, shade=9)  # would come first, has no map
    shutil.copy(album.semantic / "000012.png", album.semantic / "000002.png")  # has no image
    assert album.load("semantic") == before
    for record in album.load("instances", "captions", "semantic"):
        name = Path(record["file_name"]).stem
        assert Path(record.get("sem_seg_file_name", name)).stem == name


def test_numeric_file_names_become_integer_ids(album: Album) -> None:
    album.add_image("Zoo.PNG", width=10, height=10, shade=9)
    shutil.copy(album.semantic / "000003.png", album.semantic / "Zoo.png")
    assert [r["image_id"] for r in album.load("semantic")] == [3, 12, "Zoo"]


# Metadata


def test_metadata_is_complete_after_registration(album: Album) -> None:
    album.register("all", *KINDS, leaf_to_panoptic=[0, 1, 2])
    meta = MetadataCatalog.get("all")
    assert meta.thing_classes == ["cat", "dog", "kite"]
    assert meta.thing_dataset_id_to_contiguous_id == {5: 0, 2: 1, 9: 2}
    assert len(set(meta.thing_colors)) == 3
    assert meta.stuff_classes == SEMANTIC
    assert len(set(meta.stuff_colors)) == 3
    assert meta.stuff_dataset_id_to_contiguous_id == {0: 0, 1: 1, 2: 2}
    assert meta.ignore_label == 255
    assert meta.evaluator_type == "coco_multitask"
    assert meta.image_root == str(album.images)
    assert meta.json_file == str(album.path("instances"))
    assert meta.captions_json == str(album.path("captions"))
    assert meta.sem_seg_root == str(album.semantic)
    assert meta.panoptic_root == str(album.panoptic)
    assert meta.panoptic_json == str(album.path("panoptic"))
    assert meta.panoptic_classes == ["cat", "dog", "sky"]
    assert meta.panoptic_colors == [(250, 0, 0), (0, 250, 0), (0, 0, 250)]
    assert meta.panoptic_is_thing == [True, True, False]
    assert meta.panoptic_dataset_id_to_contiguous_id == {5: 0, 2: 1, 40: 2}
    assert meta.leaf_to_panoptic == [0, 1, 2]


def test_panoptic_metadata(album: Album) -> None:
    album.register("all", *KINDS)
    meta = MetadataCatalog.get("all_panoptic")
    assert meta.thing_classes == meta.stuff_classes == ["cat", "dog", "sky"]
    assert meta.thing_colors == meta.stuff_colors == [(250, 0, 0), (0, 250, 0), (0, 0, 250)]
    assert meta.thing_dataset_id_to_contiguous_id == {5: 0, 2: 1}
    assert meta.stuff_dataset_id_to_contiguous_id == {40: 2}
    assert meta.panoptic_root == str(album.panoptic)
    assert meta.panoptic_json == str(album.path("panoptic"))
    assert (meta.label_divisor, meta.ignore_label) == (1000, 255)


@pytest.mark.parametrize("kinds", SUBSETS, ids="+".join)
def test_metadata_omits_missing_files(album: Album, kinds: tuple[str, ...]) -> None:
    album.register("some", *kinds)
    meta = MetadataCatalog.get("some").as_dict().keys()
    assert ("thing_classes" in meta) == ("json_file" in meta) == ("instances" in kinds)
    assert ("captions_json" in meta) == ("captions" in kinds)
    assert ("sem_seg_root" in meta) == ("semantic" in kinds)
    assert ("stuff_classes" in meta) == bool({"semantic", "panoptic"} & set(kinds))
    assert ("panoptic_json" in meta) == ("panoptic_classes" in meta) == ("panoptic" in kinds)
    assert ("some_panoptic" in MetadataCatalog) == ("panoptic" in kinds)


def test_given_metadata_takes_precedence(album: Album) -> None:
    album.register("own", "instances", evaluator_type="coco", thing_colors=[(1, 2, 3)] * 3)
    meta = MetadataCatalog.get("own")
    assert (meta.evaluator_type, meta.thing_colors) == ("coco", [(1, 2, 3)] * 3)


def test_given_categories_define_the_order_of_classes(album: Album) -> None:
    things = Categories.from_coco([{"id": i, "name": THINGS[i]} for i in (2, 5, 9)])
    annotations = album.load("instances", things=things)[0]["annotations"]
    assert [a["category_id"] for a in annotations] == [1, 0, 1]


@pytest.mark.parametrize("annotated", [False, True])
def test_parent_category_without_objects_is_dropped(
    album: Album, annotated: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Roboflow exports one, which would become an empty class."""
    with album.changed("instances") as content:
        children = [{**category, "supercategory": "pets"} for category in content["categories"]]
        content["categories"] = [{"id": 0, "name": "pets", "supercategory": "none"}, *children]
        if annotated:
            content["annotations"][0]["category_id"] = 0
    with caplog.at_level("WARNING", logger="yolor_d2"):
        album.register("pets", "instances")
    classes = MetadataCatalog.get("pets").thing_classes
    assert classes == ["pets"] * annotated + ["cat", "dog", "kite"]
    assert len(DatasetCatalog.get("pets")) == 2
    expected = f"{album.path('instances')}: left out the class pets, which has no objects"
    assert caplog.messages == [expected] * (not annotated)


# Several data sets


def test_data_sets_with_different_targets_mix(album: Album, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    album.register("boxes", "instances")
    Album(tmp_path / "other").register("maps", "semantic")
    cfg = get_cfg()
    add_yolor_config(cfg)
    cfg.DATASETS.TRAIN = ("boxes", "maps")
    cfg.DATASETS.TRAIN_RATIOS = [1, 1]
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    cfg.MODEL.YOLOR.TASKS = ["detection", "semantic"]
    cfg.INPUT.STRONG.SIZE = 64
    cfg.SOLVER.IMS_PER_BATCH = 4
    cfg.OUTPUT_DIR = str(tmp_path)
    batches = iter(build_train_loader(cfg))
    items = [item for _ in range(2) for item in next(batches)]
    in_boxes = [item["file_name"].startswith(str(album.images)) for item in items]
    assert in_boxes.count(True) == 4
    assert [("instances" in item, "sem_seg" in item) for item in items] == [
        (is_box, not is_box) for is_box in in_boxes
    ]


# Categories without reading the rest

CATEGORIES = [{"id": 1, "name": "categories"}, {"id": 2, "name": 'a "categories": ["b"'}]
PLAIN = '[{"id": 1, "name": "cat"}]'
HUGE_AND_BROKEN = '"annotations": [{"id": 1, oh no'


@pytest.mark.parametrize(
    "text",
    [
        '{%s, "categories": %s}\n' % (HUGE_AND_BROKEN, PLAIN),  # noqa: UP031
        '{"info": {"categories": 1}, "categories": %s, %s' % (PLAIN, HUGE_AND_BROKEN),  # noqa: UP031
    ],
    ids=["last", "first"],
)
def test_categories_are_found_without_parsing_the_rest(tmp_path: Path, text: str) -> None:
    path = tmp_path / "instances.json"
    path.write_text(text)
    assert read_categories(path) == json.loads(PLAIN)


DECOYS: dict[str, Any] = {
    "value": [{"caption": "categories", "id": 1}],
    "key and value": [{"a": "categories", "b": ":", "categories": ["x"]}],
    "quoted": [{"caption": 'he said "categories": [{"id": 7, "name": "no"}]}'}],
    "quoted at the end": [{'\\"categories"': [{"id": 7, "name": "no"}], '"categories"': 1}],
    "nested": {"categories": [{"id": 7, "name": "no"}]},
    "backslashes": "\\\\\\",
    "other letters": "été 猫",
}


@pytest.mark.parametrize("is_first", [True, False], ids=["first", "last"])
@pytest.mark.parametrize("layout", [{}, {"indent": 1}, {"separators": (",", ":")}])
@pytest.mark.parametrize("decoy", DECOYS.values(), ids=DECOYS)
def test_string_values_are_not_taken_for_categories(
    tmp_path: Path, decoy: Any, layout: Json, is_first: bool
) -> None:
    own = {"categories": CATEGORIES}
    content = own | {"decoy": decoy} if is_first else {"decoy": decoy} | own
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content, ensure_ascii=False, **layout), encoding="utf-8")
    assert read_categories(path) == CATEGORIES


def test_member_name_with_the_same_ending(tmp_path: Path) -> None:
    path = tmp_path / "instances.json"
    path.write_text(json.dumps({"categories": CATEGORIES, 'no "categories': [{"id": 7}]}))
    assert read_categories(path) == CATEGORIES


@pytest.mark.parametrize("decoy", DECOYS.values(), ids=DECOYS)
def test_file_without_categories_is_refused(tmp_path: Path, decoy: Any) -> None:
    path = tmp_path / "instances.json"
    path.write_text(json.dumps({"decoy": decoy}))
    with pytest.raises(DataError, match="has no list of categories"):
        read_categories(path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not valid JSON"),
        ("[]", "is not valid JSON"),
        ('{"images": [', "is not valid JSON"),
        ('{"images": []', "is not valid JSON"),
        ('{"categories": {"id": 1}}', "has no list of categories"),
        ('{"categories": [1]}', "need an id and a name"),
        ('{"categories": [{"id": 1}]}', "need an id and a name"),
        (
            '{"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}',
            "id 1 occurs 2 times",
        ),
    ],
)
def test_invalid_categories_are_refused_at_registration(
    tmp_path: Path, text: str, reason: str
) -> None:
    path = tmp_path / "instances.json"
    path.write_text(text)
    with pytest.raises(DataError, match=reason) as error:
        register_coco_multitask("bad", tmp_path, instances_json=path)
    assert str(path) in str(error.value)
    assert "bad" not in DatasetCatalog


def test_images_without_labels(tmp_path: Path) -> None:
    """Subfolders are searched, and other files ignored."""
    for name in ("b.png", "a/2.JPG", "a/1.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30)).save(path)
    (tmp_path / "photos" / "notes.txt").touch()
    (tmp_path / "empty").mkdir()
    with restored_catalogs():
        register_images("photos", tmp_path / "photos", thing_classes=["ball"])
        records = DatasetCatalog.get("photos")
        assert [r["image_id"] for r in records] == ["a/1.png", "a/2.JPG", "b.png"]
        assert records[1] == {
            "file_name": str(tmp_path / "photos" / "a" / "2.JPG"),
            "image_id": "a/2.JPG",
            "height": 30,
            "width": 40,
        }
        assert MetadataCatalog.get("photos").thing_classes == ["ball"]
        register_images("nothing", tmp_path / "empty")
        with pytest.raises(DataError, match="empty: there are no images"):
            DatasetCatalog.get("nothing")
