"""Bad data: one line that names the file and, in text files, the line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog

from yolor_d2.data.formats.recognize import FORMATS, recognize
from yolor_d2.data.formats.registration import register_own_data
from yolor_d2.data.formats.source import OwnData
from yolor_d2.data.formats.split import with_validation
from yolor_d2.errors import DataError

from .conftest import Make
from .samples import coco_content

YOLO = "labels/train/1.txt"
BAD_FILES = {
    "yolo word": ("yolo", YOLO, "0 0.5 0.5 0.1 0.1\n1 0.5 x 0.1 0.1\n", "1.txt, line 2: '1 0.5"),
    "yolo class": ("yolo", YOLO, "7 0.5 0.5 0.1 0.1\n", "line 1: class 7 is not in the 2 names"),
    "yolo class nan": ("yolo", YOLO, "nan 0.5 0.5 0.1 0.1\n", "line 1: class nan is not an int"),
    "yolo pixels": ("yolo", YOLO, "\n1 16 12 4 4\n", "line 2: has a coordinate that is not betw"),
    "yolo count": ("yolo", YOLO, "1 0.5 0.5 0.1\n", "line 1: has 3 numbers after the class"),
    "yolo nan": ("yolo", YOLO, "1 0.5 0.5 0.1 nan\n", "line 1: has a coordinate that is not"),
    "yolo yaml": ("yolo", "data.yaml", "names: [a\ntrain: 3", "data.yaml, line 2: is not valid Y"),
    "yolo names": ("yolo", "data.yaml", "names: {1: a}\ntrain: images", "the keys of names"),
    "yolo nc": ("yolo", "data.yaml", "nc: 3\nnames: [a]\ntrain: images", "nc is 3, but there are"),
    "yolo train": ("yolo", "data.yaml", "names: [a]\ntrain: nowhere", "train names nowhere, whi"),
    "yolo aliases": (
        "yolo",
        "data.yaml",
        "a: &a [x, x]\nb: &b [*a, *a]\nnames: [*b]\ntrain: images",
        "names has a class that is not a text",
    ),
    "yolo mixed keys": ("yolo", "data.yaml", "names: {0: a, b: c}\ntrain: images", "the keys of"),
    "yolo date": ("yolo", "data.yaml", "names: [a]\ntrain: 2001-99-99", "is not valid YAML"),
    "yolo deep": ("yolo", "data.yaml", "names: " + "[" * 20_000, "is not valid YAML"),
    "yolo no list": (
        "yolo",
        "data.yaml",
        "names: [a]\ntrain: {a: 1}",
        "train is {'a': 1}, not the",
    ),
    "yolo no train": ("yolo", "data.yaml", "names: [a]", "has no train, the folder of images"),
    "voc xml": ("voc", "Annotations/1.xml", "<annotation>\n<object>", "1.xml, line 2: is not val"),
    "voc name": ("voc", "Annotations/1.xml", "<a><object/></a>", "1.xml: object 1 has no name"),
    "voc box": (
        "voc",
        "Annotations/1.xml",
        "<a><object><name>a</name><bndbox><xmin>1</xmin></bndbox></object></a>",
        "1.xml: object 1 has no bndbox of numbers",
    ),
    "labelme json": ("labelme", "1.json", "{", "1.json: is not valid JSON"),
    "labelme shapes": ("labelme", "1.json", "{}", "1.json: has no list of shapes"),
    "labelme label": ("labelme", "1.json", '{"shapes": [{}]}', "1.json: shape 1 has no label"),
    "labelme kind": (
        "labelme",
        "1.json",
        '{"shapes": [{"label": "a", "shape_type": [], "points": [[1, 2], [3, 4], [5, 6]]}, {}]}',
        "1.json: shape 2 has no label",
    ),
    "labelme far": (
        "labelme",
        "1.json",
        '{"shapes": [{"label": "a", "group_id": [], "points": [[1, 2], [3, 4], [1e300, 6]]}]}',
        "object 1 of its labels has a coordinate beyond 10,000,000 pixels",
    ),
    "labelme endless number": (
        "labelme",
        "1.json",
        f'{{"shapes": [{{"label": "a", "points": [[1, 1{"0" * 400}]]}}]}}',
        "1.json: shape 1 has points that are not pairs of numbers",
    ),
    "labelme line": (
        "labelme",
        "1.json",
        '{"shapes": [{"label": "a", "shape_type": "line", "points": [[1, 2], [3, 4]]}]}',
        "1.json: shape 1 is a line of 2 points",
    ),
    "csv number": (
        "box_csv",
        "boxes.csv",
        "filename,class,xmin,ymin,xmax,ymax\n1.png,a,1,1,4,4\n2.png,a,1,1,x,4\n",
        "boxes.csv, line 3: xmin, ymin, xmax, ymax are 1, 1, x, 4, not numbers",
    ),
    "csv fields": (
        "box_csv",
        "boxes.csv",
        "filename,class,xmin,ymin,xmax,ymax\n1.png,a,1\n",
        "boxes.csv, line 2: has 3 fields, not 6",
    ),
    "csv box": (
        "box_csv",
        "boxes.csv",
        "filename,class,xmin,ymin,xmax,ymax\n1.png,a,9,1,4,4\n",
        "boxes.csv, line 2: has an empty box: 9, 1, 4, 4",
    ),
    "csv long field": (
        "box_csv",
        "boxes.csv",
        f"filename,class,xmin,ymin,xmax,ymax\n1.png,{'a' * 200_000},1,1,4,4\n",
        "boxes.csv, line 2: is not CSV",
    ),
    "captions deep": (
        "caption_lines",
        "metadata.jsonl",
        "[" * 100_000,
        "line 1: is not valid JSON",
    ),
    "captions json": ("caption_lines", "metadata.jsonl", "\n{\n", "jsonl, line 2: is not valid"),
    "captions text": (
        "caption_lines",
        "metadata.jsonl",
        '{"file_name": "1.png"}\n',
        "metadata.jsonl, line 1: has no text, caption or captions",
    ),
    "maps png": ("semantic_png", "masks/1.png", "no png", "masks/1.png: is not a PNG file"),
    "maps classes": ("semantic_png", "classes.txt", "a\na\n", "does not list 1 to 254 different"),
    "maps labels": ("semantic_png", "classes.txt", "a\nb\n", "png: has label 2, of 2 classes"),
    "coco deep": (
        "coco_export",
        "train/_annotations.coco.json",
        '{"images": ' + "[" * 100_000,
        "nested too deeply",
    ),
    "coco color": (
        "coco_export",
        "train/_annotations.coco.json",
        json.dumps(coco_content() | {"categories": [{"id": 1, "name": "a", "color": "red"}]}),
        "category 1 has a color that is not 3 numbers",
    ),
    "coco name": (
        "coco_export",
        "train/_annotations.coco.json",
        json.dumps(coco_content() | {"categories": [{"id": "x", "name": ["a"]}]}),
        "a category has the id 'x' and the name ['a'], not a number and a text",
    ),
    "coco json": ("coco_export", "train/_annotations.coco.json", "{", "is not valid JSON"),
}


@pytest.mark.parametrize(("name", "file", "content", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_files(name: str, file: str, content: str, message: str, make: Make) -> None:
    root = make(name)
    (root / file).write_text(content)
    with pytest.raises(DataError) as error:
        register_own_data(str(root), truth_folder=Path("truth"))
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert str(root.absolute()) in str(error.value)
    assert not Path("truth").exists()
    assert "own_train" not in DatasetCatalog.list()


def test_unknown_data_list_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError) as error:
        recognize(tmp_path)
    for each in FORMATS:
        assert each.looks_for in str(error.value)
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        recognize(tmp_path / "nowhere")


def test_ambiguous_data(make: Make) -> None:
    root = make("box_csv")
    (root / "labels.json").write_text(json.dumps(coco_content()))
    with pytest.raises(DataError, match=r"can be read as COCO JSON .* and as CSV .*; name the fil"):
        recognize(root)
    assert recognize(root / "boxes.csv").format == "CSV"


def damage(archive: Path) -> None:
    data = bytearray(archive.read_bytes())
    data[60:160] = bytes(100)
    archive.write_bytes(data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_bytes(b"PK"), "cannot be read as a zip archive"),
        (damage, "cannot be read from the archive"),
    ],
)
def test_damaged_archives(change: Callable[[Path], None], message: str, make: Make) -> None:
    root = make("coco_zip")
    change(root / "annotations_trainval2017.zip")
    with pytest.raises(DataError, match=message):
        register_own_data(str(root))


def test_categories_must_be_the_same(make: Make) -> None:
    root = make("coco_export")
    file = root / "valid/_annotations.coco.json"
    content = json.loads(file.read_text())
    content["categories"].reverse()
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"valid/.*: its categories differ from those of .*train/"):
        register_own_data(str(root))


def test_one_image_cannot_be_split(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has one image with labels, training needs at least 2"):
        with_validation(OwnData(root=tmp_path, parts={"train": [{"file_name": "1.png"}]}))


def test_data_without_a_training_part(make: Make) -> None:
    root = make("voc")
    (root / "ImageSets/Main/train.txt").unlink()
    with pytest.raises(DataError, match="has no labeled images to train on"):
        register_own_data(str(root))


def test_names_that_fit_two_images(make: Make) -> None:
    root = make("voc")
    (root / "other").mkdir()
    (root / "JPEGImages/1.png").rename(root / "other/2.png")
    with pytest.raises(DataError, match=r"2\.xml: has the name of .*/2\.png and of .*/2\.png"):
        register_own_data(str(root))
