"""Appends post-processing to the graph "vision": images in, results on the image out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
from onnx import TensorProto, helper, numpy_helper

from .result_functions import (
    FUNCTIONS,
    best_class_only,
    best_points,
    masks_by_grid,
    masks_by_input,
    merge,
    place_boxes,
    semantic_labels,
    suppress,
)

Facts = Mapping[str, Any]
Values = dict[str, tuple[int, list[Any]]]

INPUTS: Values = {
    "contents": (TensorProto.FLOAT, [1, 4]),  # left, top, width, height on the canvas
    "size": (TensorProto.INT64, [2]),  # height and width of the results
    "score_threshold": (TensorProto.FLOAT, [1]),
}
OUTPUTS: Values = {
    "boxes": (TensorProto.FLOAT, ["objects", 4]),
    "scores": (TensorProto.FLOAT, ["objects"]),
    "classes": (TensorProto.INT64, ["objects"]),
    "masks": (TensorProto.BOOL, ["objects", "height", "width"]),
    "semantic": (TensorProto.INT64, ["height", "width"]),
    "panoptic": (TensorProto.INT64, ["height", "width"]),
    # Panoptic class, whether it is a thing, index of its object or -1, area; the id is the row + 1.
    "segments": (TensorProto.INT64, ["segments", 4]),
}


USED_UP = {"boxes", "scores", "coefficients", "prototypes", "semantic"}  # outputs of "vision"


class _Tail:
    """The nodes and constants that follow a graph."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def call(self, function: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Add a call of one of the functions."""
        domain = function.function_ir.domain
        self.nodes.append(helper.make_node(function.name, inputs, outputs, domain=domain))

    def constant(self, name: str, value: Any, dtype: Any) -> str:
        """Add a constant; returns its name."""
        name = f"end_to_end.{name}"
        self.constants.append(numpy_helper.from_array(np.array(value, dtype), name))
        return name


def append_results(path: Path, facts: Facts) -> dict[str, list[str]]:
    """Replace the raw outputs of a graph by results on the image.

    Args:
        path: the graph "vision", which is overwritten.
        facts: content of model.json.

    Returns:
        The "inputs" and "outputs" of the new graph.
    """
    model = onnx.load(path)
    graph = model.graph
    raw = {each.name for each in graph.output}
    tail = _Tail()
    for node in graph.node:  # names of results can be those of raw outputs
        for names in (node.input, node.output):
            names[:] = [f"raw.{name}" if name in USED_UP & raw else name for name in names]
    results: list[str] = []
    if "detection" in facts:
        results += _detect(tail, facts["detection"])
    if "mask" in facts:
        function = masks_by_grid if facts["mask"]["resolution"] == "fast" else masks_by_input
        objects = ["raw.coefficients", "raw.prototypes", "points", "on_canvas"]
        tail.call(function, [*objects, "images", "contents", "size"], ["masks"])
        results.append("masks")
    if "semantic" in raw:
        tail.call(semantic_labels, ["raw.semantic", "images", "contents", "size"], ["semantic"])
        results.append("semantic")
    if "panoptic" in facts:
        results += _merge(tail, facts["panoptic"])
    kept = [each for each in graph.output if each.name not in USED_UP]
    given = ["contents", "size", *(["score_threshold"] if "detection" in facts else [])]
    images = next(each for each in graph.input if each.name == "images")
    images.type.tensor_type.shape.dim[0].dim_value = 1
    _replace(graph.input, [images, *(_value(name, INPUTS) for name in given)])
    _replace(graph.output, [*(_value(name, OUTPUTS) for name in results), *kept])
    graph.node.extend(tail.nodes)
    graph.initializer.extend(tail.constants)
    del graph.value_info[:]  # those of the batch, which is 1 now
    model.functions.extend(each.to_function_proto() for each in FUNCTIONS)
    domains = {node.domain for node in tail.nodes}
    model.opset_import.extend(helper.make_opsetid(domain, 1) for domain in domains)
    model = onnx.inliner.inline_local_functions(model)
    onnx.save(model, path)
    return {
        "inputs": [each.name for each in model.graph.input],
        "outputs": [each.name for each in model.graph.output],
    }


def _detect(tail: _Tail, options: Facts) -> list[str]:
    scores = "raw.scores"
    if not options["multi_label"]:
        tail.call(best_class_only, [scores], ["best_scores"])
        scores = "best_scores"
    select = best_points if options["nms_threshold"] == 1 else suppress
    overlap = tail.constant("overlap", [options["nms_threshold"]], np.float32)
    limit = tail.constant("limit", [options["detections_per_image"]], np.int64)
    arguments = ["raw.boxes", scores, "score_threshold", overlap, limit]
    tail.call(select, arguments, ["all_points", "all_classes"])
    placed = ["raw.boxes", "raw.scores", "all_points", "all_classes", "contents", "size"]
    results = ["boxes", "scores", "classes"]
    tail.call(place_boxes, placed, [*results, "points", "on_canvas"])
    return results


def _merge(tail: _Tail, options: Facts) -> list[str]:
    # One more class, for heads with more classes than the tables.
    things, leaves = ([*options[f"{name}_to_panoptic"], -1] for name in ("thing", "leaf"))
    constants = [
        tail.constant("things", things, np.int64),
        tail.constant("leaves", leaves, np.int64),
        tail.constant("panoptic_classes", [max(*things, *leaves) + 1], np.int64),
        tail.constant("hidden_share", options["overlap_threshold"], np.float32),
        tail.constant("stuff_area", max(options["stuff_area_limit"], 1), np.int64),
        tail.constant("panoptic_score", options["score_threshold"], np.float32),
    ]
    results = ["panoptic", "segments"]
    tail.call(merge, ["masks", "scores", "classes", "semantic", *constants], results)
    return results


def _value(name: str, known: Values) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, *known[name])


def _replace(values: Any, new: Sequence[onnx.ValueInfoProto]) -> None:
    new = [onnx.ValueInfoProto.FromString(each.SerializeToString()) for each in new]
    del values[:]
    values.extend(new)
