"""int8 graphs."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import NodeProto, TensorProto, helper, load, numpy_helper, save

from yolor_d2.export.precision import SCOPES, quantize

SHAPE = (1, 4, 8, 8)
ENDS = ("images", "results")


def node(kind: str, inputs: list[str], output: str) -> NodeProto:
    made = helper.make_node(kind, inputs, [output], name=f"make {output}")
    made.metadata_props.add(key=SCOPES, value="['', 'model.backbone']")
    return made


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """Two convolutions, with SiLU between them."""
    kernel = np.random.default_rng(0).normal(size=(4, 4, 1, 1)).astype(np.float32)
    nodes = [
        node("Conv", ["images", "kernel"], "linear"),
        node("Sigmoid", ["linear"], "gate"),
        node("Mul", ["linear", "gate"], "active"),
        node("Conv", ["active", "kernel"], "results"),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in ENDS]
    weights = [numpy_helper.from_array(kernel, "kernel")]
    graph = helper.make_graph(nodes, "graph", ends[:1], ends[1:], weights)
    opsets = [helper.make_opsetid("", 18)]
    save(helper.make_model(graph, opset_imports=opsets, ir_version=10), tmp_path / "graph.onnx")
    return tmp_path / "graph.onnx"


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [(True, {"images", "linear", "active", "results"}), (False, {"images", "active"})],
)
def test_outputs_of_convolutions_are_quantized_for_onnxruntime_only(
    graph: Path, outputs: bool, expected: set[str]
) -> None:
    """OpenVINO fuses convolution and SiLU unless the tensor between them is quantized."""
    feeds = {"images": np.ones(SHAPE, np.float32)}
    quantize(graph, [feeds], outputs=outputs)
    nodes = load(graph).graph.node
    found = {each.input[0] for each in nodes if each.op_type == "QuantizeLinear"}
    suffix = "_QuantizeLinear_Input"  # of the tensors that the graph returns
    assert {name.removesuffix(suffix) for name in found if "kernel" not in name} == expected
