"""Networks of ultralytics, trained by its own trainer, with the interface of detectron2's networks.

ultralytics (AGPL-3.0) is an optional package, not a requirement of yolor_d2. Only its public
interface is used.
"""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from detectron2.data import MetadataCatalog, get_detection_dataset_dicts
from detectron2.structures import Boxes, Instances
from torch import nn

from yolor_d2.data.views.reading import Record

from .data_peer import write_labels
from .model_setting import million_parameters
from .trained import Trained

# For runs of a few epochs: its automatic optimizer and mosaics are for hundreds of them.
SHORT_RUN = {"optimizer": "AdamW", "lr0": 0.003, "mosaic": 0.0, "close_mosaic": 0}
MIN_SCORE, MAX_OBJECTS = 0.001, 100  # of predictions to score


class Recipe(NamedTuple):
    """A network of ultralytics, and arguments of its training that are not the defaults."""

    network: str
    settings: Mapping[str, Any] = {}


RECIPES = {
    "yolo11n-seg": Recipe("yolo11n-seg.yaml"),
    "yolo11n-seg-tuned": Recipe("yolo11n-seg.yaml", SHORT_RUN),
    "yolo26n-seg": Recipe("yolo26n-seg.yaml"),
    "yolo26n-seg-tuned": Recipe("yolo26n-seg.yaml", SHORT_RUN),
}


def train(
    name: str, *, data_set: str, size: int, batch: int, images: int, seed: int, work: Path
) -> Trained:
    """Train a network from random weights for the number of epochs nearest to `images`.

    `prepare` must have been called.

    Args:
        name: a key of RECIPES.
        data_set: registered name.
        size: long side of the images in pixels.
        batch: images per step.
        images: number of images to see.
        seed: of its random numbers.
        work: new folder for its files.
    """
    from ultralytics import YOLO

    records = get_detection_dataset_dicts(data_set, filter_empty=False)
    classes = MetadataCatalog.get(data_set).thing_classes
    data = _write_data(records, classes, work / "data")
    files = len(list((work / "data" / "images").iterdir()))  # links, several to an image of few
    epochs = max(round(images / files), 1)
    network = YOLO(RECIPES[name].network)
    validation: list[float] = []  # after the last epoch, also without `val`
    network.add_callback("on_val_start", lambda _: validation.append(-time.process_time()))
    network.add_callback("on_val_end", lambda _: validation.append(time.process_time()))
    started = time.process_time()
    network.train(
        data=str(data),
        project=str(work / "runs"),
        imgsz=size,
        batch=batch,
        epochs=epochs,
        seed=seed,
        device="cpu",
        workers=0,  # so that loading counts as CPU time of this process
        val=False,
        plots=False,
        pretrained=False,
        **RECIPES[name].settings,
    )
    seconds = time.process_time() - started - sum(validation)
    parameters = million_parameters(network.model)
    return Trained(UltralyticsNetwork(network, size), epochs * files, seconds, parameters)


def _write_data(records: Sequence[Record], classes: Sequence[str], folder: Path) -> Path:
    """Write images and labels as ultralytics reads them; it insists on a validation set."""
    write_labels(records, images=folder / "images", labels=folder / "labels")
    path = folder / "data.yaml"
    content = {"path": str(folder), "train": "images", "val": "images"}
    path.write_text(json.dumps({**content, "names": dict(enumerate(classes))}))  # JSON is YAML
    return path


class UltralyticsNetwork(nn.Module):
    """Predicts from image files.

    Args:
        network: has a method `predict`.
        size: long side of the images in pixels.
    """

    def __init__(self, network: Any, size: int) -> None:
        super().__init__()
        self.network = [network]  # hidden: its own train() starts a training
        self.size = size

    def forward(self, samples: Sequence[Mapping[str, Any]]) -> list[dict[str, Instances]]:
        return [{"instances": self._predict(sample["file_name"])} for sample in samples]

    def _predict(self, path: str) -> Instances:
        (result,) = self.network[0].predict(
            path,
            imgsz=self.size,
            conf=MIN_SCORE,
            max_det=MAX_OBJECTS,
            retina_masks=True,  # at the size of the image
            device="cpu",
            verbose=False,
        )
        found = Instances(result.orig_shape)
        found.pred_boxes = Boxes(result.boxes.xyxy.cpu())
        found.scores = result.boxes.conf.cpu()
        found.pred_classes = result.boxes.cls.long().cpu()
        masks = None if result.masks is None else result.masks.data.cpu() > 0.5
        found.pred_masks = (
            torch.zeros(0, *result.orig_shape, dtype=torch.bool) if masks is None else masks
        )
        return found
