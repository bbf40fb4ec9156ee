"""The page of errors: a heading for each family, and examples that programs really print."""

import errno
import json
import os
import pickle
import re
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from unittest.mock import MagicMock, Mock, patch

import pytest
import torch
from PIL import Image

import yolor_d2_cli
from yolor_d2.checkpoint.run_folder import RunFolder
from yolor_d2.checkpoint.saving import save_checkpoint
from yolor_d2.checkpoint.weights import read_weights
from yolor_d2.data.checks import dataset as checks
from yolor_d2.engine.options import YacsRunOptions
from yolor_d2.engine.step import TrainStep
from yolor_d2.engine.teacher import check_fit
from yolor_d2.errors import FAMILIES, PAGE, WebError
from yolor_d2.export import bundle
from yolor_d2.export.runner.runner_graphs import open_graph
from yolor_d2.files import write_text
from yolor_d2.inference.labeling import check_output
from yolor_d2.inference.media import open_media, raise_error
from yolor_d2.tokenizer import Tokenizer
from yolor_d2.tools import completion
from yolor_d2.tools.errors import one_line_errors
from yolor_d2.web.prediction_queue import PredictionQueue
from yolor_d2.web.uploads import read_upload

from .documents import FENCED, ROOT
from .test_links import prose

TOY = "toy/yolor_elan_n_toy.yaml"
BOXES = "filename,class,xmin,ymin,xmax,ymax\na.jpg,cat,10,10,20,20\n"
REPORT = "output/nonfinite_0000007.json"

Example = Callable[[], object]
EXAMPLES: dict[str, list[Example]] = {}


def of(code: str) -> Callable[[Example], Example]:
    """Decorate a function that fails with the next example of a family, in an empty folder."""
    return lambda call: EXAMPLES.setdefault(code, []).append(call) or call


def run(*arguments: str) -> int:
    return yolor_d2_cli.main(arguments)


@of("CONFIG")
def refused_value() -> object:
    Path("mine.yaml").write_text(f"_BASE_: {TOY}\nMODEL: {{YOLOR: {{PAD: middle}}}}\n")
    return run("info", "--config-file", "mine.yaml")


@of("CONFIG")
def unknown_key() -> object:
    return run("info", "--config-file", TOY, "SOLVER.MAX_ITRE", "9")


@of("CONFIG")
def cycle() -> object:
    Path("a.yaml").write_text("_BASE_: b.yaml\n")
    Path("b.yaml").write_text("_BASE_: a.yaml\n")
    return run("info", "--config-file", "a.yaml")


@of("OPTION")
def wrong_size() -> object:
    return run("info", "--config-file", TOY, "--size", "100")


@of("OPTION")
def unknown_module() -> object:
    return run("train", "--data", "photos", "--import", "my_heads")


@of("DATA")
def missing_folder() -> object:
    return run("check-data", "photos")


@of("DATA")
def misspelled_name() -> object:
    return run("check-data", "--dataset", "toy_scenes_vla")


@of("LABEL")
def empty_box() -> object:
    Path("boxes.csv").write_text(f"{BOXES}a.jpg,cat,30,10,20,40\n")
    return run("check-data", "boxes.csv")


@of("LABEL")
def missing_class() -> object:
    Path("boxes.csv").write_text(f"{BOXES}a.jpg,,10,10,20,40\n")
    return run("check-data", "boxes.csv")


@of("IMAGE")
def no_image() -> object:
    Path("street.jpg").write_text("text")
    return list(open_media("street.jpg").pictures(raise_error))


@of("IMAGE")
def no_video() -> object:
    Path("street.mp4").write_text("text")
    return open_media("street.mp4")


@of("WEIGHTS")
def missing_weights() -> object:
    return read_weights("last.pt")


@of("WEIGHTS")
def web_page() -> object:
    Path("last.pt").write_text("<!doctype html>")
    return read_weights("last.pt")


@of("WEIGHTS")
def damaged_checkpoint() -> object:
    save_checkpoint({}, "last.pth")
    with open("last.pth", "ab") as file:
        file.write(b"x")
    return read_weights("last.pth")


@of("WEIGHTS")
def teacher_of_other_classes() -> object:
    options = YacsRunOptions(output_dir="", max_iter=1, teacher_weights="last.pt")
    network = Mock(metadata={"thing_classes": ["dog", "cat"]})
    return check_fit("detection", options, Mock(), network, {"thing_classes": ["cat", "dog"]})


class Attack:
    """Unpickling it would run a command."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("true",)


@of("UNSAFE")
def code_in_pt() -> object:
    torch.save({"model": Attack()}, "last.pt")
    return read_weights("last.pt")


@of("UNSAFE")
def code_in_pkl() -> object:
    Path("last.pkl").write_bytes(pickle.dumps(Attack()))
    return read_weights("last.pkl")


@of("OUTPUT")
def earlier_run() -> object:
    save_checkpoint({}, "model_0000009.pth")
    return run("train", "--data", "photos", "--output", ".")


@of("OUTPUT")
def inputs_in_output() -> object:
    Path("photos").mkdir()
    Path("photos/a.jpg").touch()
    return check_output(Path("photos"), ["photos/a.jpg"], overwrite=False)


@of("DISK")
def full_disk() -> object:
    full = Mock(side_effect=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    with patch.object(os, "fsync", full):
        return write_text(Path("output/metrics.json"), "{}", sync=True)


@of("DISK")
def folder_below_a_file() -> object:
    Path("file").touch()
    return RunFolder("file/run").check_writable()


@of("FILE")
def missing_words() -> object:
    return Tokenizer.load("words.txt")


@of("FILE")
def empty_tokenizer() -> object:
    Path("tokenizer.model").touch()
    return Tokenizer.load("tokenizer.model")


def skip_step(*, nonfinite: str, skipped: int) -> object:
    options = Namespace(nonfinite=nonfinite, max_skipped=10, key=lambda name: "SOLVER.NONFINITE")
    step = Mock(iter=7, skipped=skipped, options=options, _report=lambda *_: [REPORT])
    step.scaler.is_enabled.return_value = False
    return TrainStep._skip(step, {}, {}, [])


@of("NAN")
def first_step() -> object:
    return skip_step(nonfinite="stop", skipped=0)


@of("NAN")
def many_steps() -> object:
    return skip_step(nonfinite="skip", skipped=10)


@of("MEMORY")
def gpu() -> object:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


@of("MEMORY")
def killed_worker() -> object:
    with patch.object(checks, "ProcessPoolExecutor", MagicMock()) as pool:
        pool.return_value.__enter__.return_value.map.side_effect = checks.BrokenProcessPool()
        return list(checks._reports([{}], Mock(), 1))


@of("PACKAGE")
def no_shtab() -> object:
    with patch.object(completion, "find_spec", lambda name: None):
        return run("completion", "bash")


@of("PACKAGE")
def no_onnx() -> object:
    with patch.object(bundle, "find_spec", lambda name: None):
        return run("export", "--weights", "last.pth", "--output", "exported")


@of("EXPORT")
def no_manifest() -> object:
    return run("eval", "--weights", "exported/vision.onnx", "--data", "photos")


@of("EXPORT")
def no_graph() -> object:
    return open_graph(Path("exported/vision.onnx"))


@of("WEB")
def narrow() -> object:
    Image.new("1", (1, 600)).save("narrow.png")
    return read_upload(Path("narrow.png").read_bytes(), max_pixels=9)


@of("WEB")
def busy() -> object:
    return PredictionQueue(Mock(), max_pixels=9, max_waiting=0).predict(b"", "a.png")


def examples(code: str) -> list[str]:
    """The lines of the block in the section of a family."""
    section = (ROOT / PAGE).read_text().split(f"\n## {code}\n")[1].split("\n## ")[0]
    (block,) = FENCED.findall(section)
    return block[1].splitlines()


def test_a_heading_for_each_family() -> None:
    assert re.findall(r"^## (.+)$", prose(PAGE), re.MULTILINE) == list(FAMILIES)
    assert {code: len(calls) for code, calls in EXAMPLES.items()} == {
        code: len(examples(code)) for code in FAMILIES
    }
    assert len((ROOT / PAGE).read_text().split()) < 900


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["yolor-d2"])


@pytest.mark.parametrize(
    ("code", "number"),
    [(code, n) for code, calls in EXAMPLES.items() for n in range(len(calls)) if code != "WEB"],
)
def test_lines(code: str, number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = one_line_errors(EXAMPLES[code][number])()
    except SystemExit as stop:
        status = stop.code
    assert status == 2
    error = capsys.readouterr().err.replace(f"{tmp_path}/", "")
    line = error.splitlines()[-1].partition(": ")[2]
    assert line == f"{examples(code)[number]} [{code}: {PAGE}#{code.lower()}]"


@pytest.mark.parametrize("number", range(len(EXAMPLES["WEB"])))
def test_answers_of_the_web_page(number: int) -> None:
    with pytest.raises(WebError) as error:
        EXAMPLES["WEB"][number]()
    answer = {"error": str(error.value), "code": error.value.code}
    assert json.loads(examples("WEB")[number]) == answer


def test_the_first_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text(f"_BASE_: {TOY}\nSOLVER: {{MAX_ITRE: 9}}\n")
    assert run("info", "--config-file", "mine.yaml") == 2
    assert FENCED.findall((ROOT / PAGE).read_text())[0][1] == capsys.readouterr().err
