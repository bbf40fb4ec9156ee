"""A trained network, ready to be asked: from a checkpoint alone to predictions on anything.

from yolor_d2 import Predictor

predictor = Predictor("output/model_final.pth")
print(predictor("street.jpg").caption)
"""

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, overload

import torch
import yaml
from detectron2.config import CfgNode, get_cfg
from detectron2.data import Metadata
from detectron2.modeling import build_model
from torch import nn

from .checkpoint.release import StoredWeights
from .checkpoint.weights import load_stored, read_weights
from .config import add_yolor_config
from .data.class_tables import find_metadata, make_metadata, registered
from .data.mapper import make_test_image
from .media import Media, OnError, OneSource, Picture, Source, open_media, raise_error
from .model_zoo import get_config_file, load_config
from .modeling import deploy
from .modeling.deploy import best_device
from .prediction import Prediction
from .tasks import check_tasks
from .tokenizer import Tokenizer

CONFIG_SUFFIXES = (".yaml", ".yml", ".py")

PathLike = str | os.PathLike[str]


class Predictor:
    """Predicts on images, folders, videos and cameras.

    Args:
        config_or_checkpoint: a checkpoint or a release, which know their configuration, classes and
            tokenizer; or a configuration, a file's or of the model zoo, which needs `weights`.
        device: "cuda", "cpu", ...; by default a GPU, if there is one.
        tasks: some of those that the network has been trained for; by default all.
        weights: for a configuration, the file of its weights.
        score_threshold: objects below are left out, in panoptic maps too.
        batch_size: images at a time.
        opts: KEY, VALUE, ... of the configuration.

    Attributes:
        model: the deployed network.
        tasks: what is predicted.
        metadata: names, colours and numbers of the classes, as of a detectron2 data set.
        cfg: the configuration.

    Raises:
        ValueError: something does not fit together; files that cannot be read are among it.
    """

    def __init__(
        self,
        config_or_checkpoint: PathLike,
        *,
        device: str | None = None,
        tasks: Sequence[str] | None = None,
        weights: PathLike | None = None,
        score_threshold: float = 0.25,
        batch_size: int = 8,
        opts: Sequence[Any] = (),
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        self.batch_size = batch_size
        path, stored, self.cfg = _read(Path(config_or_checkpoint), weights, opts)
        test = self.cfg.MODEL.DETECTION_HEAD.TEST
        test.SCORE_THRESH = max(test.SCORE_THRESH, score_threshold)
        # A hundred objects of a large photo are gigabytes otherwise.
        self.cfg.MODEL.MASK_HEAD.MASK_FORMAT = "rle"
        _merge(self.cfg, opts)
        if stored.kind not in ("", self.cfg.TEST.WEIGHTS):
            stored = read_weights(path, prefer=self.cfg.TEST.WEIGHTS)
        if self.cfg.INPUT.DATASET_MAPPER_NAME != "multitask":
            raise ValueError("INPUT.DATASET_MAPPER_NAME must be multitask: others resize otherwise")
        self.cfg.MODEL.DEVICE = _check_device(device or best_device())
        self.tasks = tuple(tasks or self.cfg.MODEL.YOLOR.TASKS)
        self.cfg.MODEL.YOLOR.TASKS = _needed_tasks(self.cfg, self.tasks)
        self.model, self.metadata = _build(self.cfg, stored, path)

    @overload
    def __call__(
        self, source: list[Any] | tuple[Any, ...] | int, *, on_error: OnError = ...
    ) -> Iterator[Prediction]: ...

    @overload
    def __call__(self, source: OneSource, *, on_error: OnError = ...) -> Any: ...

    def __call__(
        self, source: Source, *, on_error: OnError = raise_error
    ) -> Prediction | Iterator[Prediction]:
        """Predict.

        Args:
            source: the path of an image, an RGB array or a PIL image gives one prediction; a list
                of these, a folder, a video, the number of a camera or the URL of a stream an
                iterator of them.
            on_error: what to do with a file that cannot be read, if there are others; by default
                to raise its BadFileError.
        """
        media = open_media(source)
        if media.kind == "image":
            (picture,) = media.pictures(raise_error)
            return self.predict([picture])[0]
        return self.stream(media, on_error=on_error)

    def stream(self, media: Media, *, on_error: OnError = raise_error) -> Iterator[Prediction]:
        """Predictions of what `open_media` has opened, made as they are asked for."""
        size = 1 if media.kind == "live" else self.batch_size
        for batch in _batches(media.pictures(on_error), size):
            yield from self.predict(batch)

    def predict(self, pictures: Sequence[Picture]) -> list[Prediction]:
        """Predictions of a batch, whose images may be of different sizes."""
        samples = [
            {
                "image": make_test_image(
                    picture.pixels,
                    size=self.cfg.INPUT.TEST_SIZE,
                    image_format=self.cfg.INPUT.FORMAT,
                ),
                "height": picture.pixels.shape[0],
                "width": picture.pixels.shape[1],
            }
            for picture in pictures
        ]
        results = self.model(samples)
        return [
            self._prediction(picture, result)
            for picture, result in zip(pictures, results, strict=True)
        ]

    def _prediction(self, picture: Picture, result: dict[str, Any]) -> Prediction:
        found: dict[str, Any] = {
            name: result[name].to("cpu")
            for name, task in (("instances", "detection"), ("sem_seg", "semantic"))
            if name in result and task in self.tasks
        }
        if "panoptic_seg" in result:
            ids, segments = result["panoptic_seg"]
            found["panoptic_seg"] = ids.cpu(), segments
        captions = {n: result[n] for n in ("caption", "caption_score") if n in result}
        return Prediction(
            picture.pixels, picture.name, picture.frame, self.metadata, **found, **captions
        )


def _read(
    source: Path, weights: PathLike | None, opts: Sequence[Any]
) -> tuple[Path, StoredWeights, CfgNode]:
    """The file of the weights, what it holds, and the configuration."""
    if source.suffix == ".py":
        raise ValueError(f"{source}: a LazyConfig cannot be predicted with, only a *.yaml")
    if source.suffix in CONFIG_SUFFIXES:
        file = source if source.is_file() else get_config_file(str(source))
        cfg = load_config(str(file), list(opts))  # which may name the weights
        path = Path(weights or cfg.MODEL.WEIGHTS)
        if not path.name:
            raise ValueError(f"{source}: a configuration needs weights")
        return path, read_weights(path), cfg
    if weights is not None:
        raise ValueError(f"{source}: is no configuration (*.yaml), which weights could be for")
    stored = read_weights(source)
    return source, stored, _stored_config(stored, source)


def _stored_config(stored: StoredWeights, path: Path) -> CfgNode:
    """The configuration of a checkpoint; what was added since then has its default."""
    text = stored.provenance.get("config")
    if not text:
        raise ValueError(f"{path}: has no configuration in it: give one, and this as its weights")
    cfg = get_cfg()
    add_yolor_config(cfg)
    try:
        cfg.merge_from_other_cfg(CfgNode.load_cfg(text))
    except (AssertionError, AttributeError, KeyError, ValueError, yaml.YAMLError):
        raise ValueError(
            f"{path}: its configuration is a LazyConfig or another version's: give a *.yaml, and "
            "this as its weights"
        ) from None
    cfg.TOKENIZER.MODEL = ""  # a path of the machine that it was trained on
    return cfg


def _merge(cfg: CfgNode, opts: Sequence[Any]) -> None:
    try:
        cfg.merge_from_list(list(opts))
    except (AssertionError, KeyError) as error:
        raise ValueError(f"configuration: {error.args[0]}") from None


def _check_device(name: str) -> str:
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {name}: {str(error).splitlines()[0]}") from None
    return name


def _needed_tasks(cfg: CfgNode, tasks: Sequence[str]) -> list[str]:
    """The heads for some tasks: captions may have to be told of objects."""
    check_tasks(tasks, ())
    trained = cfg.MODEL.YOLOR.TASKS
    if missing := sorted(set(tasks) - set(trained)):
        raise ValueError(f"the network has no {', '.join(missing)}, only {', '.join(trained)}")
    needed = set(tasks)
    if "caption" in tasks and cfg.MODEL.CAPTION_HEAD.REGION_FEATURE:
        needed.add("detection")
    return [task for task in trained if task in needed]


def _build(cfg: CfgNode, stored: StoredWeights, path: Path) -> tuple[nn.Module, Metadata]:
    """The deployed network, and its classes.

    What the weights' file says of classes and words counts, not what is on this machine.
    """
    classes = stored.provenance.get("classes") or {}
    with ExitStack() as stack:
        metadata = _known_metadata(cfg, stored)
        if metadata is None:
            ids = stored.provenance.get("class_ids", {})
            made = make_metadata(classes or _numbered_classes(cfg), ids)
            metadata = stack.enter_context(registered(made))
        if classes or metadata.name not in cfg.DATASETS.TRAIN:
            cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (metadata.name,), ()
        if classes and not any(name.startswith("panoptic.") for name in stored.tensors):
            cfg.MODEL.PANOPTIC_FPN.COMBINE.ENABLED = False  # as it was in training
        if stored.tokenizer is not None:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            cfg.TOKENIZER.MODEL = f"{folder}/tokenizer.model"
            Tokenizer(stored.tokenizer).save(cfg.TOKENIZER.MODEL)
        model = build_model(cfg)
    load_stored(model, stored, path, strict=True)
    return deploy(model), metadata


def _known_metadata(cfg: CfgNode, stored: StoredWeights) -> Metadata | None:
    """Of a registered data set that the network was trained on, or that the configuration names."""
    names = stored.provenance.get("data") or (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)
    return find_metadata(stored.provenance.get("classes") or {}, names)


def _numbered_classes(cfg: CfgNode) -> dict[str, list[str]]:
    """Names for classes of which nobody knows more than how many there are."""
    counts = {
        "thing_classes": cfg.MODEL.DETECTION_HEAD.NUM_CLASSES,
        "stuff_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
    }
    return {key: [f"class {index}" for index in range(n)] for key, n in counts.items()}


def _batches(pictures: Iterable[Picture], size: int) -> Iterator[list[Picture]]:
    batch: list[Picture] = []
    for picture in pictures:
        batch.append(picture)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
