"""The files of the toy data set agree with each other and with COCO's formats."""

import importlib.util
import json
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO

from yolor_d2.toy_scenes.coco import polygons_of
from yolor_d2.toy_scenes.dataset import (
    COLORS,
    STUFF_CLASSES,
    THING_CLASSES,
    generate_toy_scenes,
)

WIDTH, HEIGHT, MIN_SIZE = 160, 120, 12
COUNTS = {"train": 70, "val": 10}
ARGUMENTS = {
    **COUNTS,
    "seed": 3,
    "width": WIDTH,
    "height": HEIGHT,
    "min_size": MIN_SIZE,
    "max_size": 100,
    "progress": False,
}
SCRIPT = Path(__file__).parents[2] / "datasets" / "prepare_toy_scenes.py"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy") / "toy_scenes"
    generate_toy_scenes(folder, **ARGUMENTS)
    return folder


@pytest.fixture(scope="module")
def coco(root: Path) -> COCO:
    return COCO(str(root / "annotations" / "instances_train.json"))


@pytest.fixture(scope="module")
def scenes(root: Path) -> list[dict[str, Any]]:
    return _load(root, "scenes", "train")["scenes"]


def _load(root: Path, kind: str, split: str) -> dict[str, Any]:
    return json.loads((root / "annotations" / f"{kind}_{split}.json").read_text())


def _panoptic_ids(root: Path, file_name: str) -> np.ndarray:
    image = cv2.imread(str(root / "annotations" / "panoptic_train" / file_name)).astype(np.int64)
    return image[..., 2] + 256 * image[..., 1] + 65536 * image[..., 0]


def _semantic(root: Path, stem: str) -> np.ndarray:
    path = root / "annotations" / "semantic_train" / f"{stem}.png"
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def _bytes(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.*")}


# ---- Files ---------------------------------------------------------------------------------------


def test_files_are_complete(root: Path) -> None:
    for split, count in COUNTS.items():
        stems = [f"{number:06d}" for number in range(1, count + 1)]
        assert sorted(path.name for path in (root / split).iterdir()) == [f"{s}.jpg" for s in stems]
        for kind in ("panoptic", "semantic"):
            folder = root / "annotations" / f"{kind}_{split}"
            assert sorted(path.name for path in folder.iterdir()) == [f"{s}.png" for s in stems]
    assert cv2.imread(str(root / "val" / "000001.jpg")).shape == (HEIGHT, WIDTH, 3)


def test_same_bytes_for_any_number_of_workers(root: Path, tmp_path: Path) -> None:
    generate_toy_scenes(tmp_path, **ARGUMENTS, workers=2)
    assert _bytes(tmp_path) == _bytes(root)


def test_images_depend_on_seed_and_split_and_are_overwritten(root: Path, tmp_path: Path) -> None:
    generate_toy_scenes(tmp_path, **{**ARGUMENTS, "train": 4, "val": 1, "seed": 4})
    assert (tmp_path / "train/000001.jpg").read_bytes() != (root / "train/000001.jpg").read_bytes()
    assert (root / "val/000001.jpg").read_bytes() != (root / "train/000001.jpg").read_bytes()
    foreign = tmp_path / "annotations" / "mine.txt"
    foreign.write_text("keep")
    generate_toy_scenes(tmp_path, **{**ARGUMENTS, "train": 2, "val": 0})
    assert [path.name for path in sorted((tmp_path / "train").iterdir())] == [
        "000001.jpg",
        "000002.jpg",
    ]
    assert (tmp_path / "train/000001.jpg").read_bytes() == (root / "train/000001.jpg").read_bytes()
    assert not list((tmp_path / "val").iterdir())
    assert foreign.read_text() == "keep"


def test_ids_are_unique_over_both_splits(root: Path) -> None:
    for kind, key in (
        ("instances", "images"),
        ("instances", "annotations"),
        ("captions", "annotations"),
        ("captions_sixth", "annotations"),
    ):
        ids = [item["id"] for split in COUNTS for item in _load(root, kind, split)[key]]
        assert len(ids) == len(set(ids)) > sum(COUNTS.values()) - 1
    categories = _load(root, "panoptic", "train")["categories"]
    assert [item["name"] for item in categories] == [*THING_CLASSES, *STUFF_CLASSES]
    assert categories[: len(THING_CLASSES)] == [
        {**item, "isthing": 1, "color": categories[index]["color"]}
        for index, item in enumerate(_load(root, "instances", "train")["categories"])
    ]
    assert len({item["id"] for item in categories}) == len(categories)


def test_five_different_captions_per_image(root: Path) -> None:
    captions: dict[int, list[str]] = {}
    for item in _load(root, "captions", "train")["annotations"]:
        captions.setdefault(item["image_id"], []).append(item["caption"])
    assert len(captions) == COUNTS["train"]
    assert all(len(set(texts)) == 5 for texts in captions.values())
    assert all(len(text.split()) > 1 for texts in captions.values() for text in texts)


def test_sixth_caption_differs_from_the_five(root: Path) -> None:
    five, sixth = (_load(root, kind, "val") for kind in ("captions", "captions_sixth"))
    assert {**sixth, "annotations": []} == {**five, "annotations": []}
    assert [item["image_id"] for item in sixth["annotations"]] == [i["id"] for i in five["images"]]
    first = {(item["image_id"], item["caption"]) for item in five["annotations"]}
    last = {(item["image_id"], item["caption"]) for item in sixth["annotations"]}
    assert not first & last
    assert not {i["id"] for i in five["annotations"]} & {i["id"] for i in sixth["annotations"]}


# ---- Masks and maps ------------------------------------------------------------------------------


def test_pycocotools_loads_every_mask(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        coco = COCO(str(root / "annotations" / "instances_train.json"))
        capfd.readouterr()  # COCO's messages while loading
        runs = {key: coco.annToRLE(annotation) for key, annotation in coco.anns.items()}
    for key, annotation in coco.anns.items():
        mask = mask_utils.decode(runs[key])
        x, y, width, height = annotation["bbox"]
        rows, columns = np.nonzero(mask)
        assert abs(rows.min() - y) <= 1
        assert abs(rows.max() + 1 - y - height) <= 1
        assert abs(columns.min() - x) <= 1
        assert abs(columns.max() + 1 - x - width) <= 1
    assert capfd.readouterr() == ("", "")


def test_panoptic_segments_agree_with_instances_and_semantics(root: Path, coco: COCO) -> None:
    panoptic = _load(root, "panoptic", "train")
    index_of = {item["id"]: index for index, item in enumerate(panoptic["categories"])}
    compared = 0
    for record in panoptic["annotations"]:
        ids = _panoptic_ids(root, record["file_name"])
        segments = record["segments_info"]
        assert sorted(np.unique(ids)) == sorted(segment["id"] for segment in segments)
        semantic = _semantic(root, Path(record["file_name"]).stem)
        annotations = coco.imgToAnns[record["image_id"]]
        things = [item for item in segments if index_of[item["category_id"]] < len(THING_CLASSES)]
        assert len(things) == len(annotations)
        for segment in segments:
            mask = ids == segment["id"]
            assert (semantic[mask] == index_of[segment["category_id"]]).all()
            rows, columns = np.nonzero(mask)
            x, y, width, height = segment["bbox"]
            assert segment["area"] == len(rows)
            assert (x, y) == (columns.min(), rows.min())
            assert (x + width, y + height) == (columns.max() + 1, rows.max() + 1)
        for segment, annotation in zip(things, annotations, strict=True):
            assert segment["category_id"] == annotation["category_id"]
            assert segment["iscrowd"] == annotation["iscrowd"]
            assert segment["bbox"] == annotation["bbox"]
            assert segment["area"] == annotation["area"]
            mask = ids == segment["id"]
            drawn = mask_utils.decode(coco.annToRLE(annotation)).astype(bool)
            overlap = (mask & drawn).sum() / (mask | drawn).sum()
            assert overlap > (0.95 if segment["area"] > 200 else 0.8)
            assert not annotation["iscrowd"] or overlap == 1
            compared += 1
    assert compared > 100


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=9, max_size=9), min_size=7, max_size=7))
def test_polygons_keep_holes_and_single_pixels(rows: list[list[bool]]) -> None:
    # Magnified, so that smoothing the corners by half a pixel cannot hide a lost part.
    mask = np.kron(np.array(rows), np.ones((6, 6))).astype(bool)
    polygons = polygons_of(mask)
    drawn = np.zeros(mask.shape, bool)
    if polygons:
        runs = mask_utils.merge(mask_utils.frPyObjects(polygons, *mask.shape))
        drawn = mask_utils.decode(runs).astype(bool)
    assert (drawn != mask).mean() < 0.01


def test_polygon_of_a_ring_is_cut_through_its_hole() -> None:
    mask = np.zeros((40, 40), bool)
    mask[5:35, 5:35] = True
    mask[15:20, 10:30] = False
    runs = mask_utils.merge(mask_utils.frPyObjects(polygons_of(mask), 40, 40))
    np.testing.assert_array_equal(mask_utils.decode(runs).astype(bool), mask)


# ---- Scenes --------------------------------------------------------------------------------------


def test_crowds_empty_images_and_all_classes_occur(
    coco: COCO, scenes: list[dict[str, Any]]
) -> None:
    crowds = [item for item in coco.anns.values() if item["iscrowd"]]
    assert 1 <= len(crowds) < 0.3 * COUNTS["train"]
    assert all(isinstance(item["segmentation"]["counts"], list) for item in crowds)
    empty = [image for image in coco.imgs if not coco.imgToAnns[image]]
    assert 1 <= len(empty) < 0.2 * COUNTS["train"]
    objects = [item for scene in scenes for item in scene["objects"]]
    assert {item["thing"] for item in objects} == set(THING_CLASSES)
    assert {item["color"] for item in objects} == set(COLORS)
    assert {item["stuff"] for scene in scenes for item in scene["regions"]} == set(STUFF_CLASSES)


def test_visible_objects_have_the_requested_sizes(scenes: list[dict[str, Any]]) -> None:
    sizes = []
    for item in [item for scene in scenes for item in scene["objects"] if not item["is_crowd"]]:
        x, y, width, height = item["box"]
        inside = x > 0 and y > 0 and x + width < WIDTH and y + height < HEIGHT
        assert item["visible_share"] >= 0.3
        if inside and item["visible_share"] == 1:
            sizes.append(max(width, height))
    assert min(sizes) >= MIN_SIZE
    assert max(sizes) <= 101
    assert max(sizes) > 60
    assert len(sizes) > 60


def test_pixels_have_the_color_of_the_object(
    root: Path, coco: COCO, scenes: list[dict[str, Any]]
) -> None:
    words = list(COLORS)
    colors = np.array([COLORS[word] for word in words], np.float32)
    right = []
    for scene in scenes:
        image = cv2.imread(str(root / "train" / scene["file_name"]))[..., ::-1]
        for item, annotation in zip(
            scene["objects"], coco.imgToAnns[scene["image_id"]], strict=True
        ):
            mask = mask_utils.decode(coco.annToRLE(annotation)).astype(bool)
            distance = np.abs(colors - np.median(image[mask], axis=0)).sum(axis=1)
            right.append(words[int(distance.argmin())] == item["color"])
    assert np.mean(right) > 0.98


def test_places_agree_with_semantic_maps(root: Path, scenes: list[dict[str, Any]]) -> None:
    """The lower end of a standing object is surrounded by its place."""
    agree = []
    for scene in scenes:
        semantic = _semantic(root, Path(scene["file_name"]).stem)
        for item in scene["objects"]:
            x, y, width, height = item["box"]
            lower_end = slice(y + int(0.85 * height), min(y + height + 1, HEIGHT))
            around = semantic[lower_end, max(x - 1, 0) : x + width + 1]
            stuff = around[around >= len(THING_CLASSES)] - len(THING_CLASSES)
            if item["place"] is None or len(stuff) < 5:
                continue
            most = STUFF_CLASSES[np.bincount(stuff).argmax()]
            agree.append(most == item["place"])
    assert len(agree) > 60
    assert np.mean(agree) > 0.95


# ---- Arguments -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prepare_toy_scenes", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--train", "-1"], "train must not be negative"),
        (["--workers", "-2"], "workers must not be negative"),
        (["--min-size", "50", "--max-size", "40"], "max_size 40 is less than min_size 50"),
        (["--min-size", "90", "--width", "80", "--height", "64"], "is too large"),
        (["--max-objects", "0"], "max_objects"),
        (["--width", "10"], "64x64"),
    ],
)
def test_invalid_arguments_give_one_line(
    script: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    assert script.main(["--output", str(tmp_path / "new"), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_same_arguments_keep_the_scenes(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def scenes(train: int) -> float:
        flags = ("--output", str(tmp_path), "--train", str(train), "--val", "0", "--workers", "0")
        assert script.main(flags) == 0
        return (tmp_path / "train/000001.jpg").stat().st_mtime_ns

    first = scenes(2)
    assert "are replaced" not in capsys.readouterr().out
    assert scenes(2) == first
    assert scenes(1) > first
    assert (
        f"{tmp_path} has toy scenes; those of other arguments are replaced"
        in capsys.readouterr().out
    )


def test_other_folders_are_not_overwritten(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    assert script.main(["--output", str(tmp_path)]) == 2
    assert "other than toy scenes" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    assert script.main(["--output", str(tmp_path / "thesis.txt")]) == 2
    assert "is not a folder" in capsys.readouterr().err
    assert script.main(["--output", str(tmp_path / "thesis.txt" / "below")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_default_output_is_below_detectron2_datasets(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    assert script.main(["--train", "1", "--val", "0", "--workers", "0"]) == 0
    assert (tmp_path / "toy_scenes" / "train" / "000001.jpg").is_file()
