"""model.json from anywhere: what cannot be used is one line that names the file."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from yolor_d2.export.bundle import RUNNER


@pytest.fixture(scope="module")
def facts() -> Iterator[Any]:
    """The runner's module, imported as in an exported folder."""
    sys.path.insert(0, str(RUNNER))
    yield importlib.import_module("runner_facts")
    sys.path.remove(str(RUNNER))
    for name in ("runner_facts", "runner_graphs"):
        sys.modules.pop(name, None)


def content() -> dict[str, Any]:
    return {
        "graphs": {"vision": "vision.onnx"},
        "classes": {"thing_classes": ["a"]},
        "class_ids": {"thing_classes": [1]},
        "outputs": {"vision": ["boxes"]},
        "input": {"size": 32, "divisor": 32, "pad": "corner", "pad_value": 0, "channels": "RGB"},
        "mask": {"stride": 4, "resolution": "input"},
    }


def test_valid_content(facts: Any, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(json.dumps(content()))
    assert facts.read_facts(tmp_path) == content()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"graphs": {"vision": "../vision.onnx"}}, "graphs has a value"),
        ({"graphs": {"vision": "/vision.onnx"}}, "graphs has a value"),
        ({"graphs": {"other": "vision.onnx"}}, "graphs has no vision"),
        ({"tokenizer": "../../secret"}, "tokenizer has a value"),
        ({"classes": {"thing_classes": [1]}}, "classes has a value"),
        ({"input": content()["input"] | {"size": 10**9}}, "input.size is 1000000000, which"),
        ({"input": content()["input"] | {"size": True}}, "input.size is True"),
        ({"input": content()["input"] | {"x": 1}}, "input must have exactly size, divisor"),
        ({"input": []}, "input must have exactly"),
        ({"mask": {"stride": 0, "resolution": "input"}}, "mask.stride is 0"),
        ({"mask": {"stride": 4, "resolution": ["input"]}}, "mask.resolution is"),
        ({"caption": {}}, "has no caption_cache"),
    ],
)
def test_values_that_cannot_be_used(
    facts: Any, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    (tmp_path / "model.json").write_text(json.dumps(content() | changes))
    with pytest.raises(ValueError, match=message) as error:
        facts.read_facts(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / 'model.json'}: ")


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000, "\0", "5", '{"graphs": {}}'])
def test_other_content(facts: Any, tmp_path: Path, text: str) -> None:
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(ValueError, match=r"model\.json: "):
        facts.read_facts(tmp_path)


def error_of_runner(
    folder: Path, capsys: pytest.CaptureFixture[str], image: bytes = b"P6 1 1 255 abc"
) -> str:
    """What the runner of a folder prints for an image."""
    place = folder if folder.is_dir() else folder.parent
    (place / "image.ppm").write_bytes(image)
    sys.path.insert(0, str(RUNNER))
    try:
        runner = importlib.import_module("runner")
        code = runner.main([str(place / "image.ppm"), "--model", str(folder)])
    finally:
        sys.path.remove(str(RUNNER))
        for name in [name for name in sys.modules if name.partition("_")[0] == "runner"]:
            del sys.modules[name]
    assert code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_other_paths_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong path is never replaced by the folder that it would be in."""
    (tmp_path / "model.json").write_text(json.dumps(content()))
    error = error_of_runner(tmp_path / "nothing", capsys)
    assert error.startswith(f"runner: {tmp_path / 'nothing'}: no such file or folder [EXPORT")
    for image in (b"", b"no image", b"P6 60000 60000 255 abc"):
        assert "image.ppm cannot be read as an image" in error_of_runner(tmp_path, capsys, image)


def test_a_damaged_graph_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "model.json").write_text(json.dumps(content()))
    (tmp_path / "vision.onnx").write_bytes(b"no graph")
    error = error_of_runner(tmp_path, capsys)
    assert error.startswith(f"runner: {tmp_path / 'vision.onnx'}: ")


def test_a_name_of_two_lines_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = content() | {"graphs": {"vision": "a\nb"}}
    (tmp_path / "model.json").write_text(json.dumps(changed))
    error = error_of_runner(tmp_path, capsys)
    assert error.startswith(f"runner: {tmp_path / 'a b'}: no such file [EXPORT")


def test_a_graph_for_other_images_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    helper = pytest.importorskip("onnx.helper")
    images = helper.make_tensor_value_info("images", 2, [65, 3, None, None])  # uint8
    boxes = helper.make_tensor_value_info("boxes", 2, [65, 3, None, None])
    node = helper.make_node("Identity", ["images"], ["boxes"])
    graph = helper.make_graph([node], "vision", [images], [boxes])
    opset = helper.make_opsetid("", 17)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    (tmp_path / "vision.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "model.json").write_text(json.dumps(content()))
    error = error_of_runner(tmp_path, capsys)
    assert error.startswith(f"runner: {tmp_path}: model.json does not fit the graphs: RunnerError")
    assert "vision.onnx: " in error
