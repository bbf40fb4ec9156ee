"""Semantic PNGs from the official files: which class covers which, resuming, and errors."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_util
from pycocotools.coco import COCO

from yolor_d2.data.catalog.categories import COCO_LEAVES, COCO_PANOPTIC
from yolor_d2.data.files.semantic_files import read_index_png, write_index_png

SCRIPT = Path(__file__).parents[3] / "datasets/prepare_coco_semantic.py"
PERSON, TOOTHBRUSH, BANNER, WOOD, OTHER = 1, 90, 92, 182, 183
SIZE = (12, 16)


def prepare(*argv: object) -> None:
    spec = importlib.util.spec_from_file_location("script", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.main([str(arg) for arg in argv])


def leaf(category_id: int) -> int:
    return COCO_LEAVES.id_to_index[category_id]


def columns(start: int, stop: int) -> list[list[float]]:
    """Return a polygon over whole columns."""
    return [[start, 0, stop, 0, stop, SIZE[0], start, SIZE[0]]]


def rle(start: int, stop: int, size: tuple[int, int] = SIZE) -> dict:
    mask = np.zeros(size, np.uint8, order="F")
    mask[:, start:stop] = 1
    encoded = mask_util.encode(mask)
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def raw_rle(start: int, stop: int) -> dict:
    height, width = SIZE
    return {
        "size": list(SIZE),
        "counts": [start * height, (stop - start) * height, (width - stop) * height],
    }


def write_coco(path: Path, regions: list[tuple], *, images: int = 1) -> Path:
    content = {
        "images": [
            {"id": number, "file_name": f"{number:012}.jpg", "height": SIZE[0], "width": SIZE[1]}
            for number in range(7, 7 + images)
        ],
        "annotations": [
            {"id": 50 + number, "image_id": 7, "category_id": category_id, "segmentation": shape}
            for number, (category_id, shape) in enumerate(regions)
        ],
    }
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def stuff_json(tmp_path):
    regions = [(WOOD, rle(0, 8)), (BANNER, rle(6, 12)), (OTHER, rle(8, 14))]
    return write_coco(tmp_path / "stuff.json", regions)


@pytest.fixture
def instances_json(tmp_path):
    regions = [(PERSON, columns(2, 4)), (TOOTHBRUSH, columns(3, 5)), (TOOTHBRUSH, raw_rle(13, 15))]
    return write_coco(tmp_path / "instances.json", regions)


def first_row(folder: Path) -> list[int]:
    labels = read_index_png(folder / "000000000007.png")
    assert labels.shape == SIZE
    assert (labels == labels[0]).all()
    return labels[0].tolist()


def test_things_over_stuff_and_lower_ids_over_higher(tmp_path, stuff_json, instances_json):
    sources = ("--stuff-json", stuff_json, "--instances-json", instances_json)
    prepare(*sources, "--output", tmp_path / "out", "--workers", 1)
    expected = [WOOD] * 2 + [PERSON] * 2 + [TOOTHBRUSH] + [WOOD] + [BANNER] * 6 + [None]
    expected += [TOOTHBRUSH] * 2 + [None]
    assert first_row(tmp_path / "out") == [255 if i is None else leaf(i) for i in expected]


def test_single_json(tmp_path, stuff_json, instances_json):
    prepare("--stuff-json", stuff_json, "--output", tmp_path / "stuff", "--workers", 1)
    prepare("--instances-json", instances_json, "--output", tmp_path / "things", "--workers", 1)
    stuff, things = first_row(tmp_path / "stuff"), first_row(tmp_path / "things")
    assert stuff == [leaf(WOOD)] * 6 + [leaf(BANNER)] * 6 + [255] * 4
    assert set(things) == {0, 79, 255}
    description = json.loads((tmp_path / "stuff/categories.json").read_text())
    assert description["made_from"] == {"stuff_json": "stuff.json"}
    assert description["categories"][170] == {"index": 170, "id": 182, "name": "wood"}


def test_stuffthingmaps(tmp_path):
    folder = tmp_path / "val2017"
    folder.mkdir()
    values = np.array([[0, 89, 91, 181, 182, 255]], np.uint8)
    Image.fromarray(values).save(folder / "a.png")
    prepare("--stuffthingmaps", folder, "--output", tmp_path / "out", "--workers", 1)
    assert read_index_png(tmp_path / "out/a.png").tolist() == [[0, 79, 80, 170, 255, 255]]


def test_panoptic(tmp_path, capsys):
    segments = np.array([[0, 7, 7, 300, 70_000]], np.uint32)
    colors = np.stack([segments % 256, segments // 256 % 256, segments // 65536], axis=-1)
    Image.fromarray(colors.astype(np.uint8)).save(tmp_path / "a.png")
    content = {
        "images": [{"id": 3, "file_name": "a.jpg", "height": 1, "width": 5}],
        "annotations": [
            {
                "image_id": 3,
                "file_name": "a.png",
                "segments_info": [
                    {"id": 7, "category_id": PERSON},
                    {"id": 300, "category_id": BANNER},
                    {"id": 70_000, "category_id": 200},
                ],
            }
        ],
    }
    path = tmp_path / "panoptic.json"
    path.write_text(json.dumps(content))
    sources = ("--panoptic-json", path, "--panoptic-dir", tmp_path)
    output = tmp_path / "semantic_panoptic"
    prepare(*sources, "--output", output, "--workers", 1)
    assert "133 classes" in capsys.readouterr().out
    assert read_index_png(output / "a.png").tolist() == [[255, 0, 0, 80, 132]]
    assert len(json.loads((output / "categories.json").read_text())["categories"]) == 133

    content["annotations"][0]["segments_info"].pop()
    path.write_text(json.dumps(content))
    (output / "a.png").unlink()
    with pytest.raises(SystemExit, match="1 images failed"):
        prepare(*sources, "--output", output, "--workers", 1)
    assert "a.png: segment 70000 is not listed" in capsys.readouterr().err


def test_an_interrupted_run_is_continued(tmp_path, capsys):
    source = write_coco(tmp_path / "i.json", [(PERSON, columns(0, 4))], images=5)
    argv = ("--instances-json", source, "--output", tmp_path / "out", "--workers", 1)
    prepare(*argv)
    paths = sorted((tmp_path / "out").glob("*.png"))
    before = [path.read_bytes() for path in paths]
    paths[0].unlink()
    unfinished = paths[1].with_name(f".{paths[1].name}.1.tmp")  # of a killed process
    unfinished.write_bytes(before[1][:30])
    paths[1].write_bytes(before[1][:-5])
    write_index_png(paths[2], np.zeros((4, 4), np.uint8))
    kept = paths[3].stat().st_mtime_ns
    prepare(*argv)
    assert "5 of 5 images have their PNG of 171 classes" in capsys.readouterr().out
    assert [path.read_bytes() for path in paths] == before
    assert paths[3].stat().st_mtime_ns == kept
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {path.name for path in [*paths, unfinished]} | {"categories.json"}


def test_two_sources_are_not_mixed(tmp_path, stuff_json, instances_json):
    prepare("--stuff-json", stuff_json, "--output", tmp_path / "out", "--workers", 1)
    with pytest.raises(SystemExit, match="made from another source"):
        prepare("--instances-json", instances_json, "--output", tmp_path / "out", "--workers", 1)
    write_index_png(tmp_path / "a.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(SystemExit, match=r"has PNG files but no categories\.json"):
        prepare("--stuffthingmaps", tmp_path, "--output", tmp_path, "--workers", 1)


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ((12, columns(0, 4)), r"i\.json: annotation 50: unknown category id 12"),
        ((PERSON, rle(0, 4, size=(5, 6))), r"i\.json: annotation 50: mask is \(5, 6\), its image"),
        ((PERSON, {"counts": "x"}), r"i\.json: annotation 50: invalid segmentation"),
        (
            (PERSON, rle(0, 4, size=(50, 60)) | {"size": SIZE}),
            "annotation 50: invalid segmentation",
        ),
        ((PERSON, []), r"i\.json: annotation 50: invalid segmentation"),
        ((PERSON, [[1, 2, 3, 4]]), r"i\.json: annotation 50: invalid segmentation"),
        ((PERSON, [1, 2, 3, 4, 5, 6]), r"i\.json: annotation 50: invalid segmentation"),
    ],
)
def test_wrong_annotations_are_named(tmp_path, capsys, region, message):
    source = write_coco(tmp_path / "i.json", [region], images=2)
    with pytest.raises(SystemExit) as caught:
        prepare("--instances-json", source, "--output", tmp_path / "out", "--workers", 1)
    captured = capsys.readouterr()
    text = f"{captured.err}\n{caught.value}"
    lines = [line for line in text.splitlines() if "annotation 50" in line]
    assert len(lines) == 1
    assert re.search(message, lines[0])
    if "unknown category" not in message:
        assert "1 of 2 images" in captured.out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "has no list of images"),
        ("{}", "has no list of images"),
        ('{"images": []}', "has no list of annotations"),
        (
            '{"images": [{"id": 4, "file_name": "a.jpg", "height": 2}]}',
            "images entry 4 has no width",
        ),
        (
            '{"images": [], "annotations": [{"id": 5, "image_id": 9, "category_id": 1, '
            '"segmentation": []}]}',
            "annotation 5: there is no image 9",
        ),
        (None, "No such file"),
    ],
)
def test_wrong_json_is_named(tmp_path, content, message):
    path = tmp_path / "i.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SystemExit, match=rf"^error: \S*i\.json: [^\n]*{message}[^\n]*$"):
        prepare("--instances-json", path, "--output", tmp_path / "out", "--workers", 1)


def test_wrong_maps_are_named(tmp_path, capsys):
    with pytest.raises(SystemExit, match="has no PNG files"):
        prepare("--stuffthingmaps", tmp_path / "nowhere", "--output", tmp_path / "out")
    folder = tmp_path / "maps"
    folder.mkdir()
    Image.fromarray(np.full((3, 3), 11, np.uint8)).save(folder / "gap.png")
    Image.fromarray(np.full((3, 3), 10, np.uint8)).save(folder / "good.png")
    (folder / "cut.png").write_bytes((folder / "good.png").read_bytes()[:40])
    with pytest.raises(SystemExit, match="2 images failed"):
        prepare("--stuffthingmaps", folder, "--output", tmp_path / "out", "--workers", 1)
    captured = capsys.readouterr()
    assert "1 of 3 images" in captured.out
    assert "gap.png: pixel value 11 is not a category" in captured.err
    assert "cut.png: is truncated" in captured.err


@pytest.mark.parametrize(
    "argv",
    [
        ["--output", "semantic"],
        ["--output", "semantic", "--stuff-json", "s", "--stuffthingmaps", "m"],
        ["--output", "semantic_panoptic", "--panoptic-json", "p"],
        ["--output", "semantic", "--panoptic-json", "p", "--panoptic-dir", "d"],
        ["--output", "semantic_panoptic", "--stuff-json", "s"],
    ],
)
def test_wrong_arguments(argv):
    with pytest.raises(SystemExit) as caught:
        prepare(*argv)
    assert caught.value.code == 2


def test_the_command_with_two_processes(tmp_path, stuff_json):
    source = write_coco(tmp_path / "many.json", [(PERSON, columns(0, 4))], images=40)
    command = [sys.executable, SCRIPT, "--stuff-json", stuff_json, "--instances-json", source]
    command += ["--output", tmp_path / "out", "--workers", "2"]
    environment = os.environ | {"PYTHONPATH": str(SCRIPT.parents[1])}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "40 of 40 images have their PNG of 171 classes" in result.stdout
    assert len(list((tmp_path / "out").glob("*.png"))) == 40
    assert first_row(tmp_path / "out")[:5] == [0, 0, 0, 0, leaf(WOOD)]


def test_real_instances(tmp_path, shared_dir):
    path = shared_dir / "data/coco-mini/annotations/instances_val2017.json"
    prepare("--instances-json", path, "--output", tmp_path / "out", "--workers", 1)
    coco = COCO(path)
    assert len(list((tmp_path / "out").glob("*.png"))) == len(coco.imgs)
    for image in list(coco.imgs.values())[:20]:
        found = read_index_png(tmp_path / "out" / Path(image["file_name"]).with_suffix(".png").name)
        layers = np.zeros((81, *found.shape), bool)
        layers[80] = True
        for annotation in coco.imgToAnns[image["id"]]:
            layers[leaf(annotation["category_id"])] |= coco.annToMask(annotation).astype(bool)
        expected = layers.argmax(axis=0)  # the first of the stack, as the reference does
        assert np.array_equal(found, np.where(expected == 80, 255, expected))


def test_real_panoptic_sample(tmp_path, shared_dir):
    folder = shared_dir / "data/coco-panoptic-sample"
    path, output = folder / "panoptic_examples.json", tmp_path / "semantic_panoptic"
    sources = ("--panoptic-json", path, "--panoptic-dir", folder / "panoptic_examples")
    prepare(*sources, "--output", output, "--workers", 1)
    for annotation in json.loads(path.read_text())["annotations"]:
        labels = read_index_png(output / annotation["file_name"])
        colors = cv2.imread(str(folder / "panoptic_examples" / annotation["file_name"]))
        ids = colors.astype(np.int64) @ [65536, 256, 1]
        for segment in annotation["segments_info"]:
            index = COCO_PANOPTIC.id_to_index[segment["category_id"]]
            assert (labels[ids == segment["id"]] == index).all()
            assert (ids == segment["id"]).sum() == segment["area"]
        assert (labels[ids == 0] == 255).all()
