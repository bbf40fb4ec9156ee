"""Smaller number formats of an exported vision graph: float16 and int8."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx

PRECISIONS = ("fp32", "fp16", "int8")
Feeds = Mapping[str, np.ndarray]

# Modules whose operators are converted. Everything else stays float32: normalization of pixels,
# decoding of boxes from distributions, and the caption head.
CONVERTED = ("backbone", "detection_head", "mask_head", "semantic_head")
STAYS_FLOAT32 = ("pixel normalization", "box decoding", "scores", "caption_head")
# In int8, the last convolutions of the detection head also stay float32: they decide the boxes.
PREDICTORS = ("box_predictors", "class_predictors")
SCOPES = "pkg.torch.onnx.name_scopes"  # where the exporter notes the module of a node

# Activations and sums in int8 too would be faster in onnxruntime, but cost 1.9 box AP (toy scenes).
QUANTIZED_OPERATORS = ["Conv"]


def kept_in_float32(precision: str) -> list[str]:
    """Return what stays in float32, for model.json."""
    predictors = [f"detection_head.{name}" for name in PREDICTORS] if precision == "int8" else []
    return [*STAYS_FLOAT32, *predictors]


def to_half(path: Path) -> None:
    """Convert a graph to float16 in place; inputs and outputs keep their types."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = onnx.load(path)
    kept = [node.name for node in model.graph.node if not _is_converted(node, excluded=())]
    converted = convert_float_to_float16(model, keep_io_types=True, node_block_list=kept)
    # For a node that reads a value twice, the converter adds the same cast twice.
    nodes = {tuple(node.output): node for node in converted.graph.node}
    unique = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes.values()]
    del converted.graph.node[:]
    converted.graph.node.extend(unique)
    onnx.save(converted, path)


def quantize(path: Path, feeds: Iterable[Feeds], *, outputs: bool) -> None:
    """Quantize a graph to int8 in place, with the ranges of activations on some images.

    Args:
        path: of the graph.
        feeds: inputs of the graph, one for each image.
        outputs: whether outputs of convolutions are quantized, too, before the activation.
            onnxruntime computes a convolution in int8 only with a quantized output. OpenVINO fuses
            convolution, activation and the quantization of the next input, unless another one is
            between them.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    model, operators = onnx.load(path), QUANTIZED_OPERATORS
    kept = [node.name for node in model.graph.node if not _is_converted(node, excluded=PREDICTORS)]
    logging.disable(logging.WARNING)  # its advice to optimize the graph first
    try:
        quantize_static(
            path,
            path,
            _Reader(feeds),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=operators,
            nodes_to_exclude=kept,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={"OpTypesToExcludeOutputQuantization": [] if outputs else operators},
        )
    finally:
        logging.disable(logging.NOTSET)


def _is_converted(node: onnx.NodeProto, *, excluded: tuple[str, ...]) -> bool:
    scopes = next((each.value for each in node.metadata_props if each.key == SCOPES), "")
    inside = any(f"model.{name}" in scopes for name in CONVERTED)
    return inside and not any(name in scopes for name in excluded)


class _Reader:
    """What onnxruntime's quantizer reads inputs from."""

    def __init__(self, feeds: Iterable[Feeds]) -> None:
        self._feeds: Iterator[Feeds] = iter(feeds)

    def get_next(self) -> Feeds | None:
        return next(self._feeds, None)
