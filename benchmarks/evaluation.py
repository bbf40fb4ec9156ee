"""Evaluation of boxes and masks, compared with pycocotools, and of maps."""

import argparse
import contextlib
import copy
import gc
import io
import os
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, Instances
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tabulate import tabulate

from yolor_d2.data.catalog.categories import COCO_LEAVES, COCO_PANOPTIC, COCO_THINGS
from yolor_d2.data.catalog.datasets import register_coco_multitask
from yolor_d2.data.files.semantic_files import write_index_png
from yolor_d2.data.loading.workers import use_one_thread
from yolor_d2.evaluation.coco.scoring import Json, score
from yolor_d2.evaluation.panoptic.evaluator import PanopticEvaluator
from yolor_d2.evaluation.semantic import SemanticEvaluator
from yolor_d2.files import write_json
from yolor_d2.structures import RLEMasks, SemanticMap, instances_to_coco_json

from .model_setting import Aim
from .options import add_repeats
from .printing import print_aim
from .timing import cpu_seconds

Scorer = Callable[[], np.ndarray]

NAME = "yolor_d2_benchmark_evaluation"
HEIGHT, WIDTH = 480, 640
OBJECTS = 7  # per image, as in COCO
SHAPES = 2000  # number of different masks
MAP_IMAGES = 20  # images with semantic and panoptic maps
MAPS = ("semantic map", "panoptic map")
ID_STEP = 150_001  # makes ids of true segments as large as in COCO
MAX_DIFFERENCE = 1e-9
SHARING_AIM = 1.8  # speedup by two processes
AIMS = {"bbox": 2.3, "segm": 1.3}  # minimum speedup over pycocotools


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--images", type=int, default=5000, help="images (5000)")
    parser.add_argument("--detections", type=int, default=100, help="detections per image (100)")
    parser.add_argument(
        "--processes", type=int, default=2, help="processes of a second measurement (2)"
    )
    add_repeats(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure, print, and return the content of the --json file."""
    use_one_thread()
    dataset, results = synthetic_data(args.images, args.detections)
    print(
        f"\n{args.images} images of {HEIGHT} x {WIDTH}, {OBJECTS} objects and {args.detections} "
        "detections each; seconds of CPU time in one process"
    )
    scoring = {task: _compare(dataset, results, task, args) for task in AIMS}
    processing = _measure_processing(args.detections)
    maps = {name: processing[name] * args.images / 1000 for name in MAPS}
    _print_scoring(scoring, maps)
    _print_sharing(scoring, args.processes)
    print("\nProcessing of each image before that, in milliseconds of CPU time\n")
    print(tabulate(processing.items(), tablefmt="pipe", floatfmt=".2f", headers=["", "ms"]))
    keys = ("images", "detections", "processes", "repeats")
    return {
        "settings": {key: getattr(args, key) for key in keys},
        "scoring": scoring,
        "milliseconds_per_image": processing,
    }


class Shapes:
    """Synthetic objects and detections with masks from a fixed set."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.rles = [_ellipse(rng) for _ in range(SHAPES)]
        self.boxes = coco_mask.toBbox(self.rles)  # (SHAPES, 4)
        self.classes = np.array(COCO_THINGS.ids)

    def objects(self, image: int, first_id: int) -> list[Json]:
        """Annotations of an image. As in COCO, most objects belong to a few classes."""
        classes = self.classes[self.rng.zipf(1.5, OBJECTS) % len(self.classes)].tolist()
        shapes = self.rng.integers(SHAPES, size=OBJECTS).tolist()
        return [
            {
                "id": first_id + number,
                "image_id": image,
                "category_id": category,
                "iscrowd": int(self.rng.random() < 0.01),
                "bbox": self.boxes[shape].tolist(),
                "area": float(coco_mask.area(self.rles[shape])),
                "segmentation": self.rles[shape],
            }
            for number, (category, shape) in enumerate(zip(classes, shapes, strict=True))
        ]

    def detections(self, objects: list[Json], number: int) -> list[Json]:
        """Boxes near objects: half with the right class, a third with the right mask."""
        results = []
        for source in self.rng.integers(OBJECTS, size=number).tolist():
            item = objects[source]
            x, y, width, height = (np.array(item["bbox"]) + self.rng.normal(0, 3, 4)).tolist()
            right_class, right_mask = self.rng.random(2) < (1 / 2, 1 / 3)
            category = item["category_id"] if right_class else int(self.rng.choice(self.classes))
            mask = item["segmentation"] if right_mask else self.rles[self.rng.integers(SHAPES)]
            results.append(
                {
                    "image_id": item["image_id"],
                    "category_id": category,
                    "bbox": [x, y, max(width, 1.0), max(height, 1.0)],
                    "score": float(self.rng.random()),
                    "segmentation": mask,
                }
            )
        return results


def synthetic_data(images: int, detections: int) -> tuple[Json, list[Json]]:
    """Content of a COCO instances file, and results in COCO's format."""
    shapes = Shapes(np.random.default_rng(0))
    annotations: list[Json] = []
    results: list[Json] = []
    for image in range(1, images + 1):
        objects = shapes.objects(image, first_id=len(annotations) + 1)
        annotations += objects
        results += shapes.detections(objects, detections)
    dataset = {
        "images": [_image(number) for number in range(1, images + 1)],
        "annotations": annotations,
        "categories": [{"id": category} for category in COCO_THINGS.ids],
    }
    return dataset, results


def _image(number: int) -> Json:
    return {"id": number, "file_name": f"{number}.jpg", "height": HEIGHT, "width": WIDTH}


def _ellipse(rng: np.random.Generator) -> Json:
    """Run-length encoded ellipse at a random position. Small ellipses are frequent."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    center = int(rng.integers(WIDTH)), int(rng.integers(HEIGHT))
    axes = [int(4 + 120 * rng.random() ** 3) for _ in range(2)]
    cv2.ellipse(mask, center, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
    rle = coco_mask.encode(np.asfortranarray(mask))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def scorers(
    dataset: Json, results: list[Json], task: str, *, processes: int = 1
) -> dict[str, Scorer]:
    """Functions that compute COCO's twelve metrics with yolor_d2 and with pycocotools.

    "shared" is yolor_d2 with several processes. pycocotools modifies its inputs, so its function
    can be called only once.
    """
    kept = ("image_id", "category_id", "score", "bbox" if task == "bbox" else "segmentation")
    own_results = [{key: result[key] for key in kept} for result in results]
    own_dataset = copy.deepcopy(dataset)

    def ours(processes: int) -> np.ndarray:
        headline = score(dataset, results, task, processes=processes).headline()
        return np.array([*headline.values()]) / 100

    def reference() -> np.ndarray:
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO()
            truth.dataset = own_dataset
            truth.createIndex()
            evaluation = COCOeval(truth, truth.loadRes(own_results), task)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return evaluation.stats

    return {
        "yolor_d2": partial(ours, 1),
        "shared": partial(ours, processes),
        "pycocotools": reference,
    }


def _compare(
    dataset: Json, results: list[Json], task: str, args: argparse.Namespace
) -> dict[str, float]:
    """Seconds of yolor_d2, with one process and several in turns, and of pycocotools, once.

    Their metrics must agree. "seconds on free cores" are predicted from CPU time: that of this
    process, which no other shares, and that of the others, divided by their number.
    """
    jobs = scorers(dataset, results, task, processes=args.processes)
    reference = _timed(jobs.pop("pycocotools"))
    turns = [{name: _timed(job) for name, job in jobs.items()} for _ in range(args.repeats)]
    for name, run in turns[0].items():
        difference = np.abs(run.numbers - reference.numbers).max()
        if not difference <= MAX_DIFFERENCE:
            raise SystemExit(f"benchmark evaluation: {task} differs by {difference} ({name})")
    rows = [
        {
            "yolor_d2": turn["yolor_d2"].cpu,
            "alone": turn["yolor_d2"].wall,
            "shared": turn["shared"].wall,
            "serial": turn["shared"].cpu,
            "parallel": turn["shared"].children,
            "seconds on free cores": turn["shared"].on_free_cores(args.processes),
            "gain": turn["yolor_d2"].cpu / turn["shared"].on_free_cores(args.processes),
        }
        for turn in turns
    ]
    medians = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
    return {
        **medians,
        "pycocotools": reference.cpu,
        "times as fast": reference.cpu / medians["yolor_d2"],
        "AP": 100 * float(turns[0]["yolor_d2"].numbers[0]),
    }


class _Timed(NamedTuple):
    """Metrics and seconds of a scorer."""

    numbers: np.ndarray
    cpu: float  # of this process
    children: float  # CPU time of all child processes
    wall: float

    def on_free_cores(self, processes: int) -> float:
        """Predicted wall time, if each process had a core."""
        return self.cpu + self.children / processes


def _timed(scorer: Scorer) -> _Timed:
    gc.collect()
    cpu, children, wall = time.process_time(), _cpu_seconds_of_children(), time.perf_counter()
    numbers = scorer()
    return _Timed(
        numbers,
        cpu=time.process_time() - cpu,
        children=_cpu_seconds_of_children() - children,
        wall=time.perf_counter() - wall,
    )


def _cpu_seconds_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _print_scoring(scoring: dict[str, dict[str, float]], maps: dict[str, float]) -> None:
    columns = ("yolor_d2", "pycocotools", "times as fast", "AP")
    rows = [[task, *(numbers[column] for column in columns)] for task, numbers in scoring.items()]
    rows += [[f"{name} (from {MAP_IMAGES} images)", seconds] for name, seconds in maps.items()]
    print(tabulate(rows, headers=["", *columns], tablefmt="pipe", floatfmt=".2f"))
    for task, aim in AIMS.items():
        speed = scoring[task]["times as fast"]
        text = f"{task} at least {aim} times as fast as pycocotools"
        print_aim(Aim(text, speed, speed >= aim))


def _print_sharing(scoring: dict[str, dict[str, float]], processes: int) -> None:
    # On a busy machine several processes gain little wall time, so the load is printed, and a
    # prediction from CPU times.
    busy, cores = os.getloadavg()[0], os.cpu_count()
    print(
        f"\nMedian seconds on {cores} cores with a load average of {busy:.1f}; {processes} "
        "processes share the categories\n"
    )
    columns = ("alone", "shared", "yolor_d2", "serial", "parallel", "seconds on free cores")
    seconds = {task: [numbers[name] for name in columns] for task, numbers in scoring.items()}
    seconds["both"] = [sum(values) for values in zip(*seconds.values(), strict=True)]
    gains = {task: values[2] / values[-1] for task, values in seconds.items()}
    rows = [[task, *values, gains[task]] for task, values in seconds.items()]
    headers = ["", "wall: one process", f"{processes} processes", "CPU: one process", "serial part"]
    headers += [f"{processes} processes", "predicted wall on free cores", "times as fast"]
    print(tabulate(rows, headers=headers, tablefmt="pipe", floatfmt=".2f"))
    text = f"{processes} processes at least {SHARING_AIM} times as fast as one, on free cores"
    if processes == 2:
        print_aim(Aim(text, gains["both"], gains["both"] >= SHARING_AIM))


def _measure_processing(detections: int) -> dict[str, float]:
    """Milliseconds per image of each kind of result."""
    _, results = synthetic_data(MAP_IMAGES, detections)
    found = [
        to_instances(results[n * detections : (n + 1) * detections]) for n in range(MAP_IMAGES)
    ]
    plain = [Instances(i.image_size, **i.get_fields()) for i in found]
    for instances in plain:
        instances.pred_masks = torch.from_numpy(np.asarray(instances.pred_masks))
    with TemporaryDirectory() as folder, _registered_maps(Path(folder)) as records:
        maps = [random_labels(number) for number in range(MAP_IMAGES)]
        semantic, panoptic = SemanticEvaluator(NAME), PanopticEvaluator(NAME)
        outputs = [
            {
                "sem_seg": SemanticMap(torch.from_numpy(labels), len(COCO_LEAVES)),
                "panoptic_seg": (torch.from_numpy(labels + 1).int(), to_segments(labels)),
            }
            for labels in maps
        ]
        jobs = {
            "boxes and masks as run lengths": lambda: [instances_to_coco_json(i, 1) for i in found],
            "boxes and dense masks": lambda: [instances_to_coco_json(i, 1) for i in plain],
            MAPS[0]: lambda: semantic.process(records, outputs),
            MAPS[1]: lambda: panoptic.process(records, outputs),
        }
        return {name: 1000 * cpu_seconds(job) / MAP_IMAGES for name, job in jobs.items()}


def to_instances(results: list[Json]) -> Instances:
    """Convert results of one image to predictions of a model."""
    instances = Instances((HEIGHT, WIDTH))
    boxes = torch.tensor([result["bbox"] for result in results])  # (D, 4)
    boxes[:, 2:] += boxes[:, :2]
    instances.pred_boxes = Boxes(boxes)
    instances.scores = torch.tensor([result["score"] for result in results])
    index = COCO_THINGS.id_to_index
    instances.pred_classes = torch.tensor([index[result["category_id"]] for result in results])
    instances.pred_masks = RLEMasks([r["segmentation"] for r in results], HEIGHT, WIDTH)
    return instances


def random_labels(number: int) -> np.ndarray:
    """Label map of rectangular patches, (HEIGHT, WIDTH) uint8."""
    rng = np.random.default_rng(number)
    patches = rng.integers(80, 92, (6, 8)).astype(np.uint8)
    return np.kron(patches, np.ones((HEIGHT // 6, WIDTH // 8), np.uint8))


def to_segments(labels: np.ndarray) -> list[Json]:
    """Segment infos of a label map; the id of a segment is its label plus one."""
    present = np.unique(labels).tolist()
    return [{"id": label + 1, "category_id": label, "isthing": False} for label in present]


@contextlib.contextmanager
def _registered_maps(folder: Path) -> Iterator[list[Json]]:
    """Register images with semantic and panoptic maps while the context is open."""
    (folder / "semantic").mkdir()
    annotations = []
    for number in range(MAP_IMAGES):
        labels = random_labels(number)
        write_index_png(folder / f"semantic/{number}.png", labels)
        ids = labels.astype(int) * ID_STEP
        colors = np.stack([ids % 256, ids // 256 % 256, ids // 256**2], axis=2)
        Image.fromarray(colors.astype(np.uint8)).save(folder / f"{number}.png")
        segments = [
            {"id": label * ID_STEP, "category_id": COCO_PANOPTIC.ids[label], "iscrowd": 0}
            for label in np.unique(labels).tolist()
        ]
        entry = {"image_id": number, "file_name": f"{number}.png", "segments_info": segments}
        annotations.append(entry)
    path = folder / "panoptic.json"
    images = [_image(number) for number in range(MAP_IMAGES)]
    write_json(path, {"images": images, "annotations": annotations})
    register_coco_multitask(
        NAME,
        folder,
        sem_seg_root=folder / "semantic",
        sem_seg=COCO_LEAVES,
        panoptic_root=folder,
        panoptic_json=path,
        panoptic=COCO_PANOPTIC,
    )
    try:
        yield DatasetCatalog.get(NAME)
    finally:
        DatasetCatalog.remove(NAME)
        for name in (NAME, f"{NAME}_panoptic"):
            MetadataCatalog.remove(name)
