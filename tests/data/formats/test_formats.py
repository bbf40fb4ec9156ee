"""Every format: recognized, read, split, registered."""

from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from yolor_d2.data.checks.dataset import ProblemList, check_dataset
from yolor_d2.data.formats.recognize import recognize
from yolor_d2.data.formats.registration import register_own_data
from yolor_d2.data.formats.summary import labeled_tasks, summary
from yolor_d2.data.views.targets import read_objects

from .conftest import Make
from .samples import NAMES, WRITERS, box_of, class_of, total_bytes

OBJECTS = ("coco_json", "coco_export", "coco_folders", "coco_zip", "yolo", "yolo_polygons", "voc")
OBJECTS = (*OBJECTS, "labelme", "box_csv")
OUTLINES = ("coco_json", "coco_export", "coco_folders", "coco_zip", "yolo_polygons", "labelme")


def all_records(root: Path) -> list[dict]:
    return register_own_data(str(root)).data.records()


@pytest.mark.parametrize("name", WRITERS)
def test_five_lines(name: str, make: Make) -> None:
    root = make(name)
    assert total_bytes(root) < 50_000
    lines = summary(register_own_data(str(root)))
    assert len(lines) == 5
    assert lines[0].endswith(name)
    assert "for validation" in lines[1]


@pytest.mark.parametrize("name", OBJECTS)
def test_objects(name: str, make: Make) -> None:
    records = all_records(make(name))
    assert sorted(int(Path(r["file_name"]).stem) for r in records) == list(range(8))
    metadata = MetadataCatalog.get("own_train")
    assert metadata.thing_classes == list(NAMES)
    for record in records:
        number = int(Path(record["file_name"]).stem)
        (annotation,) = record["annotations"]
        assert annotation["bbox"] == pytest.approx(box_of(number))
        assert annotation["category_id"] == class_of(number)
        assert ("segmentation" in annotation) == (name in OUTLINES)
        assert (record["width"], record["height"]) == (32, 24)
        assert len(read_objects(record).classes) == 1
    ids = [a["id"] for record in records for a in record["annotations"]]
    assert len(set(ids)) == 8


@pytest.mark.parametrize("name", WRITERS)
def test_data_have_no_problems(name: str, make: Make) -> None:
    """check-data opens every file."""
    found = register_own_data(str(make(name)))
    for part in found.data.parts:
        problems = ProblemList()
        check_dataset(f"own_{part}", problems)
        assert not problems.counts


@pytest.mark.parametrize(
    ("name", "tasks"),
    [
        ("coco_zip", ["detection", "mask", "caption"]),
        ("yolo", ["detection"]),
        ("labelme", ["detection", "mask"]),
        ("caption_lines", ["caption"]),
        ("semantic_png", ["semantic"]),
    ],
)
def test_tasks(name: str, tasks: list[str], make: Make) -> None:
    assert labeled_tasks(all_records(make(name))) == tasks


def test_captions_and_maps(make: Make) -> None:
    for record in all_records(make("caption_lines")):
        number = int(Path(record["file_name"]).stem)
        assert record["captions"] == [f"a {NAMES[class_of(number)]}"]
    for record in all_records(make("semantic_png")):
        assert Path(record["sem_seg_file_name"]).name == Path(record["file_name"]).name
    assert MetadataCatalog.get("own_val").stuff_classes == ["background", "ball", "box"]


def test_split_depends_only_on_names(make: Make) -> None:
    root = make("labelme")
    before = register_own_data(str(root))
    assert before.is_split
    val = {Path(r["file_name"]).name for r in before.data.parts["val"]}
    assert len(val) >= 1
    root.rename("moved")
    after = register_own_data("moved")
    assert {Path(r["file_name"]).name for r in after.data.parts["val"]} == val
    assert DatasetCatalog.get("own_val") == after.data.parts["val"]


def test_parent_category_of_exports_is_no_class(make: Make) -> None:
    data = recognize(make("coco_export").absolute())
    things = data.read(data.path).things
    assert things is not None
    assert (things.names, things.ids) == (NAMES, (10, 20))


def test_unlabeled_images_and_missing_images_are_counted(make: Make) -> None:
    root = make("yolo")
    (root / "labels/train/1.txt").unlink()
    (root / "images/train/2.png").unlink()
    (root / "labels/train/3.txt").write_text("")
    found = register_own_data(str(root))
    assert summary(found)[1].endswith(
        "; images without labels: 1; labels without an image: 1 "
        f"({root.absolute()}/labels/train/2.txt)"
    )
    empty = [r for r in found.data.parts["train"] if not r["annotations"]]
    assert [Path(r["file_name"]).name for r in empty] == ["3.png"]


@pytest.mark.parametrize("name", ["coco_json", "voc", "labelme", "box_csv", "caption_lines"])
def test_missing_images_in_other_formats(name: str, make: Make) -> None:
    root = make(name)
    next(root.rglob("2.png")).unlink()
    next(root.rglob("3.png")).rename(root / "unlabeled.png")
    found = register_own_data(str(root))
    assert len(found.data.records()) == 6
    assert len(found.data.missing) == 2
    assert found.data.unlabeled == (0 if name == "coco_json" else 1)


def test_truth_for_evaluators(make: Make, tmp_path: Path) -> None:
    register_own_data(str(make("coco_folders")), truth_folder=tmp_path / "truth")
    metadata = MetadataCatalog.get("own_val")
    assert Path(metadata.json_file).is_file()
    assert Path(metadata.captions_json).is_file()
    assert sorted(path.name for path in (tmp_path / "truth").iterdir()) == [
        "val_captions.json",
        "val_instances.json",
    ]


YAMLS = {
    "path": "path: {root}\ntrain: images/train\nval: images/val\nnames: {{0: ball, 1: box}}\n",
    "exported": "train: ../images/train\nval: ../images/val\nnc: 2\nnames: ['ball', 'box']\n",
    "other machine": "path: /nowhere\ntrain: images/train\nval: [images/val]\nnames: [ball, box]\n",
    "lists": "train: train.txt\nval: val.txt\nnames: [ball, box]\n",
    "one folder": "train: images\nnames: [ball, box]\n",
}


@pytest.mark.parametrize("content", YAMLS.values(), ids=YAMLS)
def test_paths_of_yolo(content: str, make: Make) -> None:
    root = make("yolo")
    (root / "data.yaml").write_text(content.format(root=root.absolute()))
    for part, numbers in (("train", range(6)), ("val", range(6, 8))):
        names = [f"./images/{part}/{n}.png\n" for n in numbers]
        (root / f"{part}.txt").write_text("".join(names))
    found = register_own_data(str(root))
    assert len(found.data.records()) == 8
    assert found.is_split == ("val" not in content)


def test_files_of_a_folder_can_be_named(make: Make) -> None:
    for name, file in (
        ("coco_json", "labels.json"),
        ("yolo", "data.yaml"),
        ("box_csv", "boxes.csv"),
        ("caption_lines", "metadata.jsonl"),
    ):
        found = register_own_data(str(make(name) / file))
        assert len(found.data.records()) == 8
