"""The built-in data sets, in folders laid out as in datasets/README.md."""

import importlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from yolor_d2.data import register_coco_multitask
from yolor_d2.data.catalog import builtin
from yolor_d2.data.catalog.categories import COCO_LEAVES, COCO_PANOPTIC, COCO_THINGS
from yolor_d2.data.catalog.semantic_sources import annotation_sources, write_semantic_pngs
from yolor_d2.data.files.semantic_files import read_index_png
from yolor_d2.errors import DataError
from yolor_d2.toy_scenes import builtin as toy_builtin
from yolor_d2.toy_scenes.dataset import THING_CLASSES, generate_toy_scenes

from ..coco_files import restored_catalogs

Register = Callable[[], None]

VARIANTS = ("multitask", "captions", "semantic171", "panoptic133")
NAMES = {
    *(f"coco_2017_{split}_{variant}" for split in ("train", "val") for variant in VARIANTS),
    *(f"coco_karpathy_{split}" for split in ("train", "restval", "val", "test")),
    *(f"toy_scenes_{split}" for split in ("train", "val")),
    "coco_overfit",
}


@pytest.fixture
def register(tmp_path: Path) -> Iterator[Register]:
    """Registers the built-in data sets below tmp_path."""
    with restored_catalogs():
        DatasetCatalog.clear()
        MetadataCatalog.data = {}

        def register_all() -> None:
            builtin.register_all(tmp_path)
            toy_builtin.register_all(tmp_path)

        yield register_all


@pytest.fixture
def coco_slice(tmp_path: Path, shared_dir: Path) -> Path:
    """`coco/` with 79 real images of val2017, without panoptic segments."""
    source, root = shared_dir / "data/coco-mini", tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    (root / "panoptic_val2017").mkdir()
    (root / "val2017").symlink_to(source / "val2017")
    for kind in ("instances", "captions"):
        name = f"annotations/{kind}_val2017.json"
        (root / name).symlink_to(source / name)
    instances = root / "annotations/instances_val2017.json"
    content = {"images": json.loads(instances.read_text())["images"], "annotations": []}
    (root / "annotations/panoptic_val2017.json").write_text(json.dumps(content))
    outcome = write_semantic_pngs(
        annotation_sources(instances_json=instances),
        output=root / "semantic_val2017",
        categories=COCO_LEAVES,
        made_from={"instances": instances.name},
        workers=1,
    )
    assert not outcome.failures
    return root


# Names and classes


def test_importing_the_package_registers_everything() -> None:
    assert set(DatasetCatalog) >= NAMES


def test_nothing_else_is_registered(register: Register) -> None:
    register()
    assert set(DatasetCatalog) == NAMES


@pytest.mark.parametrize(
    ("name", "things", "stuff", "panoptic"),
    [
        ("coco_2017_train_multitask", 80, 171, 133),
        ("coco_2017_val_semantic171", None, 171, None),
        ("coco_2017_val_panoptic133", None, 133, 133),
        ("coco_2017_train_captions", None, None, None),
        ("coco_karpathy_test", None, None, None),
        ("toy_scenes_val", 10, 19, 19),
    ],
)
def test_numbers_of_classes(
    name: str, things: int | None, stuff: int | None, panoptic: int | None
) -> None:
    meta = MetadataCatalog.get(name)
    keys = ("thing_classes", "stuff_classes", "panoptic_classes")
    found = [len(meta.get(key)) if meta.get(key) else None for key in keys]
    assert found == [things, stuff, panoptic]


def test_leaf_to_panoptic() -> None:
    meta = MetadataCatalog.get("coco_2017_val_multitask")
    assert len(meta.leaf_to_panoptic) == 171
    tree = COCO_LEAVES.names.index("tree")
    assert meta.panoptic_classes[meta.leaf_to_panoptic[tree]] == "tree-merged"


def test_root_folder_of_the_environment(
    register: Register, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DETECTRON2_DATASETS", "~/my data")
    importlib.reload(builtin)
    folder = MetadataCatalog.get("coco_2017_val_multitask").image_root
    assert folder == str(tmp_path / "my data/coco/val2017")


@pytest.mark.parametrize("name", sorted(NAMES))
def test_missing_files_are_named(register: Register, tmp_path: Path, name: str) -> None:
    register()
    with pytest.raises(DataError, match=r": (there is no such folder|No such file)") as error:
        DatasetCatalog.get(name)
    folders = {"toy": "toy_scenes", "overfit": "overfit"}
    family = next((folder for word, folder in folders.items() if word in name), "coco")
    assert str(error.value).startswith(f"{tmp_path / family}/")


# Toy scenes


def test_toy_scenes(register: Register, tmp_path: Path) -> None:
    generate_toy_scenes(tmp_path / "toy_scenes", train=3, val=2, seed=5, workers=0, progress=False)
    register()
    records = DatasetCatalog.get("toy_scenes_train")
    assert len(records) == 3
    assert len(DatasetCatalog.get("toy_scenes_val")) == 2
    num_classes = len(MetadataCatalog.get("toy_scenes_train").stuff_classes)
    for record in records:
        assert len(record["captions"]) == 5
        labels = read_index_png(record["sem_seg_file_name"])
        assert labels.shape == (record["height"], record["width"])
        assert set(np.unique(labels)) <= {*range(num_classes), 255}
        assert {s["id"] for s in record["segments_info"]} == segment_ids(record)
        assert all(a["category_id"] < len(THING_CLASSES) for a in record["annotations"])
    sixth = Path(MetadataCatalog.get("toy_scenes_train").sixth_captions_json)
    assert len(json.loads(sixth.read_text())["annotations"]) == 3


def segment_ids(record: dict[str, Any]) -> set[int]:
    """Segment ids in the panoptic PNG, without 0 (unlabeled)."""
    blue, green, red = cv2.imread(record["pan_seg_file_name"]).astype(int).transpose(2, 0, 1)
    return set(np.unique(red + 256 * green + 65536 * blue).tolist()) - {0}


# COCO


def test_a_slice_of_coco(register: Register, coco_slice: Path) -> None:
    register()
    records = DatasetCatalog.get("coco_2017_val_multitask")
    assert len(records) == 79
    assert sum(len(r["annotations"]) for r in records) == 624
    assert sum(a["iscrowd"] for r in records for a in r["annotations"]) == 5
    assert sum(len(r["captions"]) for r in records) == 395
    assert not any("segments_info" in r for r in records)
    classes = {a["category_id"] for r in records for a in r["annotations"]}
    assert classes <= set(range(80))
    for record in records:
        assert Path(record["sem_seg_file_name"]).stem == Path(record["file_name"]).stem
    meta = MetadataCatalog.get("coco_2017_val_multitask")
    assert meta.thing_classes == list(COCO_THINGS.names)


def test_semantic_labels_of_the_slice_are_things(register: Register, coco_slice: Path) -> None:
    register()
    records = DatasetCatalog.get("coco_2017_val_multitask")
    for record in records[:10]:
        labels = set(np.unique(read_index_png(record["sem_seg_file_name"])).tolist()) - {255}
        things = {annotation["category_id"] for annotation in record["annotations"]}
        assert labels <= things  # a small thing may be covered
        assert labels


def test_each_kind_of_the_slice_alone(register: Register, coco_slice: Path) -> None:
    register()
    common = {"file_name", "image_id", "height", "width"}
    for variant, key in (("captions", "captions"), ("semantic171", "sem_seg_file_name")):
        records = DatasetCatalog.get(f"coco_2017_val_{variant}")
        assert len(records) == 79
        assert all(record.keys() == common | {key} for record in records)
    ids = [
        [record["image_id"] for record in DatasetCatalog.get(f"coco_2017_val_{variant}")]
        for variant in ("multitask", "captions", "semantic171")
    ]
    assert ids[0] == ids[1] == ids[2]


def test_real_panoptic_files(shared_dir: Path) -> None:
    folder = shared_dir / "data/coco-panoptic-sample"
    with restored_catalogs():
        register_coco_multitask(
            "sample",
            folder / "input_images",
            panoptic_root=folder / "panoptic_examples",
            panoptic_json=folder / "panoptic_examples.json",
            panoptic=COCO_PANOPTIC,
        )
        records = DatasetCatalog.get("sample")
    counts = {record["image_id"]: len(record["segments_info"]) for record in records}
    assert counts == {142238: 18, 439180: 32}
    for record in records:
        assert {s["id"] for s in record["segments_info"]} == segment_ids(record)
        for segment in record["segments_info"]:
            assert segment["isthing"] == COCO_PANOPTIC.is_thing[segment["category_id"]]
    classes = {COCO_PANOPTIC.names[s["category_id"]] for r in records for s in r["segments_info"]}
    assert {"person", "sky-other-merged"} <= classes


# Karpathy's splits

SPLITS = {  # split: folder, COCO id
    "train": ("train2014", 9),
    "restval": ("val2014", 42),
    "val": ("val2014", 73),
    "test": ("val2014", 391),
}
IN_VAL_2017 = {42}


@pytest.fixture
def karpathy(tmp_path: Path) -> Path:
    """`coco/` with only dataset_coco.json."""
    images = [
        {
            "filepath": folder,
            "filename": f"COCO_{folder}_{number:012d}.jpg",
            "cocoid": number,
            "split": split,
            "sentences": [{"raw": f"Image {number}.", "tokens": ["image"]}, {"raw": "Again."}],
        }
        for split, (folder, number) in SPLITS.items()
    ]
    root = tmp_path / "coco"
    root.mkdir()
    (root / "dataset_coco.json").write_text(json.dumps({"images": images, "dataset": "coco"}))
    return root


def add_image(path: Path, *, width: int) -> None:
    path.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(path), np.zeros((10, width, 3), np.uint8))


@pytest.mark.parametrize("year", [2014, 2017])
def test_karpathy_splits(register: Register, karpathy: Path, year: int) -> None:
    files = {}
    for split, (folder, number) in SPLITS.items():
        if year == 2014:
            files[split] = karpathy / folder / f"COCO_{folder}_{number:012d}.jpg"
        else:
            part = "val2017" if number in IN_VAL_2017 else "train2017"
            files[split] = karpathy / part / f"{number:012d}.jpg"
        add_image(files[split], width=number)
    register()
    for split, (_, number) in SPLITS.items():
        assert DatasetCatalog.get(f"coco_karpathy_{split}") == [
            {
                "file_name": str(files[split]),
                "image_id": number,
                "width": number,
                "height": 10,
                "captions": [f"Image {number}.", "Again."],
            }
        ]


def test_karpathy_prefers_the_folders_of_2014(register: Register, karpathy: Path) -> None:
    for name in ("train2014/COCO_train2014_000000000009.jpg", "train2017/000000000009.jpg"):
        add_image(karpathy / name, width=9)
    register()
    (record,) = DatasetCatalog.get("coco_karpathy_train")
    assert record["file_name"].endswith("train2014/COCO_train2014_000000000009.jpg")


def test_karpathy_without_images(register: Register, karpathy: Path) -> None:
    register()
    with pytest.raises(DataError, match=r"train2017/000000000391\.jpg: cannot be read"):
        DatasetCatalog.get("coco_karpathy_test")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"images": []}, "has no image of the split val"),
        ({"annotations": []}, "has no list of images"),
        ({"images": [{"split": "val", "filename": "a.jpg"}]}, "has no filepath"),
    ],
)
def test_karpathy_with_an_invalid_file(
    register: Register, karpathy: Path, content: dict[str, Any], reason: str
) -> None:
    path = karpathy / "dataset_coco.json"
    path.write_text(json.dumps(content))
    register()
    with pytest.raises(DataError, match=reason) as error:
        DatasetCatalog.get("coco_karpathy_val")
    assert str(error.value).startswith(f"{path}: ")
