"""Writes the predictions of a network as a data set in COCO's formats."""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from ..data.catalog.categories import IGNORE_LABEL
from ..data.catalog.coco_join import IMAGE_SUFFIXES
from ..data.files.contents import read_bytes
from ..data.files.semantic_files import CLASS_FILE, write_index_png
from ..errors import OptionError, OutputError
from ..files import replace_file, write_json
from .labels import ImageLabels, LabelClasses, Thresholds, make_labels
from .media import VIDEO_SUFFIXES, OnError, open_inputs
from .prediction import Json, Prediction, describe
from .predictor import Predictor

IMAGES, ANNOTATIONS = "train", "annotations"  # folders of the data set
MARK = "labels.json"  # in ANNOTATIONS; only folders with it are overwritten
STAGING = ".label"  # holds the data set until it is complete


def check_inputs(inputs: Sequence[str]) -> None:
    """Raise a ValueError for videos, cameras and streams."""
    for name in inputs:
        is_camera = name.isdecimal() and not Path(name).exists()
        if is_camera or "://" in name or Path(name).suffix.lower() in VIDEO_SUFFIXES:
            raise OptionError(f"{name}: only images, folders and zip files can be labeled")


def check_output(folder: Path, inputs: Sequence[str], *, overwrite: bool) -> None:
    """Raise a ValueError if labels must not be written to a folder."""
    place = folder.resolve()
    for name in inputs:
        if os.path.exists(name) and place in (Path(name).resolve(), *Path(name).resolve().parents):
            raise OutputError(f"{folder}: contains {name}; choose another output folder")
    taken = [name for name in (ANNOTATIONS, IMAGES) if os.path.lexists(folder / name)]
    if taken and not overwrite:
        raise OutputError(f"{folder}: has {taken[0]}; choose another folder, or --overwrite it")
    if taken and not (folder / ANNOTATIONS / MARK).is_file():
        raise OutputError(f"{folder}: its {taken[0]} are not from yolor-d2 label; choose another")


class LabelWriter:
    """A context manager that writes a data set; it is in its folder only when it is complete.

    Args:
        folder: created if missing. Labels that an earlier run wrote there are replaced.
        classes: classes of the network.
        thresholds: what becomes a label.
        description: facts about the labels, for MARK.
        link: make symbolic links to the images instead of copies, where possible.

    Attributes:
        seconds: durations of the predictions.
        objects: number of sure objects of each class.
        unsure: number of unsure objects.
        without_objects: number of images without a sure object.
        pixels, unknown_pixels: number of pixels of semantic maps.
    """

    def __init__(
        self,
        folder: Path,
        classes: LabelClasses,
        *,
        thresholds: Thresholds,
        description: Mapping[str, Any],
        link: bool = False,
    ) -> None:
        self.folder = folder
        self.classes = classes
        self.thresholds = thresholds
        self.seconds: list[float] = []
        self.objects: Counter[str] = Counter()
        self.unsure = self.without_objects = self.pixels = self.unknown_pixels = 0
        self._description = dict(description)
        self._link = link
        self._staging = folder / STAGING
        self._stems: set[str] = set()
        self._images: list[Json] = []
        self._entries: dict[str, list[Json]] = {"instances": [], "captions": [], "panoptic": []}

    def __enter__(self) -> "LabelWriter":
        self._is_new = not self.folder.exists()
        self._remove_staging()  # of a run that was killed
        (self._staging / IMAGES).mkdir(parents=True)
        (self._staging / ANNOTATIONS).mkdir()
        return self

    def __exit__(self, *error: object) -> None:
        self._remove_staging()
        if self._is_new:
            with suppress(OSError):
                self.folder.rmdir()  # if nothing was written

    def _remove_staging(self) -> None:
        if self._staging.exists():
            shutil.rmtree(self._staging)

    def add(self, prediction: Prediction) -> str:
        """Write the image and the maps of a prediction; returns a line about its labels."""
        labels = make_labels(prediction, self.classes, self.thresholds)
        name = self._write_image(prediction)
        number = len(self._images) + 1
        size = {"width": prediction.width, "height": prediction.height}
        self._images.append({"id": number, "file_name": name, **size})
        self._add_entries(labels, number)
        self._write_maps(labels, Path(name).stem, number)
        self.seconds.append(prediction.seconds)
        return self._describe(labels, size)

    def finish(self) -> None:
        """Write the JSON files and move the data set to its folder, if it has an image."""
        if not self._images:
            return
        annotations, classes = self._staging / ANNOTATIONS, self.classes
        if classes.things is not None:
            self._write_entries("instances", classes.things.to_coco())
        if classes.panoptic is not None:
            self._write_entries("panoptic", classes.panoptic.to_coco())
        if classes.captions:
            self._write_entries("captions", None)
        if classes.sem_seg is not None:
            rows = [{"index": i, **entry} for i, entry in enumerate(classes.sem_seg.to_coco())]
            content = {"ignore_label": IGNORE_LABEL, "categories": rows}
            write_json(annotations / f"semantic_{IMAGES}" / CLASS_FILE, content)
        write_json(annotations / MARK, self._description, indent=1)
        self._publish()

    def _write_entries(self, kind: str, categories: list[Json] | None) -> None:
        content: Json = {
            "info": {"description": "labels predicted by a network"},
            "images": self._images,
            "annotations": self._entries[kind],
        }
        if categories is not None:
            content["categories"] = categories  # last, where they are read fastest
        write_json(self._staging / ANNOTATIONS / f"{kind}_{IMAGES}.json", content)

    def _publish(self) -> None:
        """Replace the folders; annotations never name an image that is not there."""
        for name in (ANNOTATIONS, IMAGES):
            if os.path.lexists(self.folder / name):
                os.replace(self.folder / name, self._staging / f"earlier_{name}")
        for name in (IMAGES, ANNOTATIONS):
            os.replace(self._staging / name, self.folder / name)

    def _write_image(self, prediction: Prediction) -> str:
        """Copy or link the image; formats that data sets cannot have become PNG."""
        source = prediction.source
        suffix = Path(source).suffix
        is_readable = suffix.lower() in IMAGE_SUFFIXES
        name = self._free_name(Path(source).stem, suffix if is_readable else ".png")
        path = self._staging / IMAGES / name
        if not is_readable:
            pixels = cv2.cvtColor(prediction.image, cv2.COLOR_RGB2BGR)
            replace_file(path, cv2.imencode(".png", pixels)[1].tobytes())
        elif self._link and os.path.isfile(source):
            path.symlink_to(os.path.abspath(source))
        elif os.path.isfile(source):
            shutil.copyfile(source, path)
        else:  # in an archive
            path.write_bytes(read_bytes(source))
        return name

    def _free_name(self, stem: str, suffix: str) -> str:
        """Return an unused file name; maps have the stems of their images."""
        free, number = stem, 1
        # File systems can be case-insensitive.
        while free.lower() in self._stems:
            number += 1
            free = f"{stem}_{number}"
        self._stems.add(free.lower())
        return f"{free}{suffix}"

    def _add_entries(self, labels: ImageLabels, number: int) -> None:
        instances, captions = self._entries["instances"], self._entries["captions"]
        for entry in labels.objects or ():
            instances.append({"id": len(instances) + 1, "image_id": number, **entry})
        if labels.objects is not None:
            sure = self._names(labels)
            self.objects.update(sure)
            self.unsure += len(labels.objects) - len(sure)
            self.without_objects += not sure
        if labels.caption and labels.caption.strip():
            entry = {"id": len(captions) + 1, "image_id": number, "caption": labels.caption}
            captions.append(entry)

    def _write_maps(self, labels: ImageLabels, stem: str, number: int) -> None:
        annotations = self._staging / ANNOTATIONS
        if labels.labels is not None:
            write_index_png(annotations / f"semantic_{IMAGES}" / f"{stem}.png", labels.labels)
            self.pixels += labels.labels.size
            self.unknown_pixels += int(np.count_nonzero(labels.labels == IGNORE_LABEL))
        if labels.ids is not None:
            path = annotations / f"panoptic_{IMAGES}" / f"{stem}.png"
            path.parent.mkdir(exist_ok=True)
            ids = labels.ids
            colors = np.stack([ids % 256, ids // 256 % 256, ids // 256**2], axis=2)  # (H, W, 3)
            Image.fromarray(colors.astype(np.uint8)).save(path)
            self._entries["panoptic"].append(
                {"image_id": number, "file_name": path.name, "segments_info": labels.segments}
            )

    def _names(self, labels: ImageLabels) -> list[str]:
        """Return the class names of the sure objects."""
        things = self.classes.things
        assert things is not None
        sure = [entry for entry in labels.objects or () if not entry["iscrowd"]]
        return [things.names[things.id_to_index[entry["category_id"]]] for entry in sure]

    def _describe(self, labels: ImageLabels, size: Json) -> str:
        content: Json = dict(size)
        unsure = 0
        if labels.objects is not None:
            names = self._names(labels)
            content["instances"] = [{"category_name": name} for name in names]
            unsure = len(labels.objects) - len(names)
        if labels.labels is not None and self.classes.sem_seg is not None:
            areas = np.bincount(labels.labels.ravel(), minlength=len(self.classes.sem_seg))
            pairs = zip(self.classes.sem_seg.names, areas.tolist(), strict=False)
            content["sem_seg"] = [{"category_name": n, "area": area} for n, area in pairs if area]
        if labels.caption is not None:
            content["caption"] = labels.caption
        return describe(content) + (f"; {unsure} unsure" if unsure else "")


def write_labels(
    predictor: Predictor,
    inputs: Sequence[str],
    writer: LabelWriter,
    *,
    on_error: OnError,
    report: Callable[[str], None],
) -> None:
    """Label all inputs; the arguments are those of `write_predictions`."""
    predictor.model.with_probabilities = writer.classes.sem_seg is not None
    for media in open_inputs(inputs, on_error=on_error):
        with tqdm(total=media.count, disable=None) as bar:
            for prediction in predictor.stream(media, on_error=on_error):
                line = writer.add(prediction)
                report(f"{prediction.source}: {line}; {1000 * prediction.seconds:.0f} ms")
                bar.update()
    writer.finish()


def summary_lines(writer: LabelWriter) -> list[str]:
    """Return lines about the labels of all images."""
    classes, lines = writer.classes, []
    if classes.things is not None:
        counts = ", ".join(f"{name} {count}" for name, count in writer.objects.most_common())
        lines.append(
            f"objects: {writer.objects.total()} ({counts or 'none'}), {writer.unsure} unsure; "
            f"images without objects: {writer.without_objects}"
        )
    if classes.sem_seg is not None:
        unknown = 100 * writer.unknown_pixels / max(writer.pixels, 1)
        lines.append(f"semantic maps: {len(writer.seconds)}, {unknown:.0f} % of the pixels unsure")
    return lines
