"""examples/nanodet.py with a small graph of random weights."""

import json
import runpy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from yolor_d2.data.catalog.categories import COCO_THINGS

from .data.coco_files import restored_catalogs

EXAMPLE = Path(__file__).parents[1] / "examples/nanodet.py"
STRIDES, CLASSES, SIDES = (8, 16, 32), 80, 44


class GraphWriter:
    """Writes a graph as TensorFlow.js does."""

    def __init__(self) -> None:
        self.nodes: list[dict[str, Any]] = []
        self.weights: list[dict[str, Any]] = []
        self.data = b""

    def constant(self, values: Any) -> str:
        array = np.asarray(values)
        is_float = array.dtype.kind == "f"
        entry: dict[str, Any] = {"name": f"c{len(self.weights)}", "shape": list(array.shape)}
        entry["dtype"] = "float32" if is_float else "int32"
        if is_float:
            entry["quantization"] = {"dtype": "float16"}
        self.weights.append(entry)
        self.data += array.astype(np.float16 if is_float else np.int32).tobytes()
        return entry["name"]

    def node(self, op: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        name = name or f"n{len(self.nodes)}"
        self.nodes.append({"name": name, "op": op, "input": list(inputs), "attr": attributes})
        return name

    def write(self, path: Path) -> None:
        group = {"paths": ["weights.bin"], "weights": self.weights}
        content = {"modelTopology": {"node": self.nodes}, "weightsManifest": [group]}
        path.write_text(json.dumps(content))
        (path.parent / "weights.bin").write_bytes(self.data)


def sides(height: int, width: int) -> dict[str, Any]:
    return {"list": {"i": ["1", str(height), str(width), "1"]}}


@pytest.fixture(scope="module")
def weights() -> dict[int, np.ndarray]:
    """Of a 1 x 1 convolution for each stride, (1, 1, 3, classes + sides)."""
    rng = np.random.default_rng(0)
    found = {s: rng.normal(size=(1, 1, 3, CLASSES + SIDES)) for s in STRIDES}
    return {stride: each.astype(np.float16).astype(np.float32) for stride, each in found.items()}


@pytest.fixture(scope="module")
def graph_file(weights: dict[int, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    writer = GraphWriter()
    image = writer.node("Placeholder", name="image")
    image = writer.node("Transpose", image, writer.constant([0, 2, 3, 1]))
    for k, stride in enumerate(STRIDES):
        window = {"ksize": sides(stride, stride), "strides": sides(stride, stride)}
        pooled = writer.node("MaxPool", image, **window)
        weight = writer.constant(weights[stride])
        convolved = writer.node("Conv2D", pooled, weight, strides=sides(1, 1))
        axis, sizes = writer.constant(3), writer.constant([CLASSES, SIDES])
        split = writer.node("SplitV", convolved, sizes, axis)
        classes = writer.node("Sigmoid", split)
        cells = (416 // stride) ** 2
        shapes = [writer.constant([1, cells, number]) for number in (CLASSES, SIDES)]
        writer.node("Reshape", classes, shapes[0], name=f"Identity_{k}" if k else "Identity")
        writer.node("Reshape", f"{split}:1", shapes[1], name=f"Identity_{k + 3}")
    path = tmp_path_factory.mktemp("graph") / "nanodet.json"
    writer.write(path)
    return path


def load() -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLE))


def test_outputs_equal_those_of_the_same_network(
    graph_file: Path, weights: dict[int, np.ndarray]
) -> None:
    image = torch.randn(1, 3, 416, 416)
    names = ["Identity", "Identity_1", "Identity_2", "Identity_3", "Identity_4", "Identity_5"]
    found = load()["Graph"](graph_file)(image, names)
    for k, stride in enumerate(STRIDES):
        pooled = F.max_pool2d(image, stride).flatten(2).transpose(1, 2)  # (1, P, 3)
        expected: Tensor = pooled @ torch.from_numpy(weights[stride][0, 0])
        torch.testing.assert_close(found[k], expected[..., :CLASSES].sigmoid())
        torch.testing.assert_close(found[k + 3], expected[..., CLASSES:])


def test_operators() -> None:
    apply = load()["apply"]
    image = torch.randn(1, 4, 6, 3)  # (N, H, W, C)

    def run(op: str, *inputs: Any, **attributes: Any) -> Tensor:
        tensors = [each if isinstance(each, Tensor) else torch.tensor(each) for each in inputs]
        return apply({"op": op, "attr": attributes}, tensors)

    padded = run("PadV2", image, [[0, 0], [1, 2], [3, 4], [0, 0]], 5.0)
    assert padded.shape == (1, 7, 13, 3)
    assert (padded[:, 1:5, 3:9] == image).all()
    assert padded[0, 0, 0, 0] == padded[0, -1, -1, 2] == 5
    assert run("Pad", image, [[0, 0], [1, 2], [3, 4], [0, 0]])[0, 0, 0, 0] == 0
    torch.testing.assert_close(run("Add", image, image), run("AddV2", image, image))
    torch.testing.assert_close(
        run("LeakyRelu", image, alpha={"f": 0.1}), torch.where(image < 0, 0.1 * image, image)
    )
    assert run("ConcatV2", image, image, -1).shape == (1, 4, 6, 6)
    assert run("SparseToDense", [], 1, [], [0, 0]).tolist() == [0, 0]
    enlarged = run("ResizeBilinear", image, [8, 12])
    torch.testing.assert_close(
        enlarged.permute(0, 3, 1, 2),
        F.interpolate(image.permute(0, 3, 1, 2), scale_factor=2.0, mode="bilinear"),
    )
    strided = run("Conv2D", image, torch.ones(2, 2, 3, 1), strides=sides(2, 2))
    torch.testing.assert_close(strided[0, 0, 0, 0], image[0, :2, :2].sum())


def test_its_best_box_is_the_only_object(
    graph_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example = load()
    rng = np.random.default_rng(1)
    photo = cv2.resize(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8), (320, 240))
    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos/1.png"), photo)
    item = {"image": torch.from_numpy(photo).permute(2, 0, 1), "height": 240, "width": 320}
    best = example["NanoDet"](graph_file)([item])[0]["instances"][0]
    ((x0, y0, x1, y1),) = best.pred_boxes.tensor.tolist()
    things = zip(COCO_THINGS.ids, COCO_THINGS.names, strict=True)
    labels = {
        "images": [{"id": 1, "file_name": "1.png", "height": 240, "width": 320}],
        "categories": [{"id": number, "name": name} for number, name in things],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": COCO_THINGS.ids[int(best.pred_classes)],
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": (x1 - x0) * (y1 - y0),
                "iscrowd": 0,
            }
        ],
    }
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    arguments = (graph_file, tmp_path / "labels.json", tmp_path / "photos", tmp_path / "found", 1)
    with restored_catalogs():
        example["main"](*map(str, arguments))
    printed = capsys.readouterr().out
    assert "box AP of yolor_d2's evaluator: 100.000000" in printed
    assert "box AP of detectron2's evaluator: 100.000000" in printed
    assert cv2.imread(str(tmp_path / "found/pictures/1.png")).shape == (480, 2 * 640, 3)
