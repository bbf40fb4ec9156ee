"""Layouts of labeling tools and of other machines: each image is found and has its own labels."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from yolor_d2.data.formats.recognize import recognize
from yolor_d2.data.formats.registration import register_own_data
from yolor_d2.data.formats.source import OwnData
from yolor_d2.errors import DataError

from .conftest import Make
from .samples import (
    HEIGHT,
    NAMES,
    WIDTH,
    box_of,
    class_of,
    coco_content,
    draw,
    images,
    labelme_content,
    voc_text,
    write,
    yolo_line,
)


def read(path: str | Path) -> OwnData:
    source = recognize(Path(path).absolute())
    return source.read(source.path)


def check_objects(data: OwnData, *, count: int) -> None:
    """Each image has the box and the class that are drawn in it."""
    records = data.records()
    assert len(records) == count
    assert data.things is not None
    for record in records:
        number = int(Path(record["file_name"]).stem)
        (annotation,) = record["annotations"]
        assert annotation["bbox"] == pytest.approx(box_of(number))
        assert data.things.names[annotation["category_id"]] == NAMES[class_of(number)]


def cvat(root: Path) -> None:
    images(root / "images/default")
    write(root / "annotations/instances_default.json", coco_content())


def coco_parts_in_capitals(root: Path) -> None:
    for part, numbers in (("Train", range(6)), ("Validation", range(6, 8))):
        images(root / "images" / part, numbers)
        write(root / f"annotations/instances_{part}.json", coco_content(numbers))


def coco_beside(root: Path) -> None:
    """File names lead out of the folder of the annotations."""
    images(root / "pictures")
    content = coco_content()
    for image in content["images"]:
        image["file_name"] = f"../pictures/{image['file_name']}"
    write(root / "annotations/labels.json", content)


def coco_of_windows(root: Path) -> None:
    images(root / "images/sub")
    content = coco_content()
    for image in content["images"]:
        image["file_name"] = f"images\\sub\\{image['file_name']}"
    write(root / "result.json", content)


def coco_jfif(root: Path) -> None:
    for name in images(root, suffix="jpg"):
        (root / name).rename(root / Path(name).with_suffix(".jfif"))
    write(root / "labels.json", coco_content(suffix="jfif"))


def voc_subfolders(root: Path) -> None:
    """Numbers occur in both folders, with other labels."""
    for folder, numbers in (("front", range(4)), ("back", range(4, 8))):
        images(root / "images" / folder, numbers)
        for n in numbers:
            write(root / f"annotations/{folder}/{n}.xml", voc_text(n))
    write(root / "annotations/front/7.xml", voc_text(0))  # its image was deleted


def voc_2012(root: Path) -> None:
    """The photo and its maps have one stem."""
    images(root / "JPEGImages", suffix="jpg")
    for folder in ("SegmentationClass", "SegmentationObject"):
        images(root / folder)
    for n in range(8):
        named = f"<annotation><filename>{n}.jpg</filename>"
        write(root / f"Annotations/{n}.xml", voc_text(n).replace("<annotation>", named))
    numbers = "".join(f"{n}\n" for n in range(8))
    write(root / "ImageSets/Main/train.txt", numbers)


def voc_parts_of_images(root: Path) -> None:
    for part, numbers in (("train", range(6)), ("val", range(6, 8))):
        images(root / "images" / part, numbers)
        for n in numbers:
            write(root / f"labels/{n}.xml", voc_text(n))


def voc_lists_of_subfolders(root: Path) -> None:
    for n in range(8):
        draw(root / f"JPEGImages/cam/{n}.png", n)
        write(root / f"Annotations/cam/{n}.xml", voc_text(n))
    write(root / "ImageSets/Main/train.txt", "".join(f"cam/{n}\n" for n in range(6)))
    write(root / "ImageSets/Main/val.txt", "cam/6\ncam/7\n")


def labelme_with_maps(root: Path) -> None:
    """A map has the name of the photo."""
    images(root, suffix="jpg")
    images(root)
    for n in range(8):
        write(root / f"{n}.json", labelme_content(n) | {"imagePath": f"{n}.jpg"})


def labelme_other_names(root: Path) -> None:
    images(root / "images")
    for n in range(8):
        write(root / f"labels/label_{n}.json", labelme_content(n) | {"imagePath": f"..\\{n}.png"})


def yolo_without_other_parts(root: Path) -> None:
    images(root / "train/images")
    for n in range(8):
        write(root / f"train/labels/{n}.txt", yolo_line(n, polygon=False))
    parts = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n"
    write(root / "data.yaml", f"{parts}nc: 2\nnames: ['ball', 'box']\n")


def yolo_pose(root: Path) -> None:
    images(root / "images")
    for n in range(8):
        line = yolo_line(n, polygon=False).rstrip()
        write(root / f"labels/{n}.txt", f"{line} 0.1 0.2 2 0.3 0.4 1\n")
    write(root / "data.yaml", "train: images\nkpt_shape: [2, 3]\nnames: [ball, box]\n")


def yolo_of_windows(root: Path) -> None:
    images(root / "images/all")
    for n in range(8):
        write(root / f"labels/all/{n}.txt", yolo_line(n, polygon=False))
    write(root / "train.txt", "".join(f".\\images\\all\\{n}.png\r\n" for n in range(7)))
    write(root / "val.txt", "images\\all\\7.png\n")
    write(root / "data.yaml", "train: train.txt\nval: val.txt\nnames: [ball, box]\n")


def csv_with_sizes_of_images(root: Path) -> None:
    images(root)
    lines = ["filename,width,height,class,x,y,w,h\n"]
    for n in range(8):
        box = ",".join(map(str, box_of(n)))
        lines.append(f"{n}.png,{WIDTH},{HEIGHT},{NAMES[class_of(n)]},{box}\n")
    write(root / "boxes.csv", "".join(lines))


def links(root: Path) -> None:
    """A linked folder, which has a link to itself."""
    images(root.parent / "elsewhere")
    (root.parent / "elsewhere/again").symlink_to(root.parent.absolute() / "elsewhere")
    root.mkdir()
    (root / "photos").symlink_to(root.parent.absolute() / "elsewhere")
    (root / "same").symlink_to(root.absolute())
    for n in range(8):
        write(root / f"labels/{n}.xml", voc_text(n))


LAYOUTS: list[Callable[[Path], None]] = [
    *(cvat, coco_parts_in_capitals, coco_beside, coco_of_windows, coco_jfif),
    *(voc_subfolders, voc_2012, voc_parts_of_images, voc_lists_of_subfolders),
    *(labelme_with_maps, labelme_other_names),
    *(yolo_without_other_parts, yolo_pose, yolo_of_windows),
    *(csv_with_sizes_of_images, links),
]
WITH_PARTS = (coco_parts_in_capitals, voc_parts_of_images, voc_lists_of_subfolders)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_layouts(layout: Callable[[Path], None], tmp_path: Path) -> None:
    root = tmp_path / "data"
    layout(root)
    data = read(root)
    check_objects(data, count=8)
    assert len(data.missing) == (1 if layout is voc_subfolders else 0)
    assert not data.unlabeled or layout in (voc_2012, labelme_with_maps)
    if layout in WITH_PARTS:
        assert (len(data.parts["train"]), len(data.parts["val"])) == (6, 2)


def test_objects_of_boxes_with_keypoints_have_no_outlines(tmp_path: Path) -> None:
    yolo_pose(tmp_path)
    assert all("segmentation" not in r["annotations"][0] for r in read(tmp_path).records())
    write(tmp_path / "labels/3.txt", "0 0.5 0.5 0.1 0.1 0.1 0.2 2\n")
    with pytest.raises(DataError, match=r"3\.txt, line 1: has 7 numbers after .* 6 of kpt_shape"):
        read(tmp_path)
    write(tmp_path / "data.yaml", "train: images\nkpt_shape: many\nnames: [ball, box]\n")
    with pytest.raises(DataError, match=r"kpt_shape is 'many', not a list of numbers"):
        read(tmp_path)


def test_parts_that_do_not_exist_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    yolo_without_other_parts(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert list(read(tmp_path).parts) == ["train"]
    assert "data.yaml: val names ../valid/images, which does not exist" in caplog.text


def test_classes_are_texts(make: Make) -> None:
    root = make("yolo")
    for names in ("[yes, 010]", "{0: yes, 1: 010}"):
        write(root / "data.yaml", f"train: images/train\nval: images/val\nnames: {names}\n")
        things = read(root).things
        assert things is not None
        assert things.names == ("yes", "010")


def test_tables_of_parts(make: Make) -> None:
    root = make("box_csv")
    header, *lines = (root / "boxes.csv").read_text().splitlines(keepends=True)
    (root / "boxes.csv").unlink()
    for name, part in (("train_labels", lines[:5]), ("val_labels", lines[5:6])):
        write(root / f"{name}.csv", header + "".join(part))
    write(root / "test.csv", header + "".join(lines[6:]))
    parts = {part: len(records) for part, records in read(root).parts.items()}
    assert parts == {"train": 5, "val": 1, "test": 2}
    for name in ("train_labels", "val_labels"):
        (root / f"{name}.csv").unlink()
    assert len(read(root).parts["train"]) == 2  # a single table is all there is


def test_boxes_in_fractions_are_refused(make: Make) -> None:
    root = make("box_csv")
    write(root / "boxes.csv", "filename,class,x,y,w,h\n1.png,ball,0.1,0.1,0.5,1\n")
    with pytest.raises(DataError, match=r"boxes\.csv: has boxes in fractions of the image"):
        read(root)


def test_validation_and_test_parts_alone(tmp_path: Path) -> None:
    for part, numbers in (("valid", range(3)), ("test", range(3, 8))):
        images(tmp_path / part, numbers)
        write(tmp_path / part / "_annotations.coco.json", coco_content(numbers))
    data = read(tmp_path)
    assert {part: len(records) for part, records in data.parts.items()} == {"val": 3, "test": 5}
    with pytest.raises(DataError, match="no labeled images to train on"):
        register_own_data(str(tmp_path))
    shutil.rmtree(tmp_path / "test")
    assert list(read(tmp_path).parts) == ["train"]


def test_lines_end_only_at_line_breaks(make: Make) -> None:
    root = make("caption_lines")
    texts = ["a ball\u2028on a table", "a box\u0085"]
    lines = [
        json.dumps({"file_name": f"{n}.png", "text": text}, ensure_ascii=False)
        for n, text in enumerate(texts)
    ]
    (root / "metadata.jsonl").write_text("\r\n".join(lines), encoding="utf-8")
    assert [record["captions"] for record in read(root).records()] == [[text] for text in texts]


def test_absolute_names(make: Make, tmp_path: Path) -> None:
    root = make("caption_lines")
    draw(tmp_path / "other/train/1.png", 1)
    line = {"file_name": str(tmp_path / "other/train/1.png"), "text": "a box"}
    write(root / "metadata.jsonl", json.dumps(line))
    (record,) = read(root).records()
    assert record["file_name"] == line["file_name"]


@pytest.mark.parametrize("name", ["yolo", "voc", "labelme", "caption_lines"])
def test_images_that_cannot_be_read_are_listed(name: str, make: Make) -> None:
    root = make(name)
    next(root.rglob("2.png")).write_text("no image")
    data = read(root)
    assert len(data.records()) == 7
    (missing,) = data.missing
    assert "2.png: cannot be read as an image" in missing
    for image in root.rglob("*.png"):
        image.write_text("no image")
    with pytest.raises(DataError, match=r"no image has labels; .*0\.png: cannot be read"):
        read(root)


def test_empty_outlines_are_none(make: Make) -> None:
    root = make("coco_json")
    content = coco_content()
    for annotation in content["annotations"]:
        annotation["segmentation"] = [[]]
    write(root / "labels.json", content)
    data = read(root)
    check_objects(data, count=8)
    assert all("segmentation" not in r["annotations"][0] for r in data.records())


def test_images_of_two_parts_in_one_folder_are_counted_once(tmp_path: Path) -> None:
    images(tmp_path / "images", range(8))
    for part, numbers in (("train", range(5)), ("val", range(5, 7))):
        write(tmp_path / f"annotations/instances_{part}.json", coco_content(numbers))
    assert read(tmp_path).unlabeled == 1


def test_encodings_of_xml(make: Make) -> None:
    root = make("voc")
    text = voc_text(0).replace("ball", "b\xe4ll")
    declared = f'<?xml version="1.0" encoding="iso-8859-1"?>\n{text}'
    (root / "Annotations/0.xml").write_bytes(declared.encode("latin-1"))
    things = read(root).things
    assert things is not None
    assert "b\xe4ll" in things.names
    unknown = declared.replace("iso-8859-1", "gb2312")
    (root / "Annotations/0.xml").write_bytes(unknown.encode("latin-1"))
    with pytest.raises(DataError, match=r"0\.xml.*encoding"):
        read(root)
