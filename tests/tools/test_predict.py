"""Output files and error messages of `predict`."""

import json
import os
import re
import zipfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from yolor_d2.errors import ImageError, OptionError, OutputError, PackageError, line_of
from yolor_d2.files import shorten_name
from yolor_d2.inference import output as output_module
from yolor_d2.tools import predict

from ..saved_networks import Saved


@pytest.fixture
def run(saved: Saved, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs `predict` in this process; returns exit code, output and error lines."""

    def run(*inputs: Path | str, options: tuple[str, ...] = ()) -> tuple[int, str, list[str]]:
        paths = ["--input", *map(str, inputs), "--output", str(tmp_path / "out")]
        code = predict.main(["--weights", str(saved.path), "--device", "cpu", *options, *paths])
        out, err = capsys.readouterr()
        return code, out, err.strip().splitlines()

    return run


def lines(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "out/predictions.jsonl").open()]


def write_video(path: Path, images: list[Path], *, fps: float) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (160, 120))
    for image in images:
        writer.write(cv2.imread(str(image)))
    writer.release()


def read_video(path: Path) -> tuple[list[np.ndarray], float]:
    capture, frames = cv2.VideoCapture(str(path)), []
    while (frame := capture.read())[0]:
        frames.append(frame[1])
    return frames, capture.get(cv2.CAP_PROP_FPS)


def test_a_folder(saved: Saved, tmp_path: Path, run: Any) -> None:
    code, out, err = run(saved.images[0].parent)
    assert (code, err) == (0, [])
    *printed, last = out.splitlines()
    assert re.fullmatch(rf"6 predictions are in {tmp_path / 'out'}, \d+ ms an image", last)
    found = lines(tmp_path)
    for line, text in zip(found, printed, strict=True):
        first = Counter(thing["category_name"] for thing in line["instances"]).most_common(1)
        ((name, number),) = first
        assert text.startswith(f"{line['file_name']}: {number} {name}")
        assert re.search(rf'; "{re.escape(line["caption"])}"; \d+ ms$', text)
    assert [line["file_name"] for line in found] == [str(path) for path in saved.images]
    for line in found:
        picture = cv2.imread(str(tmp_path / "out" / line["picture"]))
        image = cv2.imread(line["file_name"])
        assert picture.shape[0] > 120 * picture.shape[1] / 160  # the caption is below
        height = 120 * picture.shape[1] // 160
        resized = cv2.resize(image, (picture.shape[1], height))
        assert np.abs(resized.astype(int) - picture[:height]).mean() > 5
        assert line["caption"]
        assert line["instances"]
        for thing in line["instances"]:
            assert coco_mask.decode(thing["segmentation"]).shape == (120, 160)


def test_equal_names_and_a_broken_file(saved: Saved, tmp_path: Path, run: Any) -> None:
    """Pictures of equal names get numbers; a broken file is skipped with one line."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.jpg").write_bytes(saved.images[0].read_bytes())
    (tmp_path / "one/a.png").write_text("broken")
    code, out, err = run(tmp_path / "one", tmp_path / "nothing.avi", tmp_path / "two/x.jpg")
    assert code == 1
    assert [line.partition(": ")[0] for line in out.splitlines()[:2]] == [
        str(tmp_path / "one/x.jpg"),
        str(tmp_path / "two/x.jpg"),
    ]
    assert out.splitlines()[2].startswith(f"2 predictions are in {tmp_path / 'out'}, ")
    assert err == [
        f"yolor-d2 predict: {tmp_path / 'nothing.avi'}: No such file or directory [IMAGE]",
        f"yolor-d2 predict: {tmp_path / 'one/a.png'}: is not an image [IMAGE]",
        f"yolor-d2 predict: {line_of(ImageError('2 of the inputs could not be read'))}",
    ]
    assert [line["picture"] for line in lines(tmp_path)] == ["x.jpg", "x_2.jpg"]
    assert (tmp_path / "one/x.jpg").read_bytes() == saved.images[0].read_bytes()


def test_odd_names_and_sizes(saved: Saved, tmp_path: Path, run: Any) -> None:
    """Unusual inputs do not affect others."""
    image = saved.images[0].read_bytes()
    odd = ["a #b%20?.jpg", "\udcff.jpg"]
    for name in odd:
        (tmp_path / name).write_bytes(image)
    cv2.imwrite(str(tmp_path / "wide.png"), np.zeros((2, 66_000, 3), np.uint8))
    names = [*odd, "wide.png", "x" * 300]
    code, out, err = run(*(tmp_path / name for name in names))
    assert "/\\udcff.jpg: " in out
    expected = f"yolor-d2 predict: {tmp_path / names[-1]}: File name too long [IMAGE]"
    assert (code, err[0]) == (1, expected)
    found = lines(tmp_path)
    assert [line["picture"] for line in found] == ["a_#b%20?.jpg", "\udcff.jpg", "wide.png"]
    assert cv2.imread(str(tmp_path / "out/wide.png")).shape[1] == 66_000


def test_names_in_labels_do_not_lead_out_of_the_output(
    saved: Saved, tmp_path: Path, run: Any
) -> None:
    """Labels can name any image of the machine; only the output folder is written."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "elsewhere").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "elsewhere" / name).write_bytes(saved.images[0].read_bytes())
    (tmp_path / "photos/boxes.csv").write_text(
        "filename,class,xmin,ymin,xmax,ymax\n"
        f"../elsewhere/a.jpg,x,1,1,9,9\n{tmp_path}/elsewhere/b.jpg,x,1,1,9,9\n"
    )
    before = sorted(path for path in tmp_path.rglob("*"))
    assert run(tmp_path / "photos/boxes.csv")[0] == 0
    written = set(tmp_path.rglob("*")) - set(before)
    assert {path.name for path in written} == {"out", "a.jpg", "b.jpg", "predictions.jsonl"}
    assert all(path.is_relative_to(tmp_path / "out") for path in written)
    for name in ("a.jpg", "b.jpg"):
        assert (tmp_path / "elsewhere" / name).read_bytes() == saved.images[0].read_bytes()


def test_a_video(saved: Saved, tmp_path: Path, run: Any) -> None:
    write_video(tmp_path / "film.avi", saved.images[:3], fps=5)
    code, out, err = run(tmp_path / "film.avi")
    assert (code, err) == (0, [])
    about, last = out.splitlines()
    assert re.fullmatch(rf"{tmp_path / 'film.avi'}: 3 frames; \d+ ms a frame", about)
    assert last.startswith(f"3 predictions are in {tmp_path / 'out'}, ")
    found = lines(tmp_path)
    assert [(line["frame"], line["picture"]) for line in found] == [
        (number, "film.mp4") for number in range(3)
    ]
    frames, fps = read_video(tmp_path / "out/film.mp4")
    assert (len(frames), fps) == (3, 5)
    assert frames[0].shape[0] > 120
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["film.mp4", "predictions.jsonl"]


def test_labeled_data_and_zip_files(saved: Saved, tmp_path: Path, run: Any) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.write(saved.images[0], "inside/a.jpg")
    data = tmp_path / "data"
    (data / "images/train").mkdir(parents=True)
    (data / "labels/train").mkdir(parents=True)
    (data / "images/train/b.jpg").write_bytes(saved.images[1].read_bytes())
    (data / "labels/train/b.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    (data / "data.yaml").write_text("train: images/train\nnames: [ball]\n")
    code, _, err = run(tmp_path / "photos.zip", data)
    assert (code, err) == (0, [])
    assert [(line["file_name"], line["picture"]) for line in lines(tmp_path)] == [
        (str(tmp_path / "photos.zip/inside/a.jpg"), "a.jpg"),
        (str(data / "images/train/b.jpg"), "b.jpg"),
    ]


def test_a_video_of_a_live_source_repeats_skipped_frames(tmp_path: Path) -> None:
    shades = {0: 40, 3: 120, 4: 200}  # frames 1 and 2 were skipped
    with output_module.Video(tmp_path, lambda source, suffix: f"film{suffix}", fps=5) as video:
        for number, shade in shades.items():
            prediction: Any = SimpleNamespace(source="camera 0", frame=number, caption=None)
            name = video.add(prediction, np.full((48, 64, 3), shade, np.uint8))
    frames, _ = read_video(tmp_path / name)
    means = [frame.mean() for frame in frames]
    assert means == pytest.approx([40, 120, 120, 120, 200], abs=8)


def test_some_tasks_and_keys(saved: Saved, tmp_path: Path, run: Any) -> None:
    paths = ["--weights", str(saved.path), "--input", str(saved.images[0])]
    where = ["--tasks", "detection", "--output", str(tmp_path / "out")]
    keys = ["TEST.DETECTIONS_PER_IMAGE", "2"]
    assert predict.main([*paths, "--device", "cpu", *where, *keys]) == 0
    (line,) = lines(tmp_path)
    assert len(line["instances"]) == 2
    assert not {"caption", "sem_seg", "segments_info"} & line.keys()


def test_layers(saved: Saved, tmp_path: Path, run: Any) -> None:
    drawn = ()
    for layers in (("caption",), ("masks",), ("semantic",)):
        assert run(saved.images[0], options=("--layers", *layers))[0] == 0
        drawn += (cv2.imread(str(tmp_path / "out" / lines(tmp_path)[0]["picture"])),)
    plain, *others = drawn
    for other in others:
        height = min(plain.shape[0], other.shape[0])
        assert np.abs(plain[:height].astype(int) - other[:height]).mean() > 5


def test_all_layers_are_drawn_by_default(saved: Saved, tmp_path: Path, run: Any) -> None:
    drawn = []
    for layers in ((), ("panoptic", "masks", "boxes", "labels", "caption"), ("panoptic",)):
        options = ("--layers", *layers) if layers else ()
        assert run(saved.images[0], options=options)[0] == 0
        drawn.append((tmp_path / "out" / lines(tmp_path)[0]["picture"]).read_bytes())
    default, everything, panoptic = drawn
    assert default == everything != panoptic


def test_layers_of_missing_tasks_are_refused(saved: Saved, run: Any) -> None:
    options = ("--layers", "masks", "boxes", "semantic", "--tasks", "detection")
    message = "layers masks, semantic: not predicted by this network; its layers are boxes, labels"
    expected = f"yolor-d2 predict: {line_of(OptionError(message))}"
    assert run(saved.images[0], options=options) == (2, "", [expected])


def test_opacity(saved: Saved, tmp_path: Path, run: Any) -> None:
    drawn = []
    for opacity in ("0", "1"):
        options = ("--layers", "semantic", "--opacity", opacity)
        assert run(saved.images[0], options=options)[0] == 0
        drawn.append(cv2.imread(str(tmp_path / "out" / lines(tmp_path)[0]["picture"])))
    clear, opaque = drawn
    assert np.abs(clear.astype(int) - opaque).mean() > 5


def test_without_a_codec(
    saved: Saved, tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(tmp_path / "film.avi", saved.images[:1], fps=5)
    monkeypatch.setattr(output_module, "VIDEO_FORMATS", ((".mp4", "WXYZ"), (".avi", "MJPG")))
    assert run(tmp_path / "film.avi")[0] == 0
    assert len(read_video(tmp_path / "out/film.avi")[0]) == 1
    monkeypatch.setattr(output_module, "VIDEO_FORMATS", ((".mp4", "WXYZ"),))
    code, _, err = run(tmp_path / "film.avi")
    error = PackageError(f"{tmp_path / 'out'}: this OpenCV build has no codec to write videos")
    assert (code, err) == (2, [f"yolor-d2 predict: {line_of(error)}"])


def test_inputs_are_never_overwritten(saved: Saved, tmp_path: Path, run: Any) -> None:
    out = tmp_path / "out"
    out.mkdir()
    image = saved.images[0].read_bytes()
    (out / "x.jpg").write_bytes(image)
    for source in (out, out / "x.jpg"):
        code, _, err = run(source)
        error = OutputError(f"{out}: contains {source}; choose another output folder")
        assert (code, err) == (2, [f"yolor-d2 predict: {line_of(error)}"])
    (tmp_path / "in").mkdir()
    (tmp_path / "in/x.jpg").write_bytes(image)
    (out / "x.jpg").unlink()
    (out / "x.jpg").symlink_to(tmp_path / "in/x.jpg")
    assert run(tmp_path / "in")[0] == 0
    assert (tmp_path / "in/x.jpg").read_bytes() == image
    assert (out / "x.jpg").is_symlink()
    assert [line["picture"] for line in lines(tmp_path)] == ["x_2.jpg"]


def test_earlier_pictures_are_removed_and_other_files_kept(
    saved: Saved, tmp_path: Path, run: Any
) -> None:
    out = tmp_path / "out"
    write_video(tmp_path / "film.avi", saved.images[:1], fps=5)
    assert run(tmp_path / "film.avi", *saved.images[:3])[0] == 0
    names = [path.name for path in saved.images[:3]]
    assert {path.name for path in out.iterdir()} == {*names, "film.mp4", "predictions.jsonl"}
    (out / "notes.jpg").write_text("mine")
    (out / names[1]).write_text("changed")
    later = (out / "predictions.jsonl").stat().st_mtime + 1
    os.utime(out / names[1], (later, later))
    assert run(*saved.images[1:2])[0] == 0
    (line,) = lines(tmp_path)
    new = f"{saved.images[1].stem}_2.jpg"
    assert line["picture"] == new
    kept = {names[1], "notes.jpg"}
    assert {path.name for path in out.iterdir()} == {*kept, new, "predictions.jsonl"}
    assert (out / names[1]).read_text() == "changed"


def test_earlier_results_are_kept_if_there_are_no_new_ones(
    saved: Saved, tmp_path: Path, run: Any
) -> None:
    assert run(saved.images[0])[0] == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert run(saved.images[1], options=("--opacity", "5"))[0] == 2
    assert run(tmp_path / "tpyo.png")[0] == 1
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_the_longest_names(saved: Saved, tmp_path: Path, run: Any) -> None:
    for name in ("a" * 251 + ".jpg", "a" * 250 + "b.jpg"):
        (tmp_path / name).write_bytes(saved.images[0].read_bytes())
    assert run(tmp_path / ("a" * 251 + ".jpg"), tmp_path / ("a" * 250 + "b.jpg"))[0] == 0
    assert [line["picture"] for line in lines(tmp_path)] == [
        "a" * 200 + ".jpg",
        "a" * 200 + "_2.jpg",
    ]


def test_shortened_names_have_whole_characters() -> None:
    assert shorten_name("a.jpg") == "a.jpg"
    assert shorten_name("x" + "\u00fc" * 120) == "x" + "\u00fc" * 99  # two bytes each


def test_wrong_weights_are_one_line(saved: Saved, tmp_path: Path, run: Any) -> None:
    (tmp_path / "text.pth").write_text("no weights")
    for name in ("text.pth", "nothing.pth"):
        options = ("--weights", str(tmp_path / name))
        code, _, err = run(saved.images[0], options=options)
        assert (code, len(err)) == (2, 1)
        assert err[0].startswith(f"yolor-d2 predict: {tmp_path / name}: ")
