"""Predictions of a network and of its exported files, with the time of their parts."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from detectron2.structures import Boxes, Instances
from tabulate import tabulate
from torch import Tensor, nn

from ..data.views.reading import Record, RecordReader
from ..data.views.transforms import resize_long_side, to_planes
from ..inference.loading import Network
from ..letterbox import pad_images
from ..modeling.deploy import to_channels_last
from ..modeling.meta_arch import YOLOR
from ..modeling.results import make_frames
from ..structures import SemanticMap

Clock = Callable[[], float]

PARTS = ("preprocess", "graph", "postprocess", "captions")
METRICS = {  # by column of the table
    "box AP": ("bbox", "AP"),
    "mask AP": ("segm", "AP"),
    "mIoU": ("sem_seg", "mIoU"),
    "PQ": ("panoptic_seg", "PQ"),
    "CIDEr": ("caption", "CIDEr"),
}


class PixelMapper:
    """Adds the decoded image to a record: "pixels", uint8 RGB (height, width, 3)."""

    def __init__(self) -> None:
        self._reader = RecordReader()

    def __call__(self, record: Record) -> Record:
        self._reader.start_sample()
        kept = {key: record[key] for key in ("file_name", "image_id", "height", "width")}
        return {**kept, "pixels": self._reader.pixels(record)}


class TimedModel(nn.Module):
    """Predicts from decoded images, one at a time.

    Attributes:
        seconds: time of all images in each of PARTS.
        images: number of images.
    """

    def __init__(self, *, clock: Clock = time.perf_counter) -> None:
        """
        Args:
            clock: returns the time in seconds.
        """
        super().__init__()
        self._clock = clock
        self.seconds: dict[str, float] = defaultdict(float)
        self.images = 0

    def forward(self, batch: Sequence[Record]) -> list[dict[str, Any]]:
        """Return the results of images in the format of `YOLOR.inference`."""
        self.images += len(batch)
        return [self.predict(sample["pixels"]) for sample in batch]

    def predict(self, pixels: np.ndarray) -> dict[str, Any]:
        raise NotImplementedError

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        start = self._clock()
        yield
        self.seconds[part] += self._clock() - start

    def milliseconds(self) -> dict[str, float]:
        """Return the mean time per image of each part, and their sum."""
        times = {part: 1000 * self.seconds[part] / max(self.images, 1) for part in PARTS}
        return {**times, "ms": sum(times.values())}


class NetworkModel(TimedModel):
    """The network in PyTorch, channels_last."""

    def __init__(self, network: Network, *, clock: Clock = time.perf_counter) -> None:
        super().__init__(clock=clock)
        self.model: YOLOR = to_channels_last(network.model)
        self._recipe = network.recipe

    @torch.no_grad()
    def predict(self, pixels: np.ndarray) -> dict[str, Any]:
        model, height, width = self.model, *pixels.shape[:2]
        with self.timed("preprocess"):
            planes = to_planes(resize_long_side(pixels, self._recipe.test_size))
            if self._recipe.image_format == "BGR":
                planes = np.ascontiguousarray(planes[::-1])
            image = torch.from_numpy(planes)
            canvas, contents = pad_images([image], divisor=model.test_divisor, mode=model.pad)
        with self.timed("graph"):
            raw = model.raw_outputs(canvas, contents)
        with self.timed("postprocess"):
            frames = make_frames([{"height": height, "width": width}], contents, canvas)
            found = model.results(raw._replace(caption=None), frames)[0]
        with self.timed("captions"):
            captions = model.captions(raw.caption)
        return {**found, **(captions[0] if captions else {})}


class ExportedModel(TimedModel):
    """An exported file, run by its runner."""

    def __init__(self, runner: Any) -> None:
        """
        Args:
            runner: a `Runner` of runner.py.
        """
        super().__init__()
        self._runner = runner
        self.seconds = runner.seconds

    def predict(self, pixels: np.ndarray) -> dict[str, Any]:
        return as_predictions(self._runner(pixels), self._runner.facts, size=pixels.shape[:2])


def as_predictions(
    found: Mapping[str, Any], facts: Mapping[str, Any], *, size: tuple[int, ...]
) -> dict[str, Any]:
    """Convert results of a runner to those of `YOLOR.inference`."""
    results = {key: value for key, value in found.items() if key.startswith("caption")}
    if "boxes" in found:
        instances = Instances(size)
        instances.pred_boxes = Boxes(_tensor(found["boxes"]))
        instances.scores = _tensor(found["scores"])
        instances.pred_classes = _tensor(found["classes"])
        if "masks" in found:
            instances.pred_masks = _tensor(found["masks"])
        results["instances"] = instances
    if "semantic" in found:
        labels = _tensor(found["semantic"])
        number = len(facts["classes"].get("stuff_classes", ())) or int(labels.max()) + 1
        results["sem_seg"] = SemanticMap(labels, number)
    if "panoptic" in found:
        results["panoptic_seg"] = _tensor(found["panoptic"]).int(), found["segments"]
    return results


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


def tasks_of(facts: Mapping[str, Any]) -> list[str]:
    """Return the tasks that an exported network predicts, from its model.json."""
    keys = {"detection": "detection", "mask": "mask", "caption": "caption", "panoptic": "panoptic"}
    tasks = [task for task, key in keys.items() if key in facts]
    return [*tasks, *(["semantic"] if "semantic" in facts["outputs"]["vision"] else [])]


def metrics_of(results: Mapping[str, Any]) -> dict[str, float]:
    """Return the METRICS that there are."""
    return {
        column: float(results[task][metric])
        for column, (task, metric) in METRICS.items()
        if metric in results.get(task, {})
    }


def table_of(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Return a table of rows with the same columns."""
    columns = list(next(iter(rows.values())))
    lines = [[name, *(f"{row[column]:.2f}" for column in columns)] for name, row in rows.items()]
    align = ["left", *["right"] * len(columns)]
    return tabulate(lines, ["", *columns], "pipe", colalign=align, disable_numparse=True)
