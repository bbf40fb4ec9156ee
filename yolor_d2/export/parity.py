"""Comparison of exported graphs with the network."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from tabulate import tabulate
from torch import Tensor

from ..modeling.meta_arch import YOLOR
from .graphs import START, STEP, VISION, Graph, Part, random_inputs

TOLERANCE = 1e-4
BEAMS, STEPS = 3, 4  # of the compared captions


class Difference(NamedTuple):
    """Difference between an output of a graph and the network's."""

    graph: str
    output: str
    canvas: str
    error: float  # largest difference; relative for values above 1


def compare(
    model: YOLOR,
    parts: Mapping[str, Part],
    graphs: Mapping[str, Graph],
    *,
    sizes: Sequence[tuple[int, int]],
    batches: Sequence[int],
) -> list[Difference]:
    """Compare all outputs on random images.

    Args:
        model: the deployed network.
        parts: parts of the model, by name.
        graphs: graphs written from the parts, by the same names.
        sizes: heights and widths of canvases.
        batches: batch sizes.
    """
    differences = []
    for height, width in sizes:
        for batch in batches:
            canvas = f"{batch} x {height} x {width}"
            inputs = random_inputs(model, batch=batch, height=height, width=width)
            for name, arguments in _calls(model, parts, tuple(inputs.values())):
                with torch.no_grad():
                    expected = parts[name].module(*arguments)
                actual = graphs[name](*arguments)
                differences += [
                    Difference(name, output, canvas, largest_error(wanted, found))
                    for output, wanted, found in zip(
                        parts[name].outputs, expected, actual, strict=True
                    )
                ]
    return differences


@torch.no_grad()
def _calls(
    model: YOLOR, parts: Mapping[str, Part], images: tuple[Tensor, ...]
) -> Iterator[tuple[str, tuple[Tensor, ...]]]:
    """Yield names and inputs of graph calls; later inputs are outputs of the network."""
    yield VISION, images
    if model.caption_head is None:
        return
    raw = dict(zip(parts[VISION].outputs, parts[VISION].module(*images), strict=True))
    tokens = tuple(raw[name] for name in parts[START].inputs)
    yield START, tokens
    image = parts[START].module(*tokens)
    ids = torch.full((len(tokens[0]), BEAMS), model.caption_head.vocabulary.bos_id)
    past = parts[STEP].inputs["past"]
    past = past.new_zeros(past.shape[0], 2, *ids.shape, past.shape[4], 0, past.shape[6])
    for _ in range(STEPS):
        yield STEP, (ids, past, *image)
        logits, past = parts[STEP].module(ids, past, *image)
        ids = logits[:, 0].topk(BEAMS).indices  # (N, K)


def largest_error(expected: Tensor, actual: Tensor) -> float:
    """Return the largest difference, relative above 1; infinite for other shapes or types."""
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        return float("inf")
    difference = (actual.double() - expected.double()).abs() / expected.double().abs().clamp(min=1)
    return difference.nan_to_num(nan=float("inf")).max().item()


def table_of(differences: Sequence[Difference]) -> str:
    """Return a table of the largest difference of each output on each canvas."""
    canvases = list(dict.fromkeys(each.canvas for each in differences))
    rows: dict[tuple[str, str], dict[str, float]] = {}
    for graph, output, canvas, error in differences:
        row = rows.setdefault((graph, output), dict.fromkeys(canvases, 0.0))
        row[canvas] = max(row[canvas], error)
    lines = [
        [f"{graph}: {output}", *(f"{error:.1e}" for error in row.values())]
        for (graph, output), row in rows.items()
    ]
    return tabulate(lines, ["largest difference", *canvases], "pipe", disable_numparse=True)
