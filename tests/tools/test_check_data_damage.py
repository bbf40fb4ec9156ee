"""check_data reports file and image of each kind of damage."""

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from yolor_d2.data.files.rle import covers, run_lengths

from .small_dataset import HEIGHT, WIDTH


def _truncated(path):
    path.write_bytes(path.read_bytes()[:-40])


def _zeroed_inside(path):
    data = bytearray(path.read_bytes())
    data[-400:-200] = bytes(200)
    path.write_bytes(data)


def _small_semantic(dataset):
    dataset.write_semantic(2, np.zeros((HEIGHT, WIDTH - 1), np.uint8))


def _small_panoptic(dataset):
    dataset.write_panoptic(2, np.full((HEIGHT - 1, WIDTH), 300))


def _other_size(dataset):
    cv2.imwrite(str(dataset.image(2)), np.zeros((HEIGHT, WIDTH + 1, 3), np.uint8))


SQUARE = [4, 4, 14, 4, 14, 14, 4, 14]
# name: (damage, kind of problem, reported file, detail); the image is always number 2.
DAMAGES = {
    "image missing": (lambda m: m.image(2).unlink(), "bad image file", "images/2.jpg", "No such"),
    "image empty": (lambda m: m.image(2).write_bytes(b""), "bad image file", "2.jpg", "empty"),
    "no image": (lambda m: m.image(2).write_text("x"), "bad image file", "2.jpg", "not an image"),
    "truncated": (lambda m: _truncated(m.image(2)), "bad image file", "2.jpg", "truncated"),
    "other size": (_other_size, "bad image file", "images/2.jpg", "is 49 x 32"),
    "damaged": (lambda m: _zeroed_inside(m.image(2)), "damaged image", "images/2.jpg", "Corrupt"),
    "two points": (
        lambda m: m.change_object(segmentation=[SQUARE, [1, 1, 2, 2]]),
        "bad polygon",
        "instances.json",
        "annotation 20: has 4 numbers",
    ),
    "odd numbers": (
        lambda m: m.change_object(segmentation=[[*SQUARE, 4]]),
        "bad polygon",
        "instances.json",
        "annotation 20: has 9 numbers",
    ),
    "polygon outside": (
        lambda m: m.change_object(segmentation=[[4, 4, 14, 4, 14, 14, 4, 33.5]]),
        "polygon outside image",
        "images/2.jpg",
        "by 1.5 px",
    ),
    "polygon on a line": (
        lambda m: m.change_object(segmentation=[SQUARE, [4, 4, 7.1, 7.1, 9.3, 9.3]]),
        "polygon without area",
        "images/2.jpg",
        "polygon 1",
    ),
    "flat box": (
        lambda m: m.change_object(1, bbox=[1, 2, 0, 5]),
        "box without size",
        "2.jpg",
        "(dog)",
    ),
    "box outside": (
        lambda m: m.change_object(1, bbox=[-1.5, 2, 6, 6]),
        "box outside image",
        "2.jpg",
        "by 1.5 px",
    ),
    "box elsewhere": (
        lambda m: m.change_object(bbox=[4, 4, 14, 14]),  # the corner in place of the size
        "box unlike its segmentation",
        "2.jpg",
        "box [4.0, 4.0, 18.0, 18.0], segmentation [4.0, 4.0, 14.0, 14.0]",
    ),
    "empty RLE": (
        lambda m: m.change_object(2, segmentation={"size": [HEIGHT, WIDTH], "counts": [32 * 48]}),
        "empty mask",
        "2.jpg",
        "annotation 22 (cat)",
    ),
    "box unlike RLE": (
        lambda m: m.change_object(2, bbox=[25, 20, 14, 9]),
        "box unlike its segmentation",
        "2.jpg",
        "annotation 22 (cat)",
    ),
    "blank caption": (lambda m: m.add_caption(" \n"), "blank caption", "captions.json", "77"),
    "semantic label": (
        lambda m: m.write_semantic(2, np.full((HEIGHT, WIDTH), 3, np.uint8)),
        "bad semantic file",
        "semantic/2.png",
        "has label 3",
    ),
    "semantic size": (_small_semantic, "bad semantic file", "semantic/2.png", "(32, 47)"),
    "semantic truncated": (
        lambda m: _truncated(m.root / "semantic/2.png"),
        "bad semantic file",
        "semantic/2.png",
        "truncated",
    ),
    "panoptic truncated": (
        lambda m: _truncated(m.root / "panoptic/2.png"),
        "bad panoptic file",
        "panoptic/2.png",
        "truncated",
    ),
    "panoptic size": (_small_panoptic, "bad panoptic file", "panoptic/2.png", "is 48 x 31"),
    "segment area": (
        lambda m: m.change_segment(0, area=99),
        "segment of another area",
        "panoptic/2.png",
        "segment 70000: 99 in the list, 100 pixels",
    ),
    "segment unlisted": (
        lambda m: m.change_segment(0, id=4),
        "unlisted segment",
        "panoptic/2.png",
        "segment 70000 has 100 pixels",
    ),
    "segment without pixels": (
        lambda m: m.change_segment(0, id=4),
        "segment not in the PNG",
        "panoptic/2.png",
        "segment 4",
    ),
    "segment twice": (
        lambda m: m.change_segment(0, id=300),
        "duplicate segment id",
        "panoptic/2.png",
        "segment 300",
    ),
}


@pytest.mark.parametrize(("damage", "kind", "file", "detail"), DAMAGES.values(), ids=DAMAGES)
def test_damage(dataset, check, damage, kind, file, detail):
    damage(dataset)
    dataset.register()
    code, out, err = check(dataset.name)
    assert (code, err) == (1, "")
    lines = out.splitlines()
    assert lines[-1].startswith(f"{dataset.name}: ")
    assert "problem" in lines[-1]
    (start,) = (number for number, line in enumerate(lines) if f": {kind}: " in line)
    example = lines[start + 1]
    assert f"{file}: image 2: " in example
    assert detail in example


def test_one_file_for_two_images(dataset, check):
    dataset.instances["images"][2]["file_name"] = "2.jpg"
    dataset.register(sem_seg_root=None)
    code, out, _ = check(dataset.name)
    assert code == 1
    assert "duplicate file name: 1" in out
    assert "2.jpg: image 3: is also image 2" in out


# Damage that loaders refuse: (damage, error line, additional line from the JSON checks).
REFUSED = {
    "annotation id": (
        lambda m: m.change_object(id=10),
        "annotation id 10 occurs twice",
        "instances.json: image 2: annotation 10: its id 10 is used again",
    ),
    "image id": (
        lambda m: m.captions.update(images=[*m.captions["images"], m.captions["images"][1]]),
        "image id 2 occurs twice",
        "captions.json: image 2: occurs twice",
    ),
    "two panoptic maps": (
        lambda m: m.panoptic["annotations"].append(m.panoptic["annotations"][1]),
        "image 2 has two annotations",
        "panoptic.json: image 2: its image_id 2 is used again",
    ),
    "no text": (
        lambda m: m.add_caption(5),
        "image 2 has a caption that is not a string",
        "captions.json: image 2: annotation 77: 5",
    ),
    "box of three": (lambda m: m.change_object(bbox=[1, 2, 3]), "annotation 20 has bbox", ""),
    "category": (lambda m: m.change_object(category_id=6), "annotation 20 has category id 6", ""),
    "RLE size": (
        lambda m: m.change_object(segmentation={"size": [3, 3], "counts": [9]}),
        "annotation 20 has a mask of [3, 3]",
        "",
    ),
    "infinite polygon": (
        lambda m: m.change_object(segmentation=[[*SQUARE[:-1], float("nan")]]),
        "annotation 20 has polygons that are not lists of numbers",
        "",
    ),
    "polygon of words": (
        lambda m: m.change_object(segmentation=[["a"] * 6]),
        "annotation 20 has polygons that are not lists of numbers",
        "",
    ),
    "polygon with holes in it": (
        lambda m: m.change_object(segmentation=[SQUARE, [*SQUARE[:-2], None, None]]),
        "annotation 20 has polygons that are not lists of numbers",
        "",
    ),
    "box of words": (
        lambda m: m.change_object(1, bbox=["a"] * 4),
        "annotation 21 has bbox ['a', 'a', 'a', 'a'], not 4 numbers",
        "",
    ),
    "infinite box": (
        lambda m: m.change_object(1, bbox=[1, 2, 3, float("inf")]),
        "annotation 21 has bbox [1, 2, 3, inf], not 4 numbers",
        "",
    ),
    "short RLE": (
        lambda m: m.change_object(2, segmentation={"size": [HEIGHT, WIDTH], "counts": [9, 9]}),
        "annotation 22 has runs that do not fill its image",
        "",
    ),
    "half RLE": (
        lambda m: m.change_object(2, segmentation={"size": [HEIGHT, WIDTH], "counts": "0P"}),
        "annotation 22 has runs that do not fill its image",
        "",
    ),
    "flat polygon": (
        lambda m: m.change_object(segmentation=SQUARE),
        "",
        "annotation 20: 4 is not a list",
    ),
}


@pytest.mark.parametrize(("damage", "line", "shown"), REFUSED.values(), ids=REFUSED)
def test_data_sets_that_cannot_be_loaded(dataset, check, damage, line, shown):
    damage(dataset)
    dataset.register()
    code, out, err = check(dataset.name)
    assert code == 2
    assert err.startswith("yolor-d2 check-data: ")
    assert err.count("\n") == 1
    assert line in err
    assert shown in out


def test_records_of_other_loaders(dataset, check):
    """Any registered data set can be checked, without JSON files and metadata."""
    record = {
        "file_name": str(dataset.image(1)),
        "image_id": "one",
        "width": WIDTH,
        "height": HEIGHT,
        "captions": ["", 5, "well"],
        "annotations": [
            {"bbox": [1, 1, 9, 9], "bbox_mode": BoxMode.XYXY_ABS, "category_id": np.int64(1)},
            {"id": 4, "bbox": [1, 1, 9, 9], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 2},
            {"bbox": [1, 1, 9, 9], "bbox_mode": BoxMode.XYXY_ABS, "category_id": "cat"},
        ],
    }
    for annotation, segmentation in zip(
        record["annotations"], ({"size": [3, 3], "counts": [9]}, [], np.ones((9, 9))), strict=True
    ):
        annotation["segmentation"] = segmentation
    broken = {"file_name": str(dataset.image(2)), "image_id": "two", "annotations": [{}]}
    nameless = [{"file_name": str(dataset.image(3)), "width": WIDTH, "height": HEIGHT}] * 2
    DatasetCatalog.register(dataset.name, lambda: [record, record, broken, *nameless])
    MetadataCatalog.get(dataset.name).set(thing_classes=["cat", "dog"])
    code, out, _ = check(dataset.name)
    assert code == 1
    assert "one" in out
    for expected in (
        "captions: blank caption: 2",
        "captions: caption is no text: 2",
        "objects: unknown category: 4",
        "annotation 4: class 2 of 2",
        "class 'cat' is not a number",
        "objects: RLE of another size: 2",
        "objects: no polygon: 2",
        "object 2: is a ndarray",
        "image: duplicate image id: 1",
        "image: duplicate file name: 1",
        "image: bad image entry: 1",
        "image two: KeyError: 'width'",
        "objects: bad objects entry: 1",
    ):
        assert expected in out


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_run_lengths_of_compressed_rle(share):
    mask = np.random.default_rng(1).random((61, 83)) < share
    rle = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))
    runs = run_lengths(rle["counts"])
    flat = np.repeat(np.arange(len(runs)) % 2, runs)
    assert np.array_equal(flat.reshape(mask.shape, order="F"), mask)
    assert run_lengths(rle["counts"].decode()) == runs
    assert covers(rle["counts"], width=83, height=61)
    assert not covers(rle["counts"], width=83, height=60)
