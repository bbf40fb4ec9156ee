"""Data pipeline, in samples per second of CPU time on one core."""

import argparse
import itertools
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, DatasetFromList, MetadataCatalog

from yolor_d2.config import add_yolor_config
from yolor_d2.data.loading.build import build_tokenizer, build_train_loader
from yolor_d2.data.loading.workers import use_one_thread
from yolor_d2.data.views import canvas, strong_view
from yolor_d2.data.views.reading import RecordReader
from yolor_d2.tokenizer import Tokenizer

from . import data_peer
from .datasets import coco_set, toy_set
from .options import add_peer, add_repeats
from .timing import Job, StopWatch, cpu_seconds, measure_in_turns, seconds_per_watched_call

CACHE_MB = 4096
STRONG_TASKS = ("detection", "mask", "semantic")


class Case(NamedTuple):
    """A configuration of the data pipeline to measure."""

    label: str
    tasks: Sequence[str]
    is_cached: bool
    partners: str = "dataset"  # INPUT.STRONG.PARTNERS


# Cases whose time is split into parts.
STRONG_COLD = {"strong_batch_cold": "batch", "strong_cold": "dataset"}
NAMES = {"batch": "batch", "dataset": "data set"}

CASES = {
    "strong_batch_cold": Case(
        "strong view, partners of the batch: boxes, masks, semantic map",
        STRONG_TASKS,
        is_cached=False,
        partners="batch",
    ),
    "strong_cold": Case("strong view, partners of the data set", STRONG_TASKS, False),
    "strong_warm": Case("the same from memory", STRONG_TASKS, True),
    "weak_cold": Case("weak view: image, caption", ("caption",), False),
    "weak_warm": Case("the same from memory", ("caption",), True),
    "four_tasks_cold": Case("all four tasks, both views", (*STRONG_TASKS, "caption"), False),
    "four_tasks_warm": Case("the same from memory", (*STRONG_TASKS, "caption"), True),
}

# Time of these functions without nested calls of the others. REST is all other time.
PARTS: dict[str, Sequence[tuple[Any, str]]] = {
    "decoding images": [(RecordReader, "pixels")],
    "reading semantic maps": [(RecordReader, "labels")],
    "resizing, warping": [(canvas.Canvas, "paint"), (canvas, "warp")],
    "colors (HSV)": [(canvas, "multiply_hsv"), (strong_view, "random_hsv_factors")],
    "objects and masks": [
        (RecordReader, "objects"),
        (canvas.Canvas, "add"),
        (canvas.Canvas, "paste"),
        (canvas.Canvas, "finish"),
        (strong_view.StrongView, "_copy_paste"),
    ],
    "unpickling records": [(DatasetFromList, "__getitem__")],
}
REST = "rest"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--coco",
        type=Path,
        metavar="DIR",
        help="folder with train2017/ and annotations/{instances,captions}_train2017.json",
    )
    source.add_argument(
        "--toy", type=int, default=64, metavar="N", help="generate N toy scenes instead (64)"
    )
    parser.add_argument(
        "--images", type=int, default=250, help="maximum number of COCO images (250)"
    )
    parser.add_argument("--samples", type=int, default=400, help="samples per repeat (400)")
    add_repeats(parser)
    parser.add_argument("--size", type=int, default=640, help="side of both views in pixels (640)")
    add_peer(parser, "ultralytics")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure, print, and return the content of the --json file."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        with _data_set(args, work) as name:
            results = _run(args, name, work)
    _print_results(results)
    return results


def _data_set(args: argparse.Namespace, work: Path) -> AbstractContextManager[str]:
    if args.coco is not None:
        return coco_set(args.coco, images=args.images, work=work)
    return toy_set(images=args.toy, width=args.size, work=work)


def _run(args: argparse.Namespace, name: str, work: Path) -> dict[str, Any]:
    version = data_peer.prepare(work / "config") if args.peer == "ultralytics" else None
    use_one_thread()
    records = DatasetCatalog.get(name)
    own = _own_jobs(args, name, work)
    jobs = {key: own[key] for key in STRONG_COLD}
    if version is not None:  # measured next to the jobs that it is compared with
        jobs["peer"] = data_peer.peer_job(
            records,
            MetadataCatalog.get(name).thing_classes,
            size=args.size,
            samples=args.samples,
            work=work / "peer",
        )
        use_one_thread()  # again, because the peer may have changed the number
    jobs |= own
    seconds = measure_in_turns(jobs, repeats=args.repeats)
    rates = {case: [args.samples / s for s in runs] for case, runs in seconds.items()}
    peer_rates = rates.pop("peer", None)
    return {
        "data": {
            "source": "toy scenes" if args.coco is None else "COCO train2017",
            "images": len(records),
            "objects": sum(len(record["annotations"]) for record in records),
        },
        "settings": {key: getattr(args, key) for key in ("samples", "repeats", "size")},
        "samples_per_second": {case: _summary(values) for case, values in rates.items()},
        "strong_view_time": {
            partners: _time_split(jobs[key], samples=args.samples, repeats=args.repeats)
            for key, partners in STRONG_COLD.items()
        },
        "peer": peer_rates
        and _comparison(
            version, {partners: rates[key] for key, partners in STRONG_COLD.items()}, peer_rates
        ),
    }


def _own_jobs(args: argparse.Namespace, name: str, work: Path) -> dict[str, Job]:
    configs = {key: _config(case, name, args.size, work) for key, case in CASES.items()}
    tokenizer = build_tokenizer(next(iter(configs.values())))
    return {key: _sample_job(cfg, tokenizer, args.samples) for key, cfg in configs.items()}


def _config(case: Case, name: str, size: int, work: Path) -> CfgNode:
    cfg = get_cfg()
    add_yolor_config(cfg)
    cfg.OUTPUT_DIR = str(work / "output")
    cfg.SEED = 0  # the same samples in each call
    cfg.DATASETS.TRAIN = (name,)
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    cfg.DATALOADER.IMAGE_CACHE_MB = CACHE_MB if case.is_cached else 0
    cfg.MODEL.YOLOR.TASKS = list(case.tasks)
    cfg.INPUT.STRONG.SIZE = size
    cfg.INPUT.STRONG.PARTNERS = case.partners
    cfg.INPUT.WEAK.SIZE = size
    return cfg


def _sample_job(cfg: CfgNode, tokenizer: Tokenizer, samples: int) -> Job:
    """Return a job of a training loader's worker. The main process chooses the samples."""
    loader = build_train_loader(cfg, tokenizer=tokenizer)
    requests = list(itertools.islice(iter(loader.sampler), samples))

    def make_samples() -> None:
        for request in requests:
            loader.dataset[request]

    return make_samples


def _time_split(job: Job, *, samples: int, repeats: int) -> dict[str, Any]:
    """Milliseconds per sample of each part, and the overhead of measuring them.

    All numbers are from the repeat with the median time.
    """
    runs: list[tuple[float, StopWatch]] = []
    for _ in range(repeats):
        watch = StopWatch()
        with watch.watch(PARTS):
            runs.append((cpu_seconds(job), watch))
    total, watch = sorted(runs, key=lambda run: run[0])[repeats // 2]
    parts = {part: watch.seconds[part] for part in PARTS}
    parts[REST] = total - sum(parts.values())
    return {
        "parts": {
            part: {"ms": 1000 * spent / samples, "share": spent / total}
            for part, spent in parts.items()
        },
        "ms": 1000 * total / samples,
        "overhead": seconds_per_watched_call() * watch.calls / total,
    }


def _summary(rates: Sequence[float]) -> dict[str, Any]:
    return {"median": statistics.median(rates), "runs": list(rates)}


def _comparison(
    version: str | None, ours: Mapping[str, Sequence[float]], peers: Sequence[float]
) -> dict[str, Any]:
    # Within a repeat, other load of the machine affects both equally.
    ratios = {
        partners: statistics.median(our / peer for our, peer in zip(rates, peers, strict=True))
        for partners, rates in ours.items()
    }
    return {
        "name": "ultralytics",
        "version": version,
        "samples_per_second": _summary(peers),
        "ratios": ratios,
    }


def _print_results(results: Mapping[str, Any]) -> None:
    """Print Markdown for docs/internals/performance.md."""
    data, settings = results["data"], results["settings"]
    print(
        f"\n{data['images']} images of {data['source']}, size {settings['size']}, "
        f"median of {settings['repeats']} x {settings['samples']} samples\n"
    )
    print("| | samples / s | lowest .. highest |\n|---|--:|--:|")
    for case, rates in results["samples_per_second"].items():
        _print_rate(CASES[case].label, rates)
    peer = results["peer"]
    if peer:
        _print_rate(f"{peer['name']} {peer['version']}: boxes, masks", peer["samples_per_second"])
        for partners, ratio in peer["ratios"].items():
            view = f"the strong view with partners of the {NAMES[partners]}"
            print(f"\n{view.capitalize()} is {ratio:.2f} times as fast as {peer['name']}.")
    _print_parts(results["strong_view_time"])


def _print_parts(splits: Mapping[str, Any]) -> None:
    headings = [f"partners of the {NAMES[partners]}, ms | share" for partners in splits]
    print(f"\n| strong view | {' | '.join(headings)} |\n|---|{'--:|--:|' * len(splits)}")
    for part in (*PARTS, REST):
        found = [split["parts"][part] for split in splits.values()]
        cells = [f"{each['ms']:.2f} | {each['share']:.0%}" for each in found]
        print(f"| {part} | {' | '.join(cells)} |")
    totals = [f"{split['ms']:.2f} | 100%" for split in splits.values()]
    print(f"| together | {' | '.join(totals)} |")
    overhead = max(split["overhead"] for split in splits.values())
    print(f"\nMeasuring the parts added {overhead:.1%} to the time.")


def _print_rate(label: str, rates: Mapping[str, Any]) -> None:
    runs = rates["runs"]
    print(f"| {label} | {rates['median']:.0f} | {min(runs):.0f} .. {max(runs):.0f} |")
