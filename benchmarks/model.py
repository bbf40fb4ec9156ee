"""Network: forward pass (compared with other networks), training, results, captions, memory."""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
from detectron2.modeling import build_model

from yolor_d2.model_zoo import get_config_file, load_config
from yolor_d2.modeling.heads import (
    AnchorFreeHead,
    PrototypeMaskHead,
    SemanticHead,
    TransformerCaptionHead,
)
from yolor_d2.modeling.meta_arch import YOLOR
from yolor_d2.tools.options import positive

from .model_captions import measure_captions
from .model_inference import measure_forward, measure_results
from .model_memory import measure_activations, measure_memory
from .model_peers import BUILDERS, CONFIGURATION, build_peers
from .model_setting import Result, Setting, calibrate, cpu_threads, random_images
from .model_training import measure_training
from .options import add_device, add_repeats, add_threads
from .printing import chosen_device, device_name, print_result

DEFAULT_CONFIG = "COCO/yolor_elan_mtl.yaml"
VISION = frozenset({"detection", "mask", "semantic"})
# Parts of this benchmark, and the tasks that they require.
NEEDS: dict[str, frozenset[str]] = {
    "forward": frozenset(),
    "train": frozenset(),
    "post": VISION,
    "caption": frozenset({"caption"}),
    "memory": VISION,
    "activations": frozenset(),
}
OWN_HEADS = (AnchorFreeHead, PrototypeMaskHead, SemanticHead, TransformerCaptionHead)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument(
        "--config-file", metavar="FILE", help=f"network to measure ({DEFAULT_CONFIG})"
    )
    parser.add_argument(
        "--size", type=positive, default=640, help="side of the square images in pixels (640)"
    )
    parser.add_argument(
        "--batch", type=positive, nargs="+", metavar="N", help="images in inference (1; GPU: 1 32)"
    )
    parser.add_argument(
        "--train-batch",
        type=positive,
        nargs="+",
        metavar="N",
        help="images in training (2; GPU: 1 32)",
    )
    parser.add_argument(
        "--memory-batch", type=positive, default=32, metavar="N", help="images of loss memory (32)"
    )
    add_repeats(parser)
    add_device(parser)
    add_threads(parser)
    parser.add_argument(
        "--parts",
        type=lambda text: _chosen(text, list(NEEDS)),
        default=list(NEEDS),
        help=f"comma-separated, some of {','.join(NEEDS)} (all)",
    )
    parser.add_argument(
        "--peers",
        "--rivals",
        type=_peers,
        default=list(BUILDERS),
        help=f"compare with installed ones of {','.join(BUILDERS)} (all), and with configurations "
        "of ours (*.yaml); or none",
    )


def _peers(text: str) -> list[str]:
    ours = [name for name in text.split(",") if name.endswith(CONFIGURATION)]
    return [] if text == "none" else _chosen(text, [*BUILDERS, *ours])


def _chosen(text: str, known: list[str]) -> list[str]:
    names = text.split(",")
    if unknown := sorted(set(names) - set(known)):
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)} is not one of {', '.join(known)}")
    return names


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure, print, and return the content of the --json file."""
    try:
        setting = make_setting(args)
    except (ValueError, OSError) as error:
        raise SystemExit(f"benchmark model: {error}") from None
    with cpu_threads(args.threads), tempfile.TemporaryDirectory() as folder:
        parts = _measure(args, setting, Path(folder))
    keys = ("size", "repeats", "threads", "memory_batch")
    return {
        "settings": {
            "config_file": args.config_file or DEFAULT_CONFIG,
            "device": device_name(setting.device),
            "batches": setting.batches,
            "train_batches": setting.train_batches,
            **{key: getattr(args, key) for key in keys},
        },
        "parts": {name: result.as_json() for name, result in parts.items()},
    }


def make_setting(args: argparse.Namespace) -> Setting:
    """Build the network; raise ValueError or OSError if it cannot be measured."""
    device = chosen_device(args.device)
    cfg = load_config(args.config_file or get_config_file(DEFAULT_CONFIG))
    cfg.MODEL.DEVICE = str(device)
    torch.manual_seed(0)
    model = build_model(cfg)
    if not isinstance(model, YOLOR):
        raise ValueError(f"MODEL.META_ARCHITECTURE is {cfg.MODEL.META_ARCHITECTURE}, not YOLOR")
    if not all(isinstance(head, OWN_HEADS) for head in model.heads.values()):
        raise ValueError("the network has heads that are not yolor_d2's own")
    if args.size % model.canvas_divisor:
        raise ValueError(f"--size must be a multiple of {model.canvas_divisor}, not {args.size}")
    return Setting(
        cfg=cfg,
        model=model,
        size=args.size,
        batches=args.batch or ([1, 32] if device.type == "cuda" else [1]),
        train_batches=args.train_batch or ([1, 32] if device.type == "cuda" else [2]),
        memory_batch=args.memory_batch,
        repeats=args.repeats,
        device=device,
    )


def _measure(args: argparse.Namespace, setting: Setting, work: Path) -> dict[str, Result]:
    """Measure the parts and print each result immediately."""
    print(
        f"\n{device_name(setting.device)}, {args.threads} threads: wall time, median of "
        f"{args.repeats} repeats, with interleaved runs"
    )
    model = setting.model
    images = random_images(1, setting.size, setting.size, setting.device)
    calibrate(model, lambda: model.raw_outputs(images))
    results = {}
    for part in args.parts:
        missing = NEEDS[part] - model.heads.keys()
        if missing:
            print(f"\n{part} is skipped: this network has no {', '.join(sorted(missing))}")
            continue
        results[part] = _measure_part(part, args, setting, work)
        print_result(results[part])
    return results


def _measure_part(part: str, args: argparse.Namespace, setting: Setting, work: Path) -> Result:
    if part == "forward":
        peers = build_peers(args.peers, size=args.size, device=setting.device, work=work)
        return measure_forward(setting, peers)
    measure = {
        "train": measure_training,
        "post": measure_results,
        "caption": measure_captions,
        "memory": measure_memory,
        "activations": measure_activations,
    }
    return measure[part](setting)
