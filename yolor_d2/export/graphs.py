"""A deployed network as graphs with tensor inputs and outputs, in several formats.

Shapes: N images, H x W canvas, A points, L visual tokens, K beams, T text tokens.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ..errors import ExportError
from ..letterbox import PAD_VALUE
from ..modeling.heads import (
    AnchorFreeHead,
    GridRegionCaptionHead,
    PrototypeMaskHead,
    TransformerCaptionHead,
)
from ..modeling.heads.caption.parallel_attention import ParallelDecoder
from ..modeling.heads.caption.transformer import TransformerDecoder, attention_mask
from ..modeling.meta_arch import YOLOR

VISION, START, STEP = "vision", "caption_start", "caption_step"
SUFFIXES = {
    "onnx": ".onnx",
    "openvino": ".xml",
    "torchscript": ".pt",
    "torch_export": ".pt2",
}

Captioner = TransformerCaptionHead | GridRegionCaptionHead
Graph = Callable[..., tuple[Tensor, ...]]  # inputs are positional


class Part(NamedTuple):
    """A module that is exported as one graph."""

    module: nn.Module
    inputs: dict[str, Tensor]  # example inputs
    dynamic: dict[str, dict[int, Any]]  # dynamic axes of each input
    outputs: list[str]

    @property
    def examples(self) -> tuple[Tensor, ...]:
        return tuple(self.inputs.values())


class VisionGraph(nn.Module):
    """Images (N, 3, H, W) uint8 and contents (N, 4) left, top, width, height -> raw outputs."""

    def __init__(self, model: YOLOR) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, contents: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return the outputs that `output_names` lists."""
        raw = self.model.raw_outputs(images, contents)
        outputs: list[Tensor] = []
        if raw.detection is not None:
            head: Any = self.model.detection_head
            scores = raw.detection.logits.sigmoid()
            outputs += [head.boxes(raw.detection), scores]
        if raw.mask is not None:
            outputs += [raw.mask.coefficients, raw.mask.prototypes]
        if raw.semantic is not None:
            outputs.append(raw.semantic)
        if raw.caption is not None:
            outputs += raw.caption
        return tuple(outputs)

    def output_names(self) -> list[str]:
        names = {
            "detection": ["boxes", "scores"],
            "mask": ["coefficients", "prototypes"],
            "semantic": ["semantic"],
            "caption": token_names(self.model.caption_head),
        }
        return [name for task in self.model.heads for name in names[task]]


class CaptionStart(nn.Module):
    """Visual tokens (N, L, D) and their padding (N, L) -> keys and values for all steps."""

    def __init__(self, decoder: TransformerDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, tokens: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values (layers, 2, N, H, L, E), and the attention mask (N, 1, 1, L)."""
        return torch.stack(self.decoder.project(tokens)), attention_mask(padding)


class ParallelCaptionStart(nn.Module):
    """Grid tokens (N, G, D) and region tokens (N, R, D) -> keys and values for all steps."""

    def __init__(self, decoder: ParallelDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, grid: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values (layers, 2, N, H, G, E) and (layers, 2, N, H, R, E)."""
        return self.decoder.project(grid, regions)


class CaptionStep(nn.Module):
    """The newest token of each text and its past -> next-token logits, and the longer past."""

    def __init__(self, head: Captioner) -> None:
        super().__init__()
        self.head = head

    def forward(
        self, ids: Tensor, past: Tensor, first: Tensor, second: Tensor
    ) -> tuple[Tensor, Tensor]:
        """
        Args:
            ids: (N, K) int64.
            past: (layers, 2, N, K, H, T, E); T is 0 in the first step.
            first, second: outputs of the start.

        Returns:
            Logits (N, K, V), and the past with one more token.
        """
        position = past.shape[5]
        # A slice, because an index would be exported as the constant of the example.
        x = self.head.text(ids, slice(position, position + 1))
        x, longer = self.head.decoder.extend(x, past, first, second)
        return self.head.words_logits(x), longer


def parts_of(model: YOLOR) -> dict[str, Part]:
    """Return the parts that are exported as one graph each, by name.

    Raises:
        ValueError: a head is not one of yolor_d2's, so that its outputs are unknown.
    """
    for task, kind in {
        "detection": AnchorFreeHead,
        "mask": PrototypeMaskHead,
        "caption": Captioner,
    }.items():
        head = model.heads.get(task)
        if head is not None and not isinstance(head, kind):
            raise ExportError(f"cannot export {type(head).__name__}: it is not a head of yolor_d2")
    parts = {VISION: _vision_part(model)}
    if model.caption_head is not None:
        parts |= _caption_parts(model.caption_head)
    return parts


def _vision_part(model: YOLOR) -> Part:
    unit = model.canvas_divisor
    height, width = 3 * unit, 4 * unit
    inputs = {"images": torch.randint(256, (2, 3, height, width), dtype=torch.uint8)}
    batch = Dim("batch", min=1)
    sides = {2: unit * Dim("rows", min=1), 3: unit * Dim("columns", min=1)}
    dynamic: dict[str, dict[int, Any]] = {"images": {0: batch, **sides}}
    if model.caption_head is not None:
        inputs["contents"] = torch.tensor([[0.0, 0.0, width, height], [8.0, 4.0, 90.0, 80.0]])
        dynamic["contents"] = {0: batch}
    graph = VisionGraph(model)
    return Part(graph, inputs, dynamic, graph.output_names())


def token_names(head: Captioner) -> list[str]:
    """Return names of the tensors that encode an image."""
    return (
        ["tokens", "padding"] if isinstance(head, TransformerCaptionHead) else ["grid", "regions"]
    )


def _caption_parts(head: Captioner) -> dict[str, Part]:
    batch, beams = Dim("batch", min=1), Dim("beams", min=1)
    past_length = Dim("past", min=0, max=head.text.max_positions - 1)
    start = _caption_start(head)
    layers, heads, width = cache_shape(head)
    with torch.no_grad():
        projected = start.module(*start.examples)
    ids = torch.tensor([[head.vocabulary.bos_id] * 3] * 2)
    past = torch.randn(layers, 2, 2, 3, heads, 4, width)
    lengths = [axes[1] for axes in start.dynamic.values()]
    axes: list[dict[int, Any]] = [
        {2: batch, 4: lengths[0]},
        {0: batch, 3: lengths[1]} if start.outputs[1] == "mask" else {2: batch, 4: lengths[1]},
    ]
    return {
        START: start,
        STEP: Part(
            CaptionStep(head),
            {"ids": ids, "past": past, **dict(zip(start.outputs, projected, strict=True))},
            {
                "ids": {0: batch, 1: beams},
                "past": {2: batch, 3: beams, 5: past_length},
                **dict(zip(start.outputs, axes, strict=True)),
            },
            ["logits", "longer_past"],
        ),
    }


def _caption_start(head: Captioner) -> Part:
    batch, length = Dim("batch", min=1), Dim("tokens", min=1)
    _, heads, width = cache_shape(head)
    tokens = torch.randn(2, 6, heads * width)
    first, second = token_names(head)
    decoder = head.decoder
    if isinstance(decoder, TransformerDecoder):
        padding = torch.arange(6) >= torch.tensor([[6], [4]])
        return Part(
            CaptionStart(decoder),
            {first: tokens, second: padding},
            {first: {0: batch, 1: length}, second: {0: batch, 1: length}},
            ["visual", "mask"],
        )
    return Part(
        ParallelCaptionStart(decoder),
        {first: tokens, second: torch.randn(2, 5, heads * width)},
        {first: {0: batch, 1: length}, second: {0: batch, 1: Dim("regions", min=1)}},
        ["grid_keys", "region_keys"],
    )


def cache_shape(head: Captioner) -> tuple[int, int, int]:
    """Return the numbers of decoder layers, attention heads, and channels per head."""
    layers: Any = head.decoder.layers
    heads = layers[0].text_attention.num_heads
    return len(layers), heads, head.text.words.weight.shape[1] // heads


@torch.no_grad()
def write_graph(part: Part, path: Path, kind: str) -> None:
    """Write a part to a file; `kind` is a key of SUFFIXES but "openvino", made from "onnx"."""
    with _quiet():
        if kind == "torchscript":
            torch.jit.trace(part.module, part.examples, check_trace=False).save(str(path))
            return
        program = _export(part)
        if kind == "torch_export":
            torch.export.save(program, path)
            return
        written = torch.onnx.export(
            program,
            input_names=list(part.inputs),
            output_names=part.outputs,
            dynamo=True,
            verbose=False,
        )
        assert written is not None
        written.save(path)


def _export(part: Part) -> ExportedProgram:
    dynamic = tuple(part.dynamic[name] for name in part.inputs)
    return torch.export.export(part.module, part.examples, dynamic_shapes=dynamic)


def open_graph(path: Path, part: Part, *, threads: int = 0) -> Graph:
    """Load a graph as a function; the suffix determines the format.

    Args:
        path: file of the graph.
        part: the part that was written to the file.
        threads: CPU threads of onnxruntime or OpenVINO; 0 is their default.
    """
    if path.suffix in (SUFFIXES["torchscript"], SUFFIXES["torch_export"]):
        with _quiet():
            if path.suffix == SUFFIXES["torchscript"]:
                return torch.jit.load(str(path))
            return torch.export.load(path).module()
    from .runner.runner_graphs import open_graph as open_in_runner

    graph, names = open_in_runner(path, threads=threads), list(part.inputs)

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        feeds = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
        found = graph(feeds)
        return tuple(torch.from_numpy(found[name]) for name in part.outputs)

    return run


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress warnings of the exporters, which concern no code of the user."""
    with warnings.catch_warnings():
        for kind in (DeprecationWarning, FutureWarning, UserWarning, torch.jit.TracerWarning):
            warnings.simplefilter("ignore", kind)
        yield


def random_inputs(
    model: YOLOR, *, batch: int, height: int, width: int, seed: int = 0
) -> Mapping[str, Tensor]:
    """Return images of colored rectangles, each at a different place on its canvas."""
    rng = torch.Generator().manual_seed(seed)
    images = torch.full((batch, 3, height, width), PAD_VALUE, dtype=torch.uint8)
    contents = torch.zeros(batch, 4)
    for number in range(batch):
        w, h = width - 8 * number, height - 4 * number
        contents[number] = torch.tensor([4 * number, 2 * number, w, h])
        inside = images[number, :, 2 * number : 2 * number + h, 4 * number : 4 * number + w]
        inside.copy_(torch.randint(256, (3, 1, 1), generator=rng).expand_as(inside))
        for _ in range(8):
            x0, x1 = sorted(torch.randint(w + 1, (2,), generator=rng).tolist())
            y0, y1 = sorted(torch.randint(h + 1, (2,), generator=rng).tolist())
            color = torch.randint(256, (3, 1, 1), generator=rng).to(torch.uint8)
            inside[:, y0:y1, x0:x1] = color
    inputs = {"images": images, "contents": contents}
    return inputs if model.caption_head is not None else {"images": images}
