"""Drawing of results, compared with detectron2's Visualizer."""

import argparse
import os
from collections.abc import Mapping
from statistics import median
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.structures import Instances
from detectron2.utils.visualizer import Visualizer
from tabulate import tabulate

from yolor_d2.data.catalog.categories import (
    COCO_LEAVES,
    COCO_PANOPTIC,
    COCO_THINGS,
    LEAF_TO_PANOPTIC,
)
from yolor_d2.data.loading.workers import use_one_thread
from yolor_d2.structures import SemanticMap
from yolor_d2.tools.options import positive
from yolor_d2.visualization import draw_results

from .evaluation import HEIGHT, WIDTH, random_labels, synthetic_data, to_instances, to_segments
from .model_setting import Aim
from .options import add_repeats
from .printing import print_aim
from .timing import Job, measure_in_turns

MAX_MILLISECONDS = 60.0
AIMED = "dense masks, boxes, labels"
PEER = "detectron2's Visualizer"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--objects", type=positive, default=20, help="objects in the image (20)")
    add_repeats(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure, print, and return the content of the --json file."""
    use_one_thread()
    cases = make_cases(args.objects)
    milliseconds = {}
    for case, jobs in cases.items():
        seconds = measure_in_turns(jobs, repeats=args.repeats)
        milliseconds[case] = {name: 1000 * median(runs) for name, runs in seconds.items()}
    print(
        f"\nImage of {WIDTH} x {HEIGHT} with {args.objects} objects; milliseconds of CPU time on "
        f"one core, median of {args.repeats}; load average {os.getloadavg()[0]:.1f}\n"
    )
    rows = [
        [case, times["yolor_d2"], times[PEER], times[PEER] / times["yolor_d2"]]
        for case, times in milliseconds.items()
    ]
    headers = ["", "yolor_d2", PEER, "times as fast"]
    print(tabulate(rows, headers=headers, tablefmt="pipe", floatfmt=".1f"))
    ours = milliseconds[AIMED]["yolor_d2"]
    print_aim(Aim(f"{AIMED} within {MAX_MILLISECONDS:.0f} ms", ours, ours <= MAX_MILLISECONDS))
    return {
        "settings": {"objects": args.objects, "repeats": args.repeats},
        "milliseconds": milliseconds,
    }


def make_cases(objects: int) -> dict[str, Mapping[str, Job]]:
    """For each kind of result, the jobs that draw it."""
    _, results = synthetic_data(1, objects)
    found = to_instances(results)
    dense = Instances(found.image_size, **found.get_fields())
    dense.pred_masks = torch.from_numpy(np.asarray(found.pred_masks))
    labels = random_labels(0)
    leaves = SemanticMap(torch.from_numpy(labels), len(COCO_LEAVES))
    panoptic = np.array(LEAF_TO_PANOPTIC)[labels]  # (H, W)
    return {
        AIMED: _case({"instances": dense}, ("masks", "boxes", "labels")),
        "run lengths, boxes, labels": _case({"instances": found}, ("masks", "boxes", "labels")),
        "semantic map": _case({"sem_seg": leaves}, ("semantic", "labels")),
        "panoptic map": _case(
            {"panoptic_seg": (torch.from_numpy(panoptic + 1), to_segments(panoptic))},
            ("panoptic", "labels"),
        ),
    }


def _case(result: Mapping[str, Any], layers: tuple[str, ...]) -> dict[str, Job]:
    image = _image()
    metadata = SimpleNamespace(
        thing_classes=COCO_THINGS.names,
        thing_colors=COCO_THINGS.colors,
        stuff_classes=COCO_LEAVES.names,
        stuff_colors=COCO_LEAVES.colors,
        panoptic_classes=COCO_PANOPTIC.names,
        panoptic_colors=COCO_PANOPTIC.colors,
    )

    def ours() -> np.ndarray:
        return draw_results(image, result, metadata, layers=layers, score_threshold=0.0)

    def peer() -> np.ndarray:
        visualizer = Visualizer(image, _visualizer_metadata(panoptic="panoptic_seg" in result))
        if "instances" in result:
            drawn = visualizer.draw_instance_predictions(result["instances"])
        elif "sem_seg" in result:
            drawn = visualizer.draw_sem_seg(result["sem_seg"].argmax(dim=0))
        else:
            drawn = visualizer.draw_panoptic_seg(*result["panoptic_seg"])
        return drawn.get_image()

    return {"yolor_d2": ours, PEER: peer}


def _visualizer_metadata(*, panoptic: bool) -> Any:
    """Visualizer looks up panoptic classes in the things and stuff classes."""
    things = COCO_PANOPTIC if panoptic else COCO_THINGS
    stuff = COCO_PANOPTIC if panoptic else COCO_LEAVES
    names = {
        "thing_classes": list(things.names),
        "thing_colors": list(things.colors),
        "stuff_classes": list(stuff.names),
        "stuff_colors": list(stuff.colors),
    }
    return SimpleNamespace(**names, get=lambda key, default=None: names.get(key, default))


def _image() -> np.ndarray:
    """Image with smooth colors, (HEIGHT, WIDTH, 3)."""
    rng = np.random.default_rng(0)
    colors = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(colors, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
