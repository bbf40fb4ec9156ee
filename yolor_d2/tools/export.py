"""Write a trained network as graphs that run without detectron2 and yolor_d2.

python -m yolor_d2.tools.export --weights FILE --output DIR [--config-file FILE]
    [--format onnx|torchscript|torch_export] [KEY VALUE ...]

The network with all heads but the text decoder is one graph, the text decoder two. Beside them are
model.json, the tokenizer and, for ONNX, runner.py, which needs neither PyTorch nor detectron2. What
the graphs say is compared with what the network says; the exit code is 1 where it differs.
"""

import argparse
import importlib
import json
import logging
import shutil
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from .. import __version__
from ..checkpoint.saving import CheckpointError
from ..data.catalog.class_tables import describe_classes
from ..export.graphs import SUFFIXES, Part, cache_shape, open_graph, parts_of, write_graph
from ..export.parity import TOLERANCE, Difference, compare, table_of
from ..inference.loading import Network, load_network
from ..letterbox import PAD_VALUE
from ..modeling.meta_arch import YOLOR

TOKENIZER = "tokenizer.model"
RUNNER = Path(__file__).parents[1] / "export/runner"
NEEDS = {"onnx": ("onnx", "onnxscript", "onnxruntime")}
BATCHES = (1, 2)

Facts = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Export, compare, print; the exit code."""
    args = parse_args(argv)
    try:
        check_installed(args.format)
        network = load_network(
            args.config_file or args.weights,
            weights=args.weights if args.config_file else None,
            device="cpu",
            opts=args.opts,
        )
        args.output.mkdir(parents=True, exist_ok=True)
        sizes = canvas_sizes(network.recipe.test_size, network.model.canvas_divisor)
        differences = export(
            network, weights=args.weights, folder=args.output, kind=args.format, sizes=sizes
        )
    except (ValueError, KeyError, CheckpointError, OSError) as error:
        print(f"export: {error}", file=sys.stderr)
        return 2
    worst = max(each.error for each in differences)
    print(f"\n{table_of(differences)}\n")
    print(f"the largest is {worst:.1e}, at most {TOLERANCE} is allowed; {args.output} is ready")
    if args.format == "onnx":
        print(f"python {args.output / 'runner.py'} IMAGE")
    if worst > TOLERANCE:
        print("export: the graphs do not say what the network says", file=sys.stderr)
    return int(worst > TOLERANCE)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", required=True, metavar="FILE", help="a checkpoint or release")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--config-file", metavar="FILE", help="instead of what --weights has")
    parser.add_argument("--format", choices=list(SUFFIXES), default="onnx")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE ... of the configuration")
    return parser.parse_args(argv)


def check_installed(kind: str) -> None:
    """Refuse a format whose packages are missing."""
    missing = [name for name in NEEDS.get(kind, ()) if find_spec(name) is None]
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
) -> list[Difference]:
    """Write everything, and compare the graphs with the network.

    Args:
        network: on the CPU.
        weights: the file that they come from.
        folder: to be written into.
        kind: one of the SUFFIXES'.
        sizes: heights and widths of the canvases that are compared on.
    """
    # Its warnings are of code that is not the user's.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    model = network.model
    parts = parts_of(model)
    files = {name: f"{name}{SUFFIXES[kind]}" for name in parts}
    for name, part in parts.items():
        print(f"writing {folder / files[name]}", flush=True)
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


def canvas_sizes(size: int, unit: int) -> list[tuple[int, int]]:
    """Three canvases that images of a size may have: square, wide, and of small images, high."""
    whole, part, half = (-(-side // unit) * unit for side in (size, size * 3 // 4, size // 2))
    return [(whole, whole), (part, whole), (part, half)]


def describe(network: Network, parts: dict[str, Part], files: dict[str, str]) -> Facts:
    """What a user of the graphs has to know, as runner.py reads it."""
    model, recipe = network.model, network.recipe
    facts: Facts = {
        "yolor_d2": __version__,
        **describe_classes([network.metadata]),
        "graphs": files,
        "inputs": {name: list(part.inputs) for name, part in parts.items()},
        "outputs": {name: part.outputs for name, part in parts.items()},
        "input": {
            "size": recipe.test_size,
            "divisor": model.canvas_divisor,
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


def load_runner(folder: Path) -> ModuleType:
    """The runner's main module from a folder that was exported to, imported as it stands there."""
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module("runner")
    finally:
        sys.path.remove(str(folder))


def _describe_captions(model: YOLOR) -> Facts:
    head = model.caption_head
    if head is None:
        return {}
    how = head.decoding
    searched = ("beam_size", "max_tokens", "min_tokens", "length_penalty", "no_repeat_ngram")
    return {
        "caption": {
            **head.vocabulary._asdict(),
            **{name: getattr(how, name) for name in searched},
        },
        "caption_cache": cache_shape(head),
        **({"tokenizer": TOKENIZER} if model.tokenizer is not None else {}),
    }


if __name__ == "__main__":
    sys.exit(main())
