"""COCO's average precision and recall, computed by faster-coco-eval.

Without faster-coco-eval, pycocotools computes the same numbers, only slower.
"""

import contextlib
import functools
import gc
import io
import logging
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from ..missing import NOT_ANNOTATED, Missing
from .chunks import Chunk, GroundTruth, Json, make_columns, split

try:
    from faster_coco_eval.core.coco import COCO
    from faster_coco_eval.core.faster_eval_api import COCOeval_faster as COCOeval

    IMPORT_ERROR = ""
except ImportError as error:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    IMPORT_ERROR = str(error)

logger = logging.getLogger(__name__)

AREAS = {"": 0, "s": 1, "m": 2, "l": 3}  # all, small (< 32 x 32), medium, large (> 96 x 96)
CHUNKS_PER_PROCESS = 4  # a process that has finished early takes another chunk
MAX_DETECTIONS = (1, 10, 100)  # per image and class


class Scores(NamedTuple):
    """Scores over 10 IoU thresholds, 101 recall steps, C categories, AREAS, MAX_DETECTIONS.

    -1 where the ground truth has no object.
    """

    precision: np.ndarray  # (10, 101, C, 4, 3)
    recall: np.ndarray  # (10, C, 4, 3)

    def headline(self) -> dict[str, float]:
        """Return COCO's twelve metrics in percent; NaN if the ground truth has no such object."""
        best = self.precision[..., -1]  # (10, 101, C, 4)
        numbers = {"AP": best[..., 0], "AP50": best[0, ..., 0], "AP75": best[5, ..., 0]}
        numbers |= {f"AP{name}": best[..., area] for name, area in AREAS.items()}
        numbers |= {
            f"AR@{limit}": self.recall[..., 0, index] for index, limit in enumerate(MAX_DETECTIONS)
        }
        numbers |= {f"AR{name}@100": self.recall[..., area, -1] for name, area in AREAS.items()}
        return {name: _mean(values) for name, values in numbers.items()}

    def average_precision(self) -> list[float]:
        """Return the AP of each category in percent."""
        return [_mean(values) for values in np.moveaxis(self.precision[..., 0, -1], 2, 0)]


def _mean(values: np.ndarray) -> float:
    known = values[values > -1]
    return float(100 * known.mean()) if known.size else Missing(NOT_ANNOTATED)


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Disable the garbage collector, which is slow among millions of live objects."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@_without_garbage_collection()
def score(
    dataset: Mapping[str, Any],
    results: Sequence[Json],
    iou_type: str,
    *,
    processes: int = 1,
) -> Scores:
    """Score detections.

    Args:
        dataset: content of a COCO instances file. For masks, objects without a mask are ignored
            like crowds: neither found nor missed.
        results: detections in COCO's result format. Those of unlisted images do not count.
        iou_type: "bbox" or "segm".
        processes: number of processes that score chunks of categories.

    Returns:
        Scores of the file's categories in the order of their ids.
    """
    if IMPORT_ERROR:
        _warn_about_speed()
    truth = GroundTruth(dataset, iou_type)
    columns = make_columns(results, truth.numbers, iou_type)
    chunks = split(truth, columns, CHUNKS_PER_PROCESS * processes if processes > 1 else 1)
    processes = min(processes, len(chunks))
    if processes > 1:
        can_fork = "fork" in multiprocessing.get_all_start_methods()
        with ProcessPoolExecutor(
            processes,
            # A forked process inherits the data without copying or pickling it.
            mp_context=multiprocessing.get_context("fork" if can_fork else None),
            initializer=_init_worker,
            initargs=(chunks,),
        ) as pool:
            parts = list(pool.map(_score_chunk, range(len(chunks))))
    else:
        parts = [_score(chunk) for chunk in chunks]
    order = np.argsort([category for chunk in chunks for category in chunk.categories])
    return Scores(
        np.concatenate([part.precision for part in parts], axis=2)[:, :, order],
        np.concatenate([part.recall for part in parts], axis=1)[:, order],
    )


@functools.cache  # logged once
def _warn_about_speed() -> None:
    logger.warning(
        "faster-coco-eval cannot be imported (%s): pycocotools scores boxes and masks, several "
        "times slower",
        IMPORT_ERROR,
    )


def _score(chunk: Chunk) -> Scores:
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(
            _index(chunk, chunk.objects()), _index(chunk, chunk.detections()), chunk.iou_type
        )
        evaluation.rle_iou_max_workers = 1  # more threads only wait for each other
        evaluation.evaluate()
        evaluation.accumulate()
    return Scores(*(np.asarray(evaluation.eval[name]) for name in Scores._fields))


def _index(chunk: Chunk, annotations: list[Json]) -> COCO:
    index = COCO()
    index.dataset = {
        "images": chunk.images,
        "annotations": annotations,
        "categories": [{"id": category} for category in chunk.categories],
    }
    index.createIndex()
    return index


_chunks: Sequence[Chunk]  # set in worker processes


def _init_worker(chunks: Sequence[Chunk]) -> None:
    global _chunks
    _chunks = chunks
    gc.disable()


def _score_chunk(number: int) -> Scores:
    return _score(_chunks[number])
