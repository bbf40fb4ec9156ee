"""Outputs of exported graphs and of their runner equal those of the network."""

import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from pycocotools import mask as coco_mask

from yolor_d2.checkpoint.saving import save_checkpoint
from yolor_d2.data.views.transforms import resize_long_side, to_planes
from yolor_d2.export import bundle, graphs
from yolor_d2.export.parity import largest_error
from yolor_d2.tools import export

from .networks import ONNX, SIZES, eager, picture, write_checkpoint


def converted(onnx_folder: Path, folder: Path, form: bundle.Form, **how: Any) -> Path:
    """Convert the exported network; skipped without the packages of the form."""
    try:
        form.check()
    except ValueError as error:
        pytest.skip(str(error))
    shutil.copytree(onnx_folder, folder)
    bundle.convert(folder, form, **how)
    return folder


@pytest.mark.parametrize(
    "form",
    [
        bundle.Form(),
        bundle.Form(end_to_end=True),
        bundle.Form("openvino"),
        bundle.Form("openvino", end_to_end=True),
    ],
    ids=["onnx", "onnx, end to end", "openvino", "openvino, end to end"],
)
def test_runner_results_equal_the_networks(
    checkpoint: Path, onnx_folder: Path, runner: Any, form: bundle.Form, tmp_path: Path
) -> None:
    model, size = eager(checkpoint)
    exported = runner.Runner(converted(onnx_folder, tmp_path / "form", form), threads=1)
    for seed, (height, width) in enumerate(SIZES):
        image = picture((height, width), seed)
        resized = torch.from_numpy(to_planes(resize_long_side(image, size)))
        sample = {"image": resized, "height": height, "width": width}
        expected, found = model([sample])[0], exported(image)

        instances = expected["instances"]
        assert len(instances) > 20
        np.testing.assert_array_equal(found["classes"], instances.pred_classes)
        np.testing.assert_allclose(found["scores"], instances.scores, atol=1e-5)
        np.testing.assert_allclose(found["boxes"], instances.pred_boxes.tensor, atol=1e-3)
        masks = instances.pred_masks.numpy()
        union = (masks | found["masks"]).sum(axis=(1, 2))
        assert (masks & found["masks"]).sum(axis=(1, 2)) == pytest.approx(union, rel=0.01)
        assert (found["semantic"] == expected["sem_seg"].argmax(0).numpy()).mean() > 0.999
        ids, segments = expected["panoptic_seg"]
        assert (found["panoptic"] == ids.numpy()).mean() > 0.999
        assert [s["category_id"] for s in found["segments"]] == [s["category_id"] for s in segments]
        assert found["caption_ids"] == expected["caption_ids"]
        assert found["caption"] == expected["caption"]
        assert found["caption_score"] == pytest.approx(expected["caption_score"], abs=1e-4)


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_other_precisions_are_close(
    onnx_folder: Path, runner: Any, kind: str, precision: str, tmp_path: Path
) -> None:
    image = picture((96, 128), 0)
    plain = runner.Runner(onnx_folder, threads=1)
    canvas, content = runner.letterbox(image, **plain.facts["input"])
    feeds = {"images": canvas, "contents": np.array([content], np.float32)}
    form = bundle.Form(kind, precision)
    folder = converted(onnx_folder, tmp_path / "form", form, calibration=[feeds])
    exported = runner.Runner(folder, threads=1)

    assert exported.facts["precision"] == precision
    assert "box decoding" in exported.facts["float32"]
    stored = folder / ("vision.bin" if kind == "openvino" else "vision.onnx")
    assert stored.stat().st_size < 0.75 * (onnx_folder / "vision.onnx").stat().st_size
    expected, found = (each.run("vision", **feeds) for each in (plain, exported))
    limit = 0.01 if precision == "fp16" else 0.1
    for name, values in expected.items():
        assert found[name].dtype == values.dtype
        # The order of tokens is that of detected objects, whose scores are almost equal here.
        if values.dtype != bool and name != "tokens":
            spread = float(values.std())
            assert float(abs(found[name] - values).mean()) < limit * spread, name
    assert exported(image).keys() == plain(image).keys()


def test_a_one_to_one_graph_has_no_suppression(onnx_folder: Path, tmp_path: Path) -> None:
    end_to_end = pytest.importorskip("yolor_d2.export.end_to_end")
    facts = json.loads((onnx_folder / "model.json").read_text())
    for threshold, has_suppression in ((0.7, True), (1.0, False)):
        facts["detection"]["nms_threshold"] = threshold
        path = shutil.copyfile(onnx_folder / "vision.onnx", tmp_path / "vision.onnx")
        names = end_to_end.append_results(path, facts)
        assert names["inputs"] == ["images", "contents", "size", "score_threshold"]
        operators = {node.op_type for node in end_to_end.onnx.load(path).graph.node}
        assert ("NonMaxSuppression" in operators) == has_suppression


def test_the_runner_needs_neither_torch_nor_yolor_d2(onnx_folder: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), picture(SIZES[0], 0))
    code = (
        "import sys\n"
        "for name in ('torch', 'detectron2', 'yolor_d2'): sys.modules[name] = None\n"
        f"sys.path.insert(0, {str(onnx_folder)!r})\n"
        "import runner; sys.exit(runner.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "a.png", "--model", str(onnx_folder)]
    command += ["--threads", "1"]
    run = partial(subprocess.run, cwd=tmp_path, capture_output=True, text=True, check=True)
    printed = run([*command, "--score-threshold", "0.2"])

    found = json.loads(printed.stdout)
    assert found.keys() >= {
        "file_name",
        "height",
        "instances",
        "sem_seg",
        "segments_info",
        "caption",
    }
    first = found["instances"][0]
    toys = MetadataCatalog.get("toy_scenes_train")
    index = toys.thing_dataset_id_to_contiguous_id[first["category_id"]]
    assert first["category_name"] == toys.thing_classes[index]
    assert min(each["score"] for each in found["instances"]) > 0.2
    areas = [
        coco_mask.area(coco_mask.frPyObjects(s["segmentation"], *SIZES[0]))
        for s in found["sem_seg"]
    ]
    assert sum(areas) == SIZES[0][0] * SIZES[0][1]

    written = run([*command, "--output", "b.json"])
    assert written.stdout == ""
    likely = [each for each in found["instances"] if each["score"] > 0.25]
    assert json.loads((tmp_path / "b.json").read_text()) == {**found, "instances": likely}


def test_files_that_the_runner_cannot_read(
    onnx_folder: Path, runner: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.png").write_text("no image")
    assert runner.main([str(tmp_path / "a.png")]) == 2
    assert "cannot be read as an image [IMAGE: docs/tr" in capsys.readouterr().err
    cv2.imwrite(str(tmp_path / "a.png"), picture(SIZES[0], 0))
    assert runner.main([str(tmp_path / "a.png"), "--model", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "model.json" in error
    assert error.endswith(" [EXPORT: docs/troubleshooting.md#export]\n")
    shutil.copytree(onnx_folder, tmp_path / "damaged")
    (tmp_path / "damaged/vision.onnx").write_bytes(b"damaged")
    assert runner.main([str(tmp_path / "a.png"), "--model", str(tmp_path / "damaged")]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith(f"runner: {tmp_path}/damaged/vision.onnx: ")


@pytest.mark.parametrize(
    "kind", ["torchscript", pytest.param("torch_export", marks=pytest.mark.slow)]
)
def test_pytorch_formats(
    checkpoint: Path, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        export.main(["--weights", str(checkpoint), "--output", str(tmp_path), "--format", kind])
        == 0
    )
    out = capsys.readouterr().out
    assert "2 x 96 x 64" in out
    assert "caption_step: longer_past" in out
    assert not (tmp_path / "runner.py").exists()


@pytest.mark.parametrize("tasks", [("detection",), ("semantic",), ("detection", "mask")])
def test_some_tasks(tasks: tuple[str, ...], tmp_path: Path) -> None:
    weights = write_checkpoint(tmp_path, tasks=tasks)
    arguments = ["--weights", weights, "--output", tmp_path, "--format", "torchscript"]
    assert export.main([*map(str, arguments)]) == 0
    facts = json.loads((tmp_path / "model.json").read_text())
    assert facts["inputs"] == {"vision": ["images"]}
    assert ("mask" in facts) == ("mask" in tasks)
    assert ("semantic" in facts["outputs"]["vision"]) == ("semantic" in tasks)
    assert "caption" not in facts


GELAN = [
    *("MODEL.BACKBONE.NAME", "build_gelan_pan_backbone", "MODEL.GELAN.WIDTH", 0.125),
    *("MODEL.GELAN.ATTENTION", True, "MODEL.GELAN.DETACHED_HALF", True),
]


@pytest.mark.parametrize(
    "backbone",
    [pytest.param([], id="yolor_elan"), pytest.param(GELAN, id="gelan", marks=pytest.mark.slow)],
)
def test_one_to_one_head_exports_to_onnx(
    backbone: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With grouped and depthwise branches, and a vector before the towers that stays."""
    for name in ONNX:
        pytest.importorskip(name)
    head = [
        *("MODEL.DETECTION_HEAD.NAME", "OneToOneHead", "MODEL.DETECTION_HEAD.BOX_GROUPS", 4),
        *("MODEL.DETECTION_HEAD.DEPTHWISE_CLASSES", True),
        *("MODEL.YOLOR.IMPLICIT_PLACEMENT", "tower"),
    ]
    weights = write_checkpoint(tmp_path, *backbone, *head, tasks=("detection",))
    assert export.main(["--weights", str(weights), "--output", str(tmp_path / "onnx")]) == 0
    out = capsys.readouterr().out
    assert "2 x 96 x 64" in out
    assert "vision: scores" in out
    facts = json.loads((tmp_path / "onnx" / "model.json").read_text())
    assert facts["detection"]["nms_threshold"] == 1  # no suppression


def test_a_graph_with_other_outputs_is_reported(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def off(path: Path, part: Any) -> Any:
        return lambda *inputs: tuple(x + x.new_ones(()) for x in part.module(*inputs))

    monkeypatch.setattr(bundle, "write_graph", lambda *_: None)
    monkeypatch.setattr(bundle, "open_graph", off)
    assert export.main(["--weights", str(checkpoint), "--output", str(tmp_path)]) == 1
    assert "outputs of the graphs differ from the network's" in capsys.readouterr().err


def test_example_inputs_are_padded_like_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "PAD_VALUE", 7)
    model: Any = SimpleNamespace(caption_head=None)
    images = graphs.random_inputs(model, batch=2, height=64, width=96)["images"]
    assert (images[1, :, :, :4] == 7).all()


def test_largest_error() -> None:
    x = torch.tensor([0.0, 100.0])
    assert largest_error(x, x + 0.5) == pytest.approx(0.5)
    assert largest_error(100 + x, 101 + x) == pytest.approx(0.01)
    assert largest_error(x, x[:1]) == largest_error(x, x.double()) == float("inf")
    assert largest_error(x, x * torch.nan) == float("inf")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--weights", "nowhere.pth"], "no such file"),
        (["--weights", "bare.pth"], "bare.pth: contains no configuration: pass one"),
        (["--weights", "lazy.pth"], "must have a model"),
        (["--weights", "model.pth", "MODEL.NOPE", "1"], "NOPE"),
    ],
)
def test_errors_are_one_line(
    checkpoint: Path,
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: Any,
    capsys: Any,
) -> None:
    monkeypatch.chdir(checkpoint.parent)
    torch.save({"a.weight": torch.zeros(1)}, "bare.pth")
    lazy = {"config": "cfg.model = yolor_d2.modeling.YOLOR()\n"}
    save_checkpoint({"iteration": 1, "model": {}, "provenance": lazy}, Path("lazy.pth"))
    command = ["--output", str(tmp_path), "--format", "torchscript", *arguments]
    assert export.main(command) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "torchscript", "--evaluate", "a"], "--evaluate is for onnx and openvino"),
        (["--int8"], "--int8 and --calibrate DATA belong together"),
    ],
)
def test_options_that_exclude_each_other(options: list[str], message: str, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        export.main(["--weights", "a.pth", "--output", "b", *options])
    assert message in capsys.readouterr().err


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(bundle, "find_spec", lambda name: None)
    assert export.main(["--weights", "a", "--output", "b"]) == 2
    assert "onnx, onnxscript, onnxruntime" in capsys.readouterr().err


def test_signals_after_graphs_of_openvino(tmp_path: Path) -> None:
    """Signal handlers need a stack, which OpenVINO replaces on processors with AMX."""
    openvino = pytest.importorskip("openvino")
    x = openvino.opset13.parameter([4, 16], name="x")
    graph = openvino.Model([openvino.opset13.relu(x)], [x], "graph")
    openvino.save_model(graph, tmp_path / "graph.xml")
    code = (
        "import gc, pathlib, signal, subprocess, sys\n"
        f"sys.path.insert(0, {str(bundle.RUNNER)!r})\n"
        "import runner_graphs\n"
        "signal.signal(signal.SIGCHLD, lambda *_: None)\n"
        "graphs = [runner_graphs.open_graph(pathlib.Path('graph.xml')) for _ in range(2)]\n"
        "while graphs: del graphs[0]; gc.collect()\n"
        "subprocess.run(['true']); print('alive')"
    )
    command = [sys.executable, "-X", "faulthandler", "-c", code]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "alive\n"), ended.stderr
