"""Inconsistent data sets: the error is one line that names the file and the id."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from detectron2.data import DatasetCatalog

from yolor_d2.data import register_coco_multitask
from yolor_d2.data.catalog.categories import COCO_PANOPTIC, COCO_THINGS
from yolor_d2.data.catalog.coco_join import CocoFiles, load_coco_multitask
from yolor_d2.errors import DataError

from ..coco_files import KINDS, Album, compressed, rectangle_mask

Json = dict[str, Any]
Change = Callable[[Json], object]


def error_message(album: Album, kinds: tuple[str, ...] = KINDS, **more: Any) -> str:
    """Return the error message of loading, which is one line."""
    with pytest.raises(DataError) as error:
        album.load(*kinds, **more)
    message = str(error.value)
    assert "\n" not in message
    return message


def first(key: str, **fields: Any) -> Change:
    """Set fields of the first entry of a list; None deletes a field."""

    def change(content: Json) -> None:
        for field, value in fields.items():
            if value is None:
                del content[key][0][field]
            else:
                content[key][0][field] = value

    return change


def twice(key: str) -> Change:
    return lambda content: content[key].append(content[key][0])


def segment(**fields: Any) -> Change:
    return lambda content: first("segments_info", **fields)(content["annotations"][0])


def test_unchanged_data_set_loads(album: Album) -> None:
    assert len(album.load(*KINDS)) == 3


WRONG_SIZE = compressed(rectangle_mask(7, 0, 0, 5, 5))  # an image of 40 x 30, in one of 32 x 24

CONTENTS: dict[str, tuple[str, Change, list[str]]] = {
    "category": ("instances", first("annotations", category_id=77), ["annotation 1", "id 77"]),
    "mask size": (
        "instances",
        first("annotations", segmentation=WRONG_SIZE),
        ["annotation 1", "image 3", "[30, 40]", "[24, 32]"],
    ),
    "half a mask": (
        "instances",
        first("annotations", segmentation={"counts": "a"}),
        ["annotation 1", "without size"],
    ),
    "id of lists": (
        "instances",
        first("annotations", id=[1]),
        ["has id [1], not a number or text"],
    ),
    "half of a character": ("captions", first("images", file_name="\ud800"), ["not a text"]),
    "category of lists": ("instances", first("annotations", category_id=[]), ["category_id []"]),
    "endless number": (
        "instances",
        first("annotations", bbox=[1, 2, 10**400, 4]),
        ["not 4 numbers"],
    ),
    "crowd": ("instances", first("annotations", iscrowd="yes"), ["iscrowd 'yes', not 0 or 1"]),
    "no size": ("instances", first("images", width=0), ["image 3 has the size 0 x 24"]),
    "endless size": ("instances", first("images", width=2**40), ["image 3 has the size"]),
    "far polygon": (
        "instances",
        first("annotations", segmentation=[[0, 0, 1e9, 0, 1e9, 1e9]]),
        ["annotation 1 has polygons that are not lists of numbers"],
    ),
    "endless polygon": (
        "instances",
        first("annotations", segmentation=[[0, 0, 32, 24, 0, 24] * 5000]),
        ["annotation 1 has an endless outline"],
    ),
    "mask of text": (
        "instances",
        first("annotations", segmentation="x"),
        ["without size or counts"],
    ),
    "runs of text": (
        "instances",
        first("annotations", segmentation={"size": [24, 32], "counts": ["x"]}),
        ["annotation 1 has runs that do not fill its image"],
    ),
    "runs beyond ASCII": (
        "instances",
        first("annotations", segmentation={"size": [24, 32], "counts": "\u0130"}),
        ["annotation 1 has runs that do not fill its image"],
    ),
    "endless runs": (
        "instances",
        first("annotations", segmentation={"size": [24, 32], "counts": "o" * 200_000}),
        ["annotation 1 has runs that do not fill its image"],
    ),
    "segment number": ("panoptic", segment(id=2**24), ["an id that no pixel can have"]),
    "segment area": ("panoptic", segment(area=float("nan")), ["area nan, not a number"]),
    "object of no image": (
        "instances",
        first("annotations", image_id=99),
        ["annotation 1", "image 99"],
    ),
    "caption of no image": ("captions", first("annotations", image_id=99), ["image 99"]),
    "segments of no image": ("panoptic", first("annotations", image_id=99), ["image 99"]),
    "image twice": ("instances", twice("images"), ["image id 3 occurs twice"]),
    "object twice": ("instances", twice("annotations"), ["annotation id 1 occurs twice"]),
    "segments twice": ("panoptic", twice("annotations"), ["image 3 has two annotations"]),
    "no id": ("instances", first("annotations", id=None), ["annotations entry", "no id"]),
    "no bbox": ("instances", first("annotations", bbox=None), ["entry 1", "no bbox"]),
    "short bbox": (
        "instances",
        first("annotations", bbox=[1, 2, 3]),
        ["annotation 1", "[1, 2, 3]"],
    ),
    "no category": (
        "instances",
        first("annotations", category_id=None),
        ["entry 1", "category_id"],
    ),
    "image without id": ("captions", first("images", id=None), ["images entry", "no id"]),
    "image without name": ("captions", first("images", file_name=None), ["entry 7", "file_name"]),
    "no text": ("captions", first("annotations", caption=None), ["entry 0", "no caption"]),
    "text is a number": ("captions", first("annotations", caption=5), ["image 7", "not a string"]),
    "no segments": ("panoptic", first("annotations", segments_info=None), ["segments_info"]),
    "segment without id": ("panoptic", segment(id=None), ["segments_info entry", "no id"]),
    "segment without category": ("panoptic", segment(category_id=None), ["entry 300"]),
    "category of a segment": (
        "panoptic",
        segment(category_id=77),
        ["segment 300 of image 3", "category id 77"],
    ),
    "size differs": (
        "panoptic",
        first("images", height=25),
        ["image 3 has height 25, in another file 24"],
    ),
    "name differs": (
        "panoptic",
        first("images", file_name="000007.jpg"),
        ["image 3", "000003.jpg"],
    ),
    "no list": ("captions", lambda content: content.pop("annotations"), ["no list of annotations"]),
    "no entry": (
        "captions",
        lambda content: content["images"].append(8),
        ["entry 8 is not an object"],
    ),
}


@pytest.mark.parametrize(("kind", "change", "parts"), CONTENTS.values(), ids=CONTENTS)
def test_inconsistency_names_file_and_id(
    album: Album, kind: str, change: Change, parts: list[str]
) -> None:
    with album.changed(kind) as content:
        change(content)
    message = error_message(album)
    assert message.startswith(f"{album.path(kind)}: ")
    for part in parts:
        assert part in message


@pytest.mark.parametrize("folder", ["images", "semantic", "panoptic"])
def test_a_missing_folder(album: Album, folder: str) -> None:
    shutil.rmtree(album.root / folder)
    assert error_message(album) == f"{album.root / folder}: there is no such folder"


@pytest.mark.parametrize("kind", ["instances", "captions", "panoptic"])
def test_a_missing_file(album: Album, kind: str) -> None:
    album.path(kind).unlink()
    assert error_message(album) == f"{album.path(kind)}: No such file or directory"


@pytest.mark.parametrize("kind", ["instances", "captions", "panoptic"])
@pytest.mark.parametrize(
    "content", [b"", b'{"images": [', b'{"images": \n oh', b"\xff\xfe\xfa\x00"]
)
def test_a_broken_file(album: Album, kind: str, content: bytes) -> None:
    album.path(kind).write_bytes(content)
    assert error_message(album).startswith(f"{album.path(kind)}: is not valid JSON (")


def test_file_damaged_after_registration(album: Album) -> None:
    album.register("later", "instances")
    album.path("instances").write_text("{")
    with pytest.raises(DataError, match=r"instances\.json: is not valid JSON") as error:
        DatasetCatalog.get("later")
    assert "\n" not in str(error.value)


def test_a_missing_panoptic_png(album: Album) -> None:
    (album.panoptic / "000003.png").unlink()
    message = error_message(album)
    assert message == f"{album.panoptic}: 000003.png is missing (panoptic.json lists it)"


def test_missing_image_of_unknown_size(album: Album) -> None:
    (album.images / "000007.jpg").write_bytes(b"no image")
    with album.changed("captions") as content:
        del content["images"][0]["width"]
    message = error_message(album, ("captions",))
    assert message.startswith(f"{album.images / '000007.jpg'}: cannot be read")


def test_semantic_maps_of_other_images(album: Album) -> None:
    for number in (3, 12):
        (album.semantic / f"{number:06d}.png").unlink()
    for kinds in (("semantic",), ("captions", "semantic")):
        message = error_message(album, kinds)
        assert message == f"{album.semantic}: has no PNG named like an image of {album.images}"


def test_semantic_map_shared_by_two_images(album: Album) -> None:
    """Two images with the same name in different folders."""
    album.add_image("more/000003.jpg", width=40, height=30, shade=9)
    with album.changed("instances") as content:
        content["images"][1]["file_name"] = "more/000003.jpg"
    message = error_message(album, ("instances", "semantic"))
    assert message == f"{album.semantic / '000003.png'}: has the name of images 3 and 7"


@pytest.mark.parametrize("name", ["03.jpg", "000003.png"])
def test_two_files_with_the_same_id(album: Album, name: str) -> None:
    album.add_image(name, width=32, height=24, shade=9)
    stem = Path(name).stem
    if stem != "000003":
        shutil.copy(album.semantic / "000003.png", album.semantic / f"{stem}.png")
    message = error_message(album, ("semantic",))
    assert "has the same image id 3 as" in message
    assert "000003.jpg" in message


def test_semantic_maps_need_classes(album: Album) -> None:
    message = error_message(album, ("semantic",), sem_seg=None)
    assert "sem_seg_root needs sem_seg, the names of its classes" in message


@pytest.mark.parametrize("missing", ["panoptic_root", "panoptic_json"])
def test_panoptic_files_go_together(album: Album, missing: str) -> None:
    message = error_message(album, ("panoptic",), **{missing: None})
    assert "panoptic_root and panoptic_json go together" in message


def test_skip_missing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "captions.json").write_text(
        '{"images": [{"id": 1, "file_name": "a.jpg", "height": 4, "width": 4}],'
        ' "annotations": [{"id": 1, "image_id": 1, "caption": "a dot"}]}'
    )
    files = CocoFiles(
        tmp_path,
        instances_json=tmp_path / "instances.json",
        captions_json=tmp_path / "captions.json",
        sem_seg_root=tmp_path / "semantic",
        panoptic_root=tmp_path / "panoptic",
        panoptic_json=tmp_path / "panoptic.json",
    )
    tables = {"things": COCO_THINGS, "panoptic": COCO_PANOPTIC}
    with pytest.raises(DataError, match="semantic: there is no such folder"):
        load_coco_multitask(files, **tables)
    (record,) = load_coco_multitask(files, **tables, skip_missing=True)
    assert record["captions"] == ["a dot"]
    assert {"annotations", "sem_seg_file_name", "segments_info"}.isdisjoint(record)
    assert all(name in caplog.text for name in ("instances.json", "semantic", "panoptic.json"))
    (tmp_path / "captions.json").unlink()
    with pytest.raises(DataError, match=r"there is no such folder|No such file"):
        load_coco_multitask(files, **tables, skip_missing=True)


def test_a_data_set_without_annotations(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing: has no annotation files"):
        register_coco_multitask("nothing", tmp_path)


@pytest.mark.parametrize(
    ("keyword", "meant"),
    [
        ("instance_json", "instances_json"),
        ("captions", "captions_json"),
        ("semseg_root", "sem_seg_root"),
        ("skip_mising", "skip_missing"),
    ],
)
def test_misspelt_arguments_are_refused(tmp_path: Path, keyword: str, meant: str) -> None:
    with pytest.raises(DataError, match=f"no argument {keyword}; did you mean {meant}"):
        register_coco_multitask("x", tmp_path, **{keyword: "a"})
    assert "x" not in DatasetCatalog


def test_too_many_semantic_classes(tmp_path: Path) -> None:
    names = [f"class {k}" for k in range(300)]
    with pytest.raises(DataError, match="many: has 300 semantic classes, at most 254 are possible"):
        register_coco_multitask("many", tmp_path, sem_seg_root=tmp_path, sem_seg=names)
