"""A folder with an exported network: graphs, model.json, tokenizer, and runner.py for ONNX."""

import importlib
import json
import logging
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from .. import __version__
from ..data.catalog.class_tables import describe_classes
from ..inference.loading import Network
from ..letterbox import PAD_VALUE
from ..modeling.meta_arch import YOLOR
from .graphs import SUFFIXES, Part, cache_shape, open_graph, parts_of, write_graph
from .parity import Difference, compare

TOKENIZER = "tokenizer.model"
RUNNER = Path(__file__).parent / "runner"
REQUIRED_PACKAGES = {"onnx": ("onnx", "onnxscript", "onnxruntime")}
BATCHES = (1, 2)

Facts = dict[str, Any]


def check_installed(kind: str) -> None:
    """Raise a ValueError if packages that a format needs are missing."""
    missing = [name for name in REQUIRED_PACKAGES.get(kind, ()) if find_spec(name) is None]
    if missing:
        raise ValueError(
            f"--format {kind} needs {', '.join(missing)}: pip install 'yolor_d2[export]'"
        )


def export(
    network: Network,
    *,
    weights: str,
    folder: Path,
    kind: str,
    sizes: Sequence[tuple[int, int]],
    on_write: Callable[[Path], object] = lambda path: None,
) -> list[Difference]:
    """Write a network into a folder, and compare the written graphs with it.

    Args:
        network: the network, on the CPU.
        weights: file of its weights, named in model.json.
        folder: an existing output folder.
        kind: a key of SUFFIXES.
        sizes: heights and widths of the canvases to compare on.
        on_write: called with the path of each graph before it is written.
    """
    # Its warnings are about code of yolor_d2 and PyTorch, not the user's.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    model = network.model
    parts = parts_of(model)
    files = {name: f"{name}{SUFFIXES[kind]}" for name in parts}
    for name, part in parts.items():
        on_write(folder / files[name])
        write_graph(part, folder / files[name], kind)
    facts = {"weights": Path(weights).name, **describe(network, parts, files)}
    (folder / "model.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    if model.tokenizer is not None:
        model.tokenizer.save(folder / TOKENIZER)
    if kind == "onnx":
        for path in RUNNER.glob("*.py"):
            shutil.copyfile(path, folder / path.name)
    graphs = {name: open_graph(folder / files[name], part) for name, part in parts.items()}
    return compare(model, parts, graphs, sizes=sizes, batches=BATCHES)


def canvas_sizes(size: int, divisor: int) -> list[tuple[int, int]]:
    """Return heights and widths of three canvases: square, wide, and small and high.

    Args:
        size: long side of images.
        divisor: divisor of canvas sides.
    """
    whole, part, half = (-(-side // divisor) * divisor for side in (size, size * 3 // 4, size // 2))
    return [(whole, whole), (part, whole), (part, half)]


def describe(network: Network, parts: Mapping[str, Part], files: Mapping[str, str]) -> Facts:
    """Return the content of model.json, which runner.py reads.

    Args:
        network: the exported network.
        parts: its parts by name.
        files: their file names by the same names.
    """
    model, recipe = network.model, network.recipe
    facts: Facts = {
        "yolor_d2": __version__,
        **describe_classes([network.metadata]),
        "graphs": files,
        "inputs": {name: list(part.inputs) for name, part in parts.items()},
        "outputs": {name: part.outputs for name, part in parts.items()},
        "input": {
            "size": recipe.test_size,
            "divisor": model.test_divisor,
            "pad": model.pad,
            "pad_value": PAD_VALUE,
            "channels": recipe.image_format,
        },
    }
    detection, masks, merger = model.detection_head, model.mask_head, model.panoptic
    if detection is not None:
        facts["detection"] = {
            "score_threshold": detection.suppression.score_thresh,
            "nms_threshold": detection.suppression.nms_thresh,
            "multi_label": detection.suppression.multi_label,
            "pre_nms_topk": detection.suppression.pre_nms_topk,
            "detections_per_image": detection.suppression.detections_per_image,
        }
    if masks is not None:
        facts["mask"] = {"stride": masks.stride, "resolution": masks.resolution}
    if merger is not None:
        facts["panoptic"] = {
            "thing_to_panoptic": merger.thing_to_panoptic.tolist(),
            "leaf_to_panoptic": merger.leaf_to_panoptic.tolist(),
            "overlap_threshold": merger.overlap_threshold,
            "stuff_area_limit": merger.stuff_area_limit,
            "score_threshold": merger.score_threshold,
        }
    return facts | _describe_captions(model)


def _describe_captions(model: YOLOR) -> Facts:
    head = model.caption_head
    if head is None:
        return {}
    decoding = head.decoding
    options = (
        "beam_size",
        "max_tokens",
        "min_tokens",
        "length_penalty",
        "no_repeat_ngram",
        "finished_in_beam",
    )
    return {
        "caption": {
            **head.vocabulary._asdict(),
            **{name: getattr(decoding, name) for name in options},
        },
        "caption_cache": cache_shape(head),
        **({"tokenizer": TOKENIZER} if model.tokenizer is not None else {}),
    }


def load_runner(folder: Path) -> ModuleType:
    """Import runner.py from an exported folder."""
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module("runner")
    finally:
        sys.path.remove(str(folder))
