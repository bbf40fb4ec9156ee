"""A folder of yolor-d2 export with foreign metadata, given to its runner."""

import importlib
import json
import math
import sys
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from yolor_d2.export.bundle import RUNNER

from ..byte_mutators import mutate_bytes
from ..cases import GIVEN, OUT, Case, Target
from ..corpus import HEIGHT, WIDTH, Files, png
from ..tree_mutators import dump, mutate_tree

MODEL, GRAPH, IMAGE = "model.json", "vision.onnx", "image.png"
CANVAS, STRIDE = 32, 4


def facts() -> dict[str, Any]:
    """Return the metadata of a network with boxes, masks, a semantic and a panoptic map."""
    names = ["images", "boxes", "scores", "coefficients", "prototypes", "semantic"]
    return {
        "yolor_d2": "1.0",
        "classes": {"thing_classes": ["cat", "dog"], "stuff_classes": ["cat", "dog", "sky"]},
        "class_ids": {"thing_classes": [1, 2], "stuff_classes": [0, 1, 2]},
        "graphs": {"vision": GRAPH},
        "inputs": {"vision": names[:1]},
        "outputs": {"vision": names[1:]},
        "input": {
            "size": CANVAS,
            "divisor": 32,
            "pad": "corner",
            "pad_value": 114,
            "channels": "RGB",
        },
        "detection": {
            "score_threshold": 0.25,
            "nms_threshold": 0.6,
            "multi_label": True,
            "pre_nms_topk": 100,
            "detections_per_image": 10,
        },
        "mask": {"stride": STRIDE, "resolution": "input"},
        "panoptic": {
            "thing_to_panoptic": [0, 1],
            "leaf_to_panoptic": [-1, -1, 2],
            "overlap_threshold": 0.5,
            "stuff_area_limit": 1,
            "score_threshold": 0.3,
        },
        "format": "onnx",
        "end_to_end": False,
    }


def graph() -> bytes:
    """Return an ONNX graph of constant outputs."""
    from onnx import TensorProto, helper, numpy_helper

    generator, cells = np.random.default_rng(0), CANVAS // STRIDE
    arrays = {
        "boxes": np.array([[[2, 3, 20, 18], [8, 8, 30, 22]]], np.float32),
        "scores": np.array([[[0.9, 0.1], [0.2, 0.8]]], np.float32),
        "coefficients": generator.normal(size=(1, 2, 3)).astype(np.float32),
        "prototypes": generator.normal(size=(1, 3, cells, cells)).astype(np.float32),
        "semantic": generator.normal(size=(1, 3, cells, cells)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array, name))
        for name, array in arrays.items()
    ]
    inputs = [helper.make_tensor_value_info("images", TensorProto.UINT8, [1, 3, None, None])]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape)
        for name, array in arrays.items()
    ]
    made = helper.make_model(
        helper.make_graph(nodes, "vision", inputs, outputs),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    return bytes(made.SerializeToString())


class State:
    """The files of an exported folder, and the runner's module."""

    def __init__(self) -> None:
        text = json.dumps(facts()).encode()
        self.files: Files = {MODEL: text, GRAPH: graph(), IMAGE: png()}
        sys.path.insert(0, str(RUNNER))
        try:
            self.runner: Any = importlib.import_module("runner")
        finally:
            sys.path.remove(str(RUNNER))
            for name in [name for name in sys.modules if name.partition("_")[0] == "runner"]:
                del sys.modules[name]  # folders of exports have modules of these names


def mutate(rng: Random, index: int, state: State) -> Case:
    """Change the metadata, or sometimes the graph."""
    files = dict(state.files)
    kind = rng.random()
    if kind < 0.1:
        files[GRAPH], what = mutate_bytes(rng, files[GRAPH])
        return Case(files, None, f"graph: {what}", (GRAPH, MODEL))
    if kind < 0.13:
        return Case(files, "unchanged", "unchanged")
    if kind < 0.25:
        files[MODEL], what = mutate_bytes(rng, files[MODEL])
        return Case(files, None, f"bytes: {what}", (MODEL, GIVEN))
    tree, what = mutate_tree(rng, facts())
    files[MODEL], damage = dump(rng, tree)
    return Case(files, None, f"{what}, {damage}", (MODEL, GIVEN))


def run(state: State, case: Case) -> int | None:
    """Run the network on the image, and check the JSON that is written."""
    output = Path(OUT) / "result.json"
    arguments = [f"{GIVEN}/{IMAGE}", "--model", GIVEN, "--output", str(output), "--threads", "1"]
    code: int = state.runner.main(arguments)
    if code:
        assert not output.exists(), "a result beside an error"
        return code
    found = json.loads(output.read_text(), parse_constant=_refuse)
    for each in found.get("instances", ()):
        x, y, width, height = each["bbox"]
        assert all(map(math.isfinite, each["bbox"])), "a box is not finite"
        assert min(x, y, width, height) >= 0, f"box {each['bbox']}"
        assert x + width <= WIDTH + 1e-3, f"box {each['bbox']}"
        assert y + height <= HEIGHT + 1e-3, f"box {each['bbox']}"
    for each in found.get("segments_info", ()):
        assert sum(each["segmentation"]["counts"]) == WIDTH * HEIGHT
    if case.arguments == "unchanged":
        assert [each["category_name"] for each in found["instances"]] == ["cat", "dog"]
    return None


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


EXPORTED = Target(
    about="model.json and graph of an exported network; right: strict JSON, boxes in the image",
    prepare=State,
    mutate=mutate,
    run=run,
)
