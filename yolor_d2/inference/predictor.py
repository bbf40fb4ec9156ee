"""Predictions of a trained network on images, videos and cameras.

from yolor_d2 import Predictor

predictor = Predictor("output/model_final.pth")
print(predictor("street.jpg").caption)
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

from ..data.views.mapper import make_test_image
from ..errors import OptionError
from ..visualization import LAYERS
from .loading import Config, PathLike, load_network
from .media import Media, OnError, OneSource, Picture, Source, open_media, raise_error
from .prediction import Prediction


class Predictor:
    """Predicts on images, folders, videos and cameras.

    Args:
        config_or_checkpoint: a checkpoint or release, which contains its configuration, classes and
            tokenizer; or a configuration, which needs `weights`: a *.yaml file, a name in the model
            zoo, a LazyConfig's *.py file, a CfgNode or a DictConfig.
        device: "cuda", "cpu", ...; None is a GPU if available.
        tasks: tasks to predict, a subset of the trained ones; None is all of them.
        weights: weight file of a configuration.
        score_threshold: of objects, also in panoptic maps.
        batch_size: images per batch.
        opts: KEY, VALUE, ... of the configuration; for a LazyConfig "model.NAME=VALUE", ...

    Attributes:
        model: the deployed network.
        tasks: the predicted tasks.
        metadata: names, colors and ids of the classes, as in detectron2's catalog.
        cfg: the configuration.

    Raises:
        ValueError: arguments contradict each other, or a file cannot be read.
    """

    def __init__(
        self,
        config_or_checkpoint: PathLike | Config,
        *,
        device: str | None = None,
        tasks: Sequence[str] | None = None,
        weights: PathLike | None = None,
        score_threshold: float = 0.25,
        batch_size: int = 8,
        opts: Sequence[Any] = (),
    ) -> None:
        if batch_size < 1:
            raise OptionError(f"batch_size must be at least 1, not {batch_size}")
        self.batch_size = batch_size
        self.model, self.tasks, recipe, self.metadata = load_network(
            config_or_checkpoint,
            weights=weights,
            device=device,
            tasks=tasks,
            score_threshold=score_threshold,
            opts=opts,
        )
        self.cfg = recipe.cfg
        self._test_size, self._image_format = recipe.test_size, recipe.image_format

    @property
    def layers(self) -> tuple[str, ...]:
        """Picture layers that the predictions contain."""
        needs: dict[str, set[str]] = {
            "semantic": {"semantic"},
            "panoptic": {"semantic", "mask"},
            "masks": {"mask"},
            "boxes": {"detection"},
            "caption": {"caption"},
        }
        has_panoptic = self.model.panoptic is not None
        return tuple(
            layer
            for layer in LAYERS
            if needs.get(layer, set()) <= set(self.tasks) and (layer != "panoptic" or has_panoptic)
        )

    @overload
    def __call__(
        self, source: list[Any] | tuple[Any, ...] | int, *, on_error: OnError = ...
    ) -> Iterator[Prediction]: ...

    @overload
    def __call__(self, source: OneSource, *, on_error: OnError = ...) -> Any: ...

    def __call__(
        self, source: Source, *, on_error: OnError = raise_error
    ) -> Prediction | Iterator[Prediction]:
        """Predict on an image, or on a sequence of images.

        Args:
            source: the path of an image, an RGB array or a PIL image; or a list of these, a folder,
                a video, the number of a camera or the URL of a stream.
            on_error: called with the BadFileError of each unreadable file of a sequence; by default
                it is raised.

        Returns:
            One prediction for an image, an iterator of predictions for a sequence.
        """
        media = open_media(source)
        if media.kind == "image":
            (picture,) = media.pictures(raise_error)
            return self.predict([picture])[0]
        return self.stream(media, on_error=on_error)

    def stream(self, media: Media, *, on_error: OnError = raise_error) -> Iterator[Prediction]:
        """Iterate over predictions on the result of `open_media`."""
        size = 1 if media.kind == "live" else self.batch_size
        for batch in _batches(media.pictures(on_error), size):
            yield from self.predict(batch)

    def predict(self, pictures: Sequence[Picture]) -> list[Prediction]:
        """Predict on a batch of images, which may differ in size."""
        start = time.perf_counter()
        samples = [
            {
                "image": make_test_image(
                    picture.pixels,
                    size=self._test_size,
                    image_format=self._image_format,
                ),
                "height": picture.pixels.shape[0],
                "width": picture.pixels.shape[1],
            }
            for picture in pictures
        ]
        results = [self._on_cpu(result) for result in self.model(samples)]
        seconds = (time.perf_counter() - start) / max(len(pictures), 1)
        return [
            Prediction(*picture, self.metadata, **result, seconds=seconds)
            for picture, result in zip(pictures, results, strict=True)
        ]

    def _on_cpu(self, result: dict[str, Any]) -> dict[str, Any]:
        """Return the results of the predicted tasks, by the names of Prediction's attributes."""
        found: dict[str, Any] = {
            name: result[name].to("cpu")
            for name, task in (("instances", "detection"), ("sem_seg", "semantic"))
            if name in result and task in self.tasks
        }
        if "panoptic_seg" in result:
            ids, segments = result["panoptic_seg"]
            found["panoptic_seg"] = ids.cpu(), segments
        names = ("caption" if "caption" in result else "caption_ids", "caption_score")
        return found | {name: result[name] for name in names if name in result}


def _batches(pictures: Iterable[Picture], size: int) -> Iterator[list[Picture]]:
    batch: list[Picture] = []
    for picture in pictures:
        batch.append(picture)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
