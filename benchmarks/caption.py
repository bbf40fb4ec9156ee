"""Captions per second: the caption head, full recomputation, and transformers."""

import argparse
import statistics
from functools import partial
from typing import Any

import torch
from detectron2.modeling import build_model

from yolor_d2.model_zoo import get_config_file, load_config
from yolor_d2.modeling.heads import TransformerCaptionHead, VisualTokens
from yolor_d2.modeling.meta_arch import YOLOR
from yolor_d2.tools.options import positive

from . import caption_peer
from .caption_peer import Peer
from .model_captions import BEAMS, endless, recompute, visual_tokens
from .model_setting import Aim, Result, Row, Table, cpu_threads, speedup, time_in_turns
from .options import add_device, add_peer, add_repeats, add_threads
from .printing import chosen_device, device_name, print_result
from .timing import Job

DEFAULT_CONFIGS = ("toy/yolor_elan_n_toy.yaml", "COCO/yolor_elan_mtl.yaml")
AIMS = {1: 1.0, 32: 1.5}  # batch size: minimum speedup over transformers
OURS, RECOMPUTED, PEER = "ours", "recomputed", "transformers"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument(
        "--config-file", nargs="+", metavar="FILE", help="networks to measure (toy and COCO)"
    )
    parser.add_argument(
        "--size", type=positive, help="side of the square images in pixels (INPUT.TEST_SIZE)"
    )
    parser.add_argument(
        "--batch", type=positive, nargs="+", default=list(AIMS), metavar="N", help="images (1 32)"
    )
    parser.add_argument("--tokens", type=positive, default=20, help="length of each caption (20)")
    add_repeats(parser)
    add_device(parser)
    add_threads(parser)
    add_peer(parser, "transformers")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure, print, and return the content of the --json file."""
    try:
        with cpu_threads(args.threads):
            return _run(args)
    except (ValueError, OSError) as error:
        raise SystemExit(f"benchmark caption: {error}") from None


def _run(args: argparse.Namespace) -> dict[str, Any]:
    device = chosen_device(args.device)
    version = caption_peer.version() if args.peer != "none" else None
    print(
        f"\n{device_name(device)}, {args.threads} threads: captions of {args.tokens} tokens, "
        f"median of {args.repeats} repeats, with interleaved runs"
    )
    results = {}
    for name in args.config_file or [get_config_file(name) for name in DEFAULT_CONFIGS]:
        results[str(name)] = _measure_network(str(name), args, device, version).as_json()
    return {
        "settings": {
            "device": device_name(device),
            "transformers": version,
            **{key: getattr(args, key) for key in ("batch", "tokens", "repeats", "threads")},
        },
        "networks": results,
    }


@torch.no_grad()
def _measure_network(
    config_file: str, args: argparse.Namespace, device: torch.device, version: str | None
) -> Result:
    cfg = load_config(config_file)
    cfg.MODEL.DEVICE = str(device)
    torch.manual_seed(0)
    model = build_model(cfg)
    if not isinstance(model, YOLOR) or not isinstance(model.caption_head, TransformerCaptionHead):
        raise ValueError(f"{config_file}: the network has no TransformerCaptionHead")
    head = endless(model.caption_head)
    peer = Peer(head) if version else None
    result = Result([], [])
    for batch in args.batch:
        tokens = visual_tokens(model, head, batch, size=args.size or cfg.INPUT.TEST_SIZE)
        rows: dict[str, Row] = {}
        for search, beam_size in BEAMS.items():
            jobs = make_jobs(head, peer, tokens, beam_size=beam_size, new_tokens=args.tokens)
            times = time_in_turns(jobs, repeats=args.repeats, device=device)
            rows |= {f"{search}, {name}": row for name, row in _rows(times, batch).items()}
            if peer is not None and batch in AIMS:
                factor = speedup(times[PEER], times[OURS])
                text = f"{search}, batch {batch}: at least {AIMS[batch]} times as fast as {PEER}"
                result.aims.append(Aim(text, factor, factor >= AIMS[batch]))
        result.tables.append(Table(f"{_shape(head, tokens)}; batch {batch}", rows))
    print_result(result)
    return result


def make_jobs(
    head: TransformerCaptionHead,
    peer: Peer | None,
    tokens: VisualTokens,
    *,
    beam_size: int,
    new_tokens: int,
) -> dict[str, Job]:
    """Jobs that each decode `new_tokens` tokens after the begin token, checked by a first run.

    The last token of yolor_d2's captions is the end token.
    """
    options = {"beam_size": beam_size, "max_tokens": new_tokens + 1}
    jobs: dict[str, Job] = {
        RECOMPUTED: partial(recompute, head, tokens, **options),
        OURS: partial(head.generate, tokens, **options),
    }
    lengths = {OURS: head.generate(tokens, **options).lengths}
    if peer is not None:
        job = partial(peer.generate, tokens, beam_size=beam_size, new_tokens=new_tokens)
        lengths[PEER] = (job() != head.pad_id).sum(dim=1)
        jobs[PEER] = job
    for name, length in lengths.items():
        if not bool((length == new_tokens + 1).all()):
            raise RuntimeError(f"{name}: {length.tolist()} tokens instead of {new_tokens + 1}")
    return jobs


def _rows(times: dict[str, list[float]], captions: int) -> dict[str, Row]:
    """Captions per second of each job, and the speedup of yolor_d2 over it."""
    rows = {}
    for name, runs in times.items():
        rows[name] = {
            "captions / s": captions / statistics.median(runs),
            "lowest": captions / max(runs),
            "highest": captions / min(runs),
            "ours is faster": speedup(runs, times[OURS]),
        }
    return rows


def _shape(head: TransformerCaptionHead, tokens: VisualTokens) -> str:
    words, dim = head.text.words.weight.shape
    layers = len(list(head.decoder.layers))
    return f"{layers} layers of {dim}, {words:,} words, {tokens.tokens.shape[1]} visual tokens"
