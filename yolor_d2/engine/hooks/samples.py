"""Pictures of the first training samples, drawn before the first step."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from detectron2.data import Metadata, MetadataCatalog
from detectron2.engine import HookBase
from matplotlib.figure import Figure
from torch.utils.data import DataLoader

from ...data.views.targets import Objects, read_objects
from ...tokenizer import Tokenizer
from ...visualization import draw_sample
from ..batch_size import training_set
from .harmless import never_fatal

MAX_RECORDS = 5000  # whose labels are counted; more do not change the summary
MAX_CLASSES = 40  # with a bar each


class SamplePictures(HookBase):
    """Draws the first samples of a new run and a summary of its labels before training.

    Args:
        folder: for the pictures.
        number: of samples.
        loader: returns the loader of the training batches, called before training.
        dataset_name: of a training set, whose metadata have names and colors of classes.
        tokenizer: of the captions, if any.
        image_format: "RGB" or "BGR".
    """

    def __init__(
        self,
        folder: Path,
        *,
        number: int,
        loader: Callable[[], Any],
        dataset_name: str,
        tokenizer: Tokenizer | None,
        image_format: str = "RGB",
    ) -> None:
        self.folder = folder
        self.number = number
        self.loader = loader
        self.dataset_name = dataset_name
        self.tokenizer = tokenizer
        self.image_format = image_format

    def before_train(self) -> None:
        loader = self.loader()
        if self.trainer.start_iter > 0 or loader is None:
            return
        draw_first_samples(
            loader,
            self.folder,
            number=self.number,
            metadata=MetadataCatalog.get(self.dataset_name),
            tokenizer=self.tokenizer,
            image_format=self.image_format,
        )


def draw_first_samples(
    loader: DataLoader[Any],
    folder: Path,
    *,
    number: int,
    metadata: Metadata,
    tokenizer: Tokenizer | None,
    image_format: str = "RGB",
) -> None:
    """Draw the first samples of a run and a summary of its labels; a failure is a warning.

    Samples depend on their position alone, so that the samples of the run stay the same.

    Args:
        loader: of `build_train_loader`; it is not iterated over. For other loaders, nothing is
            drawn.
        folder: for the pictures.
        number: of samples.
        metadata: of the data sets: names and colors of classes.
        tokenizer: of the captions, if any.
        image_format: "RGB" or "BGR".
    """
    dataset = training_set(loader)
    if dataset is None:
        return
    with never_fatal("samples"):
        folder.mkdir(parents=True, exist_ok=True)
        for index, request in enumerate(islice(loader.sampler, number)):
            item = dataset[request]
            picture = draw_sample(item, metadata, tokenizer, image_format=image_format)
            path = folder / f"sample_{index:02d}.jpg"
            cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    with never_fatal("labels"):
        objects = list(_some_objects(dataset.records))
        if objects:
            summary = label_summary(objects, class_names=metadata.thing_classes)
            summary.savefig(folder / "labels.png")


def _some_objects(records: Sequence[dict[str, Any]]) -> Iterator[Objects]:
    """The objects of images, evenly spaced in a data set."""
    number = min(len(records), MAX_RECORDS)
    for k in range(number):
        record = records[k * len(records) // number]
        if "annotations" in record:
            yield read_objects(record)


def label_summary(images: Sequence[Objects], *, class_names: Sequence[str]) -> Figure:
    """A figure of class frequencies, box sizes, and numbers of objects per image."""
    classes = np.concatenate([objects.classes for objects in images])
    counts = np.bincount(classes, minlength=len(class_names))
    shown = np.argsort(-counts, kind="stable")[:MAX_CLASSES]
    sides = np.concatenate([_relative_sides(objects) for objects in images])  # (G, 2)
    numbers = [len(objects.classes) for objects in images]

    figure = Figure(figsize=(15, 5), layout="constrained")
    bars, sizes, crowds = figure.subplots(1, 3)
    bars.bar(range(len(shown)), counts[shown])
    bars.set_xticks(range(len(shown)), [class_names[c] for c in shown], rotation=90)
    bars.set_title(f"objects of each class ({len(shown)} of {len(class_names)} classes)")
    sizes.hist2d(sides[:, 0], sides[:, 1], bins=50, range=[[0, 1], [0, 1]], cmin=1)
    sizes.set(xlabel="width", ylabel="height", title="boxes, as a share of the image")
    crowds.hist(numbers, bins=np.arange(max(numbers) + 2) - 0.5)
    crowds.set(xlabel="objects", ylabel="images", title=f"objects in each of {len(images)} images")
    return figure


def _relative_sides(objects: Objects) -> np.ndarray:
    """Widths and heights as fractions of the image's, (G, 2)."""
    return (objects.boxes[:, 2:] - objects.boxes[:, :2]) / [objects.width, objects.height]
