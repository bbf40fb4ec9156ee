"""Drawing a model's output, or ground truth in the same form, on its image."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from detectron2.structures import Instances

from ..errors import OptionError
from .colors import Classes, Color, text_color_on
from .painting import (
    Region,
    compact_labels,
    label_positions,
    line_width_for,
    pad_picture,
    paint_map,
    paint_mask,
)
from .placement import around_box, around_point, place_labels
from .text import (
    MIN_STRIP_WIDTH,
    caption_strip,
    draw_text,
    line_height,
    shorten,
    text_size_for,
    text_width,
)

LAYERS = ("semantic", "panoptic", "masks", "boxes", "labels", "caption")  # bottom to top

MIN_SIDE = 480  # images whose longer side is shorter are enlarged, so that labels are readable


def compatible_layers(layers: Sequence[str]) -> list[str]:
    """Drop the semantic map if there is a panoptic map, which would hide it."""
    return [name for name in layers if name != "semantic" or "panoptic" not in layers]


def draw_results(
    image: np.ndarray,
    result: Mapping[str, Any],
    metadata: Any,
    *,
    layers: Sequence[str] = (),
    score_threshold: float = 0.25,
    opacity: float = 0.5,
) -> np.ndarray:
    """Draw the output of a model on its image.

    Args:
        image: RGB uint8 (H, W, 3); is not modified.
        result: output of a model, any of "instances" (pred_boxes, pred_classes; optional scores
            and pred_masks of any resolution), "sem_seg" (a `SemanticMap` or logits),
            "panoptic_seg" (a map of ids and the list of segments), "caption".
        metadata: thing_classes, thing_colors, and the same for stuff and panoptic. Defaults are
            the class index as name and a color derived from the name.
        layers: subset of LAYERS; those without a source in the result are skipped. Empty: the
            panoptic map, else masks and boxes, else the semantic map, with labels and caption.
        score_threshold: objects with a lower score are not drawn.
        opacity: opacity of masks and maps, 0 to 1.

    Returns:
        RGB uint8. Small images are enlarged by an integer factor; the caption is below the image.
    """
    _check(image, layers, opacity)
    chosen = set(layers) or _default_layers(result)
    picture = _enlarged(image)
    settings = _Settings(metadata, score_threshold, opacity)
    labels: list[_Label] = []
    for layer, paint in _PAINTERS.items():
        key = _SOURCES[layer]
        if layer in chosen and key in result:
            labels += paint(picture, result[key], settings)
    if chosen.isdisjoint(_PAINTERS) and "instances" in result:
        labels += _Objects.of(result["instances"], settings, picture).labels()
    if "labels" in chosen:
        _draw_labels(picture, _deduplicated(labels))
    if "caption" in chosen and "caption" in result:
        picture = _with_caption(picture, result["caption"])
    return picture


class _Settings(NamedTuple):
    """Options of all layers."""

    metadata: Any
    threshold: float
    opacity: float


def _check(image: np.ndarray, layers: Sequence[str], opacity: float) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"image must be RGB uint8 (H, W, 3), not {image.dtype} {image.shape}")
    if isinstance(layers, str) or not set(layers) <= set(LAYERS):
        raise OptionError(f"layers must be some of {', '.join(LAYERS)}, not {layers!r}")
    check_opacity(opacity)


def check_opacity(opacity: float) -> None:
    """Raise an OptionError unless an opacity of masks and maps is valid."""
    if not 0 <= opacity <= 1:
        raise OptionError(f"opacity must be 0 to 1, not {opacity}")


def _default_layers(result: Mapping[str, Any]) -> set[str]:
    keys = {"panoptic_seg": {"panoptic"}, "instances": {"masks", "boxes"}, "sem_seg": {"semantic"}}
    first = next((layers for key, layers in keys.items() if key in result), set())
    return first | {"labels", "caption"}


def picture_scale(image: np.ndarray) -> int:
    """Return the integer factor by which a small image is enlarged."""
    return -(-MIN_SIDE // max(image.shape[:2]))


def _enlarged(image: np.ndarray) -> np.ndarray:
    """Return a copy of the image, enlarged if it is small."""
    scale = picture_scale(image)
    if scale == 1:
        return np.array(image, order="C")
    size = (image.shape[1] * scale, image.shape[0] * scale)
    return cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)


class _Label(NamedTuple):
    """A text and the box or point that it labels."""

    text: str
    color: Color
    box: np.ndarray | None = None  # of an object, x0 y0 x1 y1
    point: tuple[float, float] | None = None  # x, y in a region
    is_thing: bool = True

    def candidates(self, size: tuple[int, int]) -> np.ndarray:
        if self.point is not None:
            return around_point(self.point, size)
        assert self.box is not None
        return around_box(self.box, size)


class _Objects(NamedTuple):
    """The drawn objects in pixels of the picture, highest score first."""

    boxes: np.ndarray  # (G, 4)
    colors: list[Color]
    texts: list[str]
    masks: Any  # by index; None without masks
    indices: list[int]  # into masks

    @classmethod
    def of(cls, instances: Instances, settings: _Settings, picture: np.ndarray) -> "_Objects":
        instances = instances.to("cpu")
        classes = instances.pred_classes.tolist()
        table = Classes.of(settings.metadata, "thing")
        height, width = instances.image_size
        scale = np.array([picture.shape[1] / width, picture.shape[0] / height] * 2)
        boxes = instances.pred_boxes.tensor.double().numpy() * scale
        scores = instances.scores.tolist() if instances.has("scores") else None
        kept = [
            index
            for index in _visible(boxes, picture)
            if scores is None or scores[index] >= settings.threshold
        ]
        if scores is not None:
            kept.sort(key=lambda index: -scores[index])
        names = [table.name(classes[index]) for index in kept]
        ends = [""] * len(kept) if scores is None else [f" {scores[i]:.0%}" for i in kept]
        limits = np.array([picture.shape[1], picture.shape[0]] * 2)
        return cls(
            boxes=boxes[kept].clip(0, limits),
            colors=[table.color(classes[index]) for index in kept],
            texts=[name + end for name, end in zip(names, ends, strict=True)],
            masks=instances.pred_masks if instances.has("pred_masks") else None,
            indices=kept,
        )

    def large_first(self) -> list[int]:
        sides = self.boxes[:, 2:] - self.boxes[:, :2]
        return np.argsort(-sides.prod(axis=1), kind="stable").tolist()

    def labels(self) -> list[_Label]:
        rows = zip(self.texts, self.colors, self.boxes, strict=True)
        return [_Label(text, color, box=box) for text, color, box in rows]


def _visible(boxes: np.ndarray, picture: np.ndarray) -> list[int]:
    """Return the indices of the boxes (G, 4) that intersect the picture."""
    height, width = picture.shape[:2]
    with np.errstate(invalid="ignore"):  # a diverged network predicts NaN
        inside = (boxes[:, 2:] >= 0) & (boxes[:, :2] < (width, height))
    return np.flatnonzero(inside.all(axis=1) & np.isfinite(boxes).all(axis=1)).tolist()


def _paint_masks(picture: np.ndarray, instances: Instances, settings: _Settings) -> list[_Label]:
    objects = _Objects.of(instances, settings, picture)
    if objects.masks is not None:
        for row in objects.large_first():
            mask = np.asarray(objects.masks[objects.indices[row]], dtype=bool)
            paint_mask(picture, mask, objects.colors[row], opacity=settings.opacity)
    return objects.labels()


def _paint_boxes(picture: np.ndarray, instances: Instances, settings: _Settings) -> list[_Label]:
    objects = _Objects.of(instances, settings, picture)
    width = line_width_for(picture)
    corners = np.rint(objects.boxes).astype(int)  # (G, 4)
    for row in objects.large_first():
        x0, y0, x1, y1 = corners[row].tolist()
        end = (max(x1 - 1, x0), max(y1 - 1, y0))
        cv2.rectangle(picture, (x0, y0), end, objects.colors[row], width, cv2.LINE_AA)
    return objects.labels()


def _paint_semantic(picture: np.ndarray, sem_seg: Any, settings: _Settings) -> list[_Label]:
    ids = sem_seg.argmax(dim=0).cpu().numpy()  # (h, w)
    table = Classes.of(settings.metadata, "stuff")
    things = Classes.of(settings.metadata, "thing").names
    regions = [
        Region(table.name(index), table.color(index), table.name(index) in things)
        for index in range(sem_seg.shape[0])
    ]
    labels = compact_labels(ids, {index: index for index in range(len(regions))})
    paint_map(picture, labels, regions, opacity=settings.opacity, outlined=False)
    return _region_labels(picture, labels, regions)


def _paint_panoptic(picture: np.ndarray, panoptic_seg: Any, settings: _Settings) -> list[_Label]:
    ids, segments = panoptic_seg
    regions = [_segment_region(segment, settings.metadata) for segment in segments]
    rows = {segment["id"]: row for row, segment in enumerate(segments)}
    labels = compact_labels(ids.cpu().numpy(), rows)
    paint_map(picture, labels, regions, opacity=settings.opacity, outlined=True)
    return _region_labels(picture, labels, regions)


def _segment_region(segment: Mapping[str, Any], metadata: Any) -> Region:
    """Return the region of a segment.

    Without panoptic classes, things and stuff are numbered separately, as in detectron2.
    """
    is_thing, index = bool(segment.get("isthing")), segment["category_id"]
    table = Classes.of(metadata, "panoptic")
    if not table.names:
        table = Classes.of(metadata, "thing" if is_thing else "stuff")
    end = f" {segment['score']:.0%}" if "score" in segment else ""
    return Region(table.name(index) + end, table.color(index), is_thing)


def _region_labels(
    picture: np.ndarray, labels: np.ndarray, regions: Sequence[Region]
) -> list[_Label]:
    height, width = picture.shape[:2]
    return [
        _Label(
            regions[label].name,
            regions[label].color,
            point=(x * width, y * height),
            is_thing=regions[label].is_thing,
        )
        for label, (x, y) in label_positions(labels, len(regions)).items()
    ]


_Painter = Callable[[np.ndarray, Any, _Settings], list[_Label]]
_PAINTERS: dict[str, _Painter] = {
    "semantic": _paint_semantic,
    "panoptic": _paint_panoptic,
    "masks": _paint_masks,
    "boxes": _paint_boxes,
}
_SOURCES = {"semantic": "sem_seg", "panoptic": "panoptic_seg"} | dict.fromkeys(
    ("masks", "boxes"), "instances"
)


def _deduplicated(labels: Sequence[_Label]) -> list[_Label]:
    """Label each object once, even if several layers show it, and objects before regions."""
    objects = {(label.text, *label.box): label for label in labels if label.box is not None}
    regions = [label for label in labels if label.box is None]
    return [*objects.values(), *(r for r in regions if not (objects and r.is_thing))]


def _draw_labels(picture: np.ndarray, labels: Sequence[_Label]) -> None:
    """Draw labels on plates in their color; those without a free position are left out."""
    height, width = picture.shape[:2]
    size = text_size_for(picture)
    margin = max(2, size // 5)
    texts = [shorten(label.text, size=size, width=width - 2 * margin) for label in labels]
    sizes = [(text_width(text, size) + 2 * margin, line_height(size)) for text in texts]
    candidates = [label.candidates(extent) for label, extent in zip(labels, sizes, strict=True)]
    corners = place_labels(sizes, candidates, width=width, height=height)
    for label, text, (w, h), corner in zip(labels, texts, sizes, corners, strict=True):
        if corner is not None:
            x, y = corner
            picture[y : y + h, x : x + w] = label.color
            color = text_color_on(label.color)
            draw_text(picture, text, (x + margin, y), size=size, color=color)


def _with_caption(picture: np.ndarray, caption: str) -> np.ndarray:
    """Add a caption below a picture, which is padded to a minimum width."""
    width = max(picture.shape[1], MIN_STRIP_WIDTH)
    strip = caption_strip(caption, width, size=text_size_for(picture))
    return np.concatenate([pad_picture(picture, height=picture.shape[0], width=width), strip])
