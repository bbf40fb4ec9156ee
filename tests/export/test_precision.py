"""int8 graphs."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import NodeProto, TensorProto, helper, load, numpy_helper, save

from yolor_d2.export.bundle import to_openvino
from yolor_d2.export.precision import SCOPES, quantize
from yolor_d2.export.runner.runner_graphs import open_graph

SHAPE = (1, 4, 8, 8)


def node(kind: str, inputs: list[str], output: str) -> NodeProto:
    made = helper.make_node(kind, inputs, [output], name=f"make {output}")
    made.metadata_props.add(key=SCOPES, value="['', 'model.backbone']")
    return made


def write_graph(
    path: Path, nodes: list[NodeProto], constants: dict[str, np.ndarray], kind: int
) -> Path:
    ends = [
        helper.make_tensor_value_info(name, each, SHAPE)
        for name, each in {"images": kind, "results": TensorProto.FLOAT}.items()
    ]
    weights = [numpy_helper.from_array(np.asarray(a), name) for name, a in constants.items()]
    graph = helper.make_graph(nodes, "graph", ends[:1], ends[1:], weights)
    opsets = [helper.make_opsetid("", 18)]
    save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [(True, {"images", "linear", "active", "results"}), (False, {"images", "active"})],
)
def test_outputs_of_convolutions_are_quantized_for_onnxruntime_only(
    outputs: bool, expected: set[str], tmp_path: Path
) -> None:
    """OpenVINO fuses convolution and SiLU unless the tensor between them is quantized."""
    kernel = np.random.default_rng(0).normal(size=(4, 4, 1, 1)).astype(np.float32)
    nodes = [
        node("Conv", ["images", "kernel"], "linear"),
        node("Sigmoid", ["linear"], "gate"),
        node("Mul", ["linear", "gate"], "active"),
        node("Conv", ["active", "kernel"], "results"),
    ]
    graph = write_graph(tmp_path / "graph.onnx", nodes, {"kernel": kernel}, TensorProto.FLOAT)
    feeds = {"images": np.ones(SHAPE, np.float32)}
    quantize(graph, [feeds], outputs=outputs)
    nodes = load(graph).graph.node
    found = {each.input[0] for each in nodes if each.op_type == "QuantizeLinear"}
    suffix = "_QuantizeLinear_Input"  # of the tensors that the graph returns
    assert {name.removesuffix(suffix) for name in found if "kernel" not in name} == expected


def test_an_input_that_openvino_gives_several_names(tmp_path: Path) -> None:
    """With this scale, OpenVINO removes the division of pixels and the quantization."""
    pytest.importorskip("openvino")
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        node("Div", ["pixels", "largest"], "div"),
        node("Conv", ["div", "kernel"], "results"),
    ]
    constants = {"largest": np.float32(255), "kernel": np.eye(4, dtype=np.float32)[..., None, None]}
    graph = write_graph(tmp_path / "graph.onnx", nodes, constants, TensorProto.UINT8)
    images = np.arange(256, dtype=np.uint8).reshape(SHAPE)
    quantize(graph, [{"images": images}], outputs=False)
    to_openvino(graph)
    found = open_graph(graph.with_suffix(".xml"), threads=1)({"images": images})
    np.testing.assert_allclose(found["results"], images / 255, atol=1e-2)
