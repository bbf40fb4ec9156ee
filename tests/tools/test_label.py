"""The data sets that `label` writes, and its error messages."""

import itertools
import json
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from yolor_d2 import Predictor
from yolor_d2.data.catalog.records import read_records
from yolor_d2.data.files.panoptic_maps import read_segment_ids
from yolor_d2.data.files.semantic_files import read_index_png
from yolor_d2.data.formats.registration import register_own_data
from yolor_d2.data.formats.summary import labeled_tasks, summary
from yolor_d2.data.views.mapper import MultiTaskMapper, known_targets
from yolor_d2.errors import ImageError, OptionError, OutputError, UserError, line_of
from yolor_d2.inference import labeling
from yolor_d2.tools import check_data, label

from ..data.coco_files import restored_catalogs
from ..saved_networks import Saved

Run = Callable[..., tuple[int, list[str], list[str]]]


BOXES = ("--tasks", "detection")


def arguments(saved: Saved, output: Path, *words: Path | str) -> list[str]:
    """Arguments of `label`: words are images, then flags."""
    images = list(itertools.takewhile(lambda word: not str(word).startswith("--"), words))
    where = ("--weights", saved.path, "--device", "cpu", "--output", output)
    return [*map(str, (*images, *where, "--pixel-threshold", "0.1", *words[len(images) :]))]


@pytest.fixture(scope="module")
def labeled(saved: Saved, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The labels of six images."""
    output = tmp_path_factory.mktemp("labeled") / "data"
    assert label.main(arguments(saved, output, saved.images[0].parent)) == 0
    return output


@pytest.fixture
def run(saved: Saved, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `label` in this process; returns exit code, lines and error lines."""

    def run(*words: Path | str) -> tuple[int, list[str], list[str]]:
        capsys.readouterr()
        code = label.main(arguments(saved, tmp_path / "data", *words))
        out, err = capsys.readouterr()
        return code, out.splitlines(), err.splitlines()

    return run


@pytest.fixture
def catalogs() -> Iterator[None]:
    with restored_catalogs():
        yield


def read(data: Path, kind: str) -> Any:
    return json.loads((data / f"annotations/{kind}_train.json").read_text())


def test_lines_and_summary(saved: Saved, tmp_path: Path, run: Run) -> None:
    code, out, err = run(saved.images[0], saved.images[5])
    assert (code, err) == (0, [])
    content = read(tmp_path / "data", "instances")
    sure = [a for a in content["annotations"] if not a["iscrowd"]]
    unsure = len(content["annotations"]) - len(sure)
    assert unsure
    assert re.fullmatch(rf'{saved.images[5]}: 1 \w+; "[\w ]+"; 11 unsure; \d+ ms', out[1])
    assert re.fullmatch(rf"2 labeled images are in {tmp_path / 'data'}, \d+ ms an image", out[2])
    names = {c["id"]: c["name"] for c in content["categories"]}
    counts = Counter(names[a["category_id"]] for a in sure)
    assert out[3].startswith(f"objects: {len(sure)} (")
    assert set(re.findall(r"(\w+) (\d+)", out[3].partition("(")[2].partition(")")[0])) == {
        (name, str(count)) for name, count in counts.items()
    }
    assert out[3].endswith(f"), {unsure} unsure; images without objects: 0")
    assert re.fullmatch(r"semantic maps: 2, \d+ % of the pixels unsure", out[4])
    data = tmp_path / "data"
    assert out[5:] == [f"yolor-d2 check-data {data}", f"yolor-d2 train --data {data}"]


def test_labels_are_the_predictions(saved: Saved, labeled: Path) -> None:
    predictor = Predictor(saved.path, device="cpu")  # the threshold is that of unsure objects
    content, captions = read(labeled, "instances"), read(labeled, "captions")
    for image, path in zip(content["images"], saved.images, strict=True):
        expected = predictor(str(path)).to_json()
        assert (labeled / "train" / image["file_name"]).read_bytes() == path.read_bytes()
        found = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        for entry, thing in zip(found, expected["instances"], strict=True):
            assert entry["category_id"] == thing["category_id"]
            assert entry["segmentation"] == thing["segmentation"]
            assert entry["score"] == pytest.approx(thing["score"], abs=1e-5)
            assert entry["iscrowd"] == (thing["score"] < 0.5)
            assert entry["area"] == coco_mask.area(thing["segmentation"])
            assert entry["bbox"] == coco_mask.toBbox(thing["segmentation"]).tolist()
        texts = [c["caption"] for c in captions["annotations"] if c["image_id"] == image["id"]]
        assert texts == [expected["caption"]]
    ids = [annotation["id"] for annotation in content["annotations"]]
    assert ids == list(range(1, len(ids) + 1))


def test_classes_have_the_ids_and_colors_of_the_network(saved: Saved, labeled: Path) -> None:
    metadata = Predictor(saved.path, device="cpu").metadata
    for kind, table in (
        ("thing", read(labeled, "instances")["categories"]),
        ("panoptic", read(labeled, "panoptic")["categories"]),
        (
            "stuff",
            json.loads((labeled / "annotations/semantic_train/categories.json").read_text())[
                "categories"
            ],
        ),
    ):
        to_index = metadata.get(f"{kind}_dataset_id_to_contiguous_id")
        assert [entry["name"] for entry in table] == metadata.get(f"{kind}_classes")
        assert [to_index[entry["id"]] for entry in table] == list(range(len(table)))
        assert [entry["color"] for entry in table] == [
            list(color) for color in metadata.get(f"{kind}_colors")
        ]


def test_data_are_read_with_all_tasks(labeled: Path, catalogs: None) -> None:
    """By the reader of `train --data`, with classes, crowds and maps."""
    found = register_own_data(str(labeled))
    assert summary(found)[0] == f"data:    COCO, {labeled}"
    assert labeled_tasks(found.data.records()) == ["detection", "mask", "semantic", "caption"]
    content = read(labeled, "instances")
    records = found.data.records()
    assert sum(len(r["annotations"]) for r in records) == len(content["annotations"])
    crowds = sum(a["iscrowd"] for r in records for a in r["annotations"])
    assert crowds == sum(a["iscrowd"] for a in content["annotations"]) > 0
    assert all(len(r["captions"]) == 1 for r in records)
    assert all({"sem_seg_file_name", "pan_seg_file_name"} <= r.keys() for r in records)
    metadata = MetadataCatalog.get("own_train")
    assert metadata.thing_classes == [c["name"] for c in content["categories"]]
    assert metadata.panoptic_classes == metadata.stuff_classes


def test_check_data_finds_no_problem(
    labeled: Path, catalogs: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check_data.main([str(labeled), "--workers", "0"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert "own_train: OK" in out
    assert "own_val: OK" in out
    for task in ("objects", "captions", "semantic", "panoptic"):
        (count,) = {line.split()[1] for line in out if line.startswith(f"{task} ")} - {"1"}
        assert count == "5"


def test_training_has_no_target_for_unsure_objects(labeled: Path, catalogs: None) -> None:
    register_own_data(str(labeled))
    records = [*DatasetCatalog.get("own_train"), *DatasetCatalog.get("own_val")]
    (record,) = (r for r in records if sum(a["iscrowd"] for a in r["annotations"]) > 2)
    sure = [a for a in record["annotations"] if not a["iscrowd"]]
    assert known_targets(record) == {"detection", "mask", "semantic", "caption"}
    mapper = MultiTaskMapper(
        is_train=True, tasks=("detection", "mask"), weak_view_tasks=("detection", "mask")
    )
    instances = mapper(record)["weak_instances"]
    assert instances.gt_classes.tolist() == [a["category_id"] for a in sure]
    assert len(instances.gt_masks) == len(sure)


def test_pycocotools_ignores_unsure_objects(labeled: Path) -> None:
    """Predictions on unsure objects are no false positives, and these need not be found."""
    coco = COCO(str(labeled / "annotations/instances_train.json"))
    assert len(coco.getImgIds()) == 6
    entries = coco.loadAnns(coco.getAnnIds())
    assert all(coco.annToMask(entry).sum() == entry["area"] for entry in entries)
    keys = ("image_id", "category_id", "score", "segmentation")
    for chosen in (entries, [e for e in entries if not e["iscrowd"]]):
        results = [{key: entry[key] for key in keys} for entry in chosen]
        evaluation = COCOeval(coco, coco.loadRes(results), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        assert evaluation.stats[0] == pytest.approx(1)


def test_panoptic_files_have_cocos_layout(labeled: Path) -> None:
    content = read(labeled, "panoptic")
    names = {image["id"]: image["file_name"] for image in content["images"]}
    categories = {entry["id"]: entry for entry in content["categories"]}
    assert {entry["isthing"] for entry in content["categories"]} == {0, 1}
    unsure = 0
    for entry in content["annotations"]:
        assert Path(entry["file_name"]).stem == Path(names[entry["image_id"]]).stem
        ids = read_segment_ids(str(labeled / "annotations/panoptic_train" / entry["file_name"]))
        labels = read_index_png(labeled / "annotations/semantic_train" / entry["file_name"])
        areas = {segment["id"]: segment["area"] for segment in entry["segments_info"]}
        found, counts = np.unique(ids[ids > 0], return_counts=True)
        assert areas == dict(zip(found.tolist(), counts.tolist(), strict=True))
        for segment in entry["segments_info"]:
            rows, columns = np.nonzero(ids == segment["id"])
            x, y, width, height = segment["bbox"]
            assert (x, y) == (columns.min(), rows.min())
            assert (x + width - 1, y + height - 1) == (columns.max(), rows.max())
            if not categories[segment["category_id"]]["isthing"]:
                assert (labels[ids == segment["id"]] != 255).all()
            unsure += segment["iscrowd"]
    assert not unsure  # the network's own threshold of panoptic things is 0.5


def test_unsure_pixels_are_255(saved: Saved, labeled: Path, tmp_path: Path, run: Run) -> None:
    labels = read_index_png(labeled / "annotations/semantic_train/000001.png")
    assert 0 < np.count_nonzero(labels == 255) < labels.size
    assert run(saved.images[0], "--pixel-threshold", "0", "--tasks", "semantic")[0] == 0
    everything = read_index_png(tmp_path / "data/annotations/semantic_train/000001.png")
    assert 255 not in everything
    sure = labels != 255
    assert (labels[sure] == everything[sure]).all()
    expected = Predictor(saved.path, device="cpu")(str(saved.images[0])).sem_seg.labels
    assert (everything == expected.numpy()).all()


def line(error: UserError) -> str:
    """What the command prints."""
    return f"yolor-d2 label: {line_of(error)}"


def test_labels_in_a_folder_are_only_overwritten_on_demand(
    saved: Saved, tmp_path: Path, run: Run
) -> None:
    data = tmp_path / "data"
    assert run(saved.images[0], *BOXES)[0] == 0
    assert read(data, "instances")["categories"][0]["name"] == "ball"
    message = f"{data}: has annotations; choose another folder, or --overwrite it"
    assert run(saved.images[1]) == (2, [], [line(OutputError(message))])
    (data / "notes.txt").write_text("mine")
    assert run(saved.images[1], "--overwrite", "--tasks", "caption")[0] == 0
    files = sorted(str(p.relative_to(data)) for p in data.rglob("*") if p.is_file())
    assert files == [
        *("annotations/captions_train.json", "annotations/labels.json", "notes.txt"),
        "train/000002.jpg",
    ]
    (data / "annotations/labels.json").unlink()
    message = f"{data}: its annotations are not from yolor-d2 label; choose another"
    assert run(saved.images[0], "--overwrite") == (2, [], [line(OutputError(message))])


def test_interrupted_runs_write_nothing(
    saved: Saved, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    assert run(saved.images[0], *BOXES)[0] == 0
    before = sorted(data.rglob("*"))
    write, written = labeling.write_json, []

    def interrupted(path: Path, content: Any, **options: Any) -> None:
        written.append(path)
        if len(written) == 2:
            raise KeyboardInterrupt
        write(path, content, **options)

    monkeypatch.setattr(labeling, "write_json", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(saved.images[1], "--overwrite", "--tasks", "detection", "caption")
    assert sorted(data.rglob("*")) == before
    assert read(data, "instances")["images"][0]["file_name"] == "000001.jpg"


def test_a_broken_image_is_reported_once(saved: Saved, tmp_path: Path, run: Run) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.png").write_text("broken")
    (tmp_path / "photos/b.jpg").write_bytes(saved.images[0].read_bytes())
    code, _, err = run(tmp_path / "photos", tmp_path / "missing.jpg", *BOXES)
    assert (code, err) == (
        1,
        [
            f"yolor-d2 label: {tmp_path / 'photos/a.png'}: is not an image [IMAGE]",
            f"yolor-d2 label: {tmp_path / 'missing.jpg'}: No such file or directory [IMAGE]",
            line(ImageError("2 of the images could not be read")),
        ],
    )
    assert [i["file_name"] for i in read(tmp_path / "data", "instances")["images"]] == ["b.jpg"]


def test_nothing_is_written_without_a_readable_image(tmp_path: Path, run: Run) -> None:
    code, out, err = run(tmp_path / "missing.jpg", *BOXES)
    assert (code, out, len(err)) == (1, [], 2)
    assert not (tmp_path / "data").exists()


def test_names_and_formats_of_images(
    saved: Saved, tmp_path: Path, run: Run, catalogs: None
) -> None:
    """Maps have the stems of their images, which are therefore unique; archives are unpacked."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.jpg").write_bytes(saved.images[0].read_bytes())
    pixels = cv2.imread(str(saved.images[1]))
    cv2.imwrite(str(tmp_path / "two/X.png"), pixels)
    cv2.imwrite(str(tmp_path / "two/y.ppm"), pixels)
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.write(saved.images[2], "inside/a.jpg")
    inputs = (tmp_path / "one", tmp_path / "two", tmp_path / "photos.zip")
    assert run(*inputs, "--tasks", "detection", "semantic")[0] == 0
    data = tmp_path / "data"
    names = [image["file_name"] for image in read(data, "instances")["images"]]
    assert names == ["x.jpg", "X_2.png", "x_3.jpg", "y.png", "a.jpg"]
    assert (data / "train/a.jpg").read_bytes() == saved.images[2].read_bytes()
    assert (cv2.imread(str(data / "train/y.png")) == pixels).all()
    register_own_data(str(data))
    records = [*read_records("own_train"), *read_records("own_val")]
    assert all(Path(r["sem_seg_file_name"]).stem == Path(r["file_name"]).stem for r in records)
    assert len(records) == 5


def test_linked_images(saved: Saved, tmp_path: Path, run: Run, catalogs: None) -> None:
    assert run(saved.images[0], saved.images[1], "--link", "--tasks", "semantic")[0] == 0
    path = tmp_path / "data/train/000001.jpg"
    assert path.is_symlink()
    assert path.resolve() == saved.images[0].resolve()
    found = register_own_data(str(tmp_path / "data"))
    assert labeled_tasks(found.data.records()) == ["semantic"]
    assert len(found.data.records()) == 2


@pytest.mark.parametrize("name", ["film.mp4", "0", "rtsp://camera/1"])
def test_videos_and_cameras_are_refused(name: str, run: Run) -> None:
    message = f"{name}: only images, folders and zip files can be labeled"
    assert run(name) == (2, [], [line(OptionError(message))])


def test_the_output_must_not_contain_the_images(saved: Saved, tmp_path: Path, run: Run) -> None:
    (tmp_path / "data/photos").mkdir(parents=True)
    path = tmp_path / "data/photos/a.jpg"
    path.write_bytes(saved.images[0].read_bytes())
    for name in (path, path.parent, tmp_path / "data"):
        message = f"{tmp_path / 'data'}: contains {name}; choose another output folder"
        assert run(name) == (2, [], [line(OutputError(message))])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ("--unsure-threshold", "0.6"),
            "--unsure-threshold 0.6 must be between 0 and --score-threshold 0.5, and that at most "
            "1",
        ),
        (
            ("--pixel-threshold", "1.5"),
            "--pixel-threshold must be between 0 and 1, not 1.5",
        ),
    ],
)
def test_wrong_thresholds(saved: Saved, run: Run, flags: tuple[str, ...], message: str) -> None:
    assert run(saved.images[0], *flags) == (2, [], [line(OptionError(message))])


def test_advice_without_sure_objects(saved: Saved, tmp_path: Path, run: Run) -> None:
    flags = (*BOXES, "--score-threshold", "1", "--opts", "INPUT.TEST_SIZE", "64")
    code, out, _ = run(saved.images[0], *flags)
    assert code == 0
    assert out[2].startswith("objects: 0 (none), ")
    assert out[3] == "no object has a score of 1.0: lower --score-threshold"
    assert all(a["iscrowd"] for a in read(tmp_path / "data", "instances")["annotations"])
