"""Drawing annotations and results on images. Everything is RGB uint8 (H, W, 3)."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from detectron2.structures import BitMasks, Instances, PolygonMasks
from torch import Tensor

from .tokenizer import Tokenizer

Color = tuple[int, int, int]

FONT = cv2.FONT_HERSHEY_SIMPLEX
INK: Color = (32, 32, 36)
PAPER: Color = (250, 250, 248)

LAYERS = ("semantic", "panoptic", "masks", "boxes", "labels", "caption")

# Below this width a picture is enlarged, so that labels can be read.
READABLE_WIDTH = 480


class Layers(NamedTuple):
    """What is drawn over an image; None is left out.

    Attributes:
        boxes: (G, 4) x0 y0 x1 y1 in pixels of the image.
        labels: (G,) what stands at each box.
        colors: (G,) of boxes and masks.
        masks: (G, h, w) bool, of the image's size or smaller by a whole factor.
        sem_seg: (h, w) class indices, likewise; those without a colour are left out.
        sem_seg_colors: by class.
        caption: stands below the image.
    """

    boxes: np.ndarray | None = None
    labels: Sequence[str] = ()
    colors: Sequence[Color] = ()
    masks: np.ndarray | None = None
    sem_seg: np.ndarray | None = None
    sem_seg_colors: Sequence[Color] = ()
    caption: str | None = None


def draw_layers(image: np.ndarray, layers: Layers, *, scale: int = 1) -> np.ndarray:
    """A picture of an image and what is known of it.

    Args:
        image: is not changed.
        layers: in the image's own pixels.
        scale: whole factor by which the picture is larger than the image.
    """
    size = (image.shape[1] * scale, image.shape[0] * scale)
    picture = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC if scale > 1 else 0)
    if layers.sem_seg is not None:
        picture = _blend_sem_seg(picture, layers.sem_seg, layers.sem_seg_colors)
    if layers.masks is not None:
        for mask, color in zip(layers.masks, layers.colors, strict=True):
            _draw_mask(picture, mask, color)
    if layers.boxes is not None:
        unit = max(1, round(max(picture.shape[:2]) / 480))  # thickness of lines
        _draw_boxes(picture, layers.boxes * scale, layers, unit)
    if layers.caption is not None:
        picture = np.concatenate([picture, caption_strip(layers.caption, picture.shape[1])])
    return picture


def _blend_sem_seg(picture: np.ndarray, sem_seg: np.ndarray, colors: Sequence[Color]) -> np.ndarray:
    """Half transparent classes; where no class is known the picture stays as it is."""
    size = (picture.shape[1], picture.shape[0])
    sem_seg = cv2.resize(sem_seg.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    table = np.zeros((256, 3), dtype=np.uint8)
    table[: len(colors)] = colors
    is_known = (sem_seg < len(colors))[..., None]
    blended = cv2.addWeighted(picture, 0.45, table[sem_seg], 0.55, 0)
    return np.where(is_known, blended, picture)


def _draw_mask(picture: np.ndarray, mask: np.ndarray, color: Color) -> None:
    """Tint an object and outline it, in place."""
    height, width = picture.shape[:2]
    smooth = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    inside = smooth >= 0.5
    picture[inside] = (0.6 * picture[inside] + 0.4 * np.array(color)).astype(np.uint8)
    contours, _ = cv2.findContours(
        inside.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    cv2.drawContours(picture, contours, -1, color, max(1, round(max(height, width) / 640)))


def _draw_boxes(picture: np.ndarray, boxes: np.ndarray, layers: Layers, unit: int) -> None:
    """Boxes, then their labels on top, large objects first."""
    corners = np.rint(boxes).astype(int)
    order = np.argsort(-(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    for i in order.tolist():
        x0, y0, x1, y1 = corners[i].tolist()
        cv2.rectangle(picture, (x0, y0), (x1 - 1, y1 - 1), layers.colors[i], unit, cv2.LINE_AA)
    for i in order.tolist():
        if layers.labels:
            _draw_label(picture, layers.labels[i], corners[i, :2].tolist(), layers.colors[i], unit)


def _draw_label(
    picture: np.ndarray, text: str, corner: Sequence[int], color: Color, unit: int
) -> None:
    """A small plate with text, on the box's upper edge, moved inside the picture."""
    size = 0.36 + 0.08 * unit
    (width, height), baseline = cv2.getTextSize(text, FONT, size, 1)
    plate_height = height + baseline + 2
    x = int(np.clip(corner[0], 0, max(picture.shape[1] - width - 4, 0)))
    y = int(np.clip(corner[1] - plate_height, 0, max(picture.shape[0] - plate_height, 0)))
    cv2.rectangle(picture, (x, y), (x + width + 4, y + plate_height), color, cv2.FILLED)
    ink = PAPER if np.dot(color, (0.299, 0.587, 0.114)) < 140 else INK
    cv2.putText(picture, text, (x + 2, y + height + 2), FONT, size, ink, 1, cv2.LINE_AA)


def caption_strip(text: str, width: int) -> np.ndarray:
    """Text on paper, wrapped to a width, (h, width, 3)."""
    size = 0.5 if width >= 320 else 0.38
    (letter_width, letter_height), _ = cv2.getTextSize("n", FONT, size, 1)
    lines = textwrap.wrap(text, max((width - 16) // letter_width, 8)) or [""]
    line_height = round(letter_height * 2.4)
    strip = np.full((line_height * len(lines) + 10, width, 3), PAPER, dtype=np.uint8)
    for number, line in enumerate(lines):
        origin = (8, line_height * (number + 1) - 2)
        cv2.putText(strip, line, origin, FONT, size, INK, 1, cv2.LINE_AA)
    return strip


def side_by_side(pictures: Sequence[np.ndarray], *, titles: Sequence[str]) -> np.ndarray:
    """Pictures next to each other, each below its title."""
    titled = [
        np.concatenate([caption_strip(title, picture.shape[1]), picture])
        for picture, title in zip(pictures, titles, strict=True)
    ]
    height = max(column.shape[0] for column in titled)
    columns = []
    for column in titled:
        padded = np.full((height, column.shape[1] + 8, 3), PAPER, dtype=np.uint8)
        padded[: column.shape[0], : column.shape[1]] = column
        columns.append(padded)
    return np.concatenate(columns, axis=1)[:, :-8]


def stack(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures below each other, the narrower ones padded."""
    width = max(picture.shape[1] for picture in pictures)
    rows = []
    for picture in pictures:
        row = np.full((picture.shape[0] + 8, width, 3), PAPER, dtype=np.uint8)
        row[: picture.shape[0], : picture.shape[1]] = picture
        rows.append(row)
    return np.concatenate(rows)


def readable_scale(image: np.ndarray) -> int:
    """Whole factor that makes an image wide enough for labels."""
    return -(-READABLE_WIDTH // image.shape[1])


def draw_sample(
    item: dict[str, Any], metadata: Any, tokenizer: Tokenizer | None, *, image_format: str
) -> np.ndarray:
    """The views of a training sample with all targets: instances, semantic map, caption.

    Args:
        item: of a mapper.
        metadata: of its data set: names and colours of classes.
        tokenizer: to read its caption.
        image_format: "RGB" or "BGR".
    """
    caption = None
    if "caption_ids" in item and tokenizer is not None:
        caption = tokenizer.decode(item["caption_ids"][0])
    pictures, titles = [], []
    for prefix, name in (("", "strong view"), ("weak_", "weak view")):
        if f"{prefix}image" not in item:
            continue
        image = to_rgb(item[f"{prefix}image"], image_format)
        scale = readable_scale(image)
        is_weak = bool(prefix)
        if f"{prefix}instances" in item:
            layers = _target_layers(item[f"{prefix}instances"], metadata)
            pictures.append(draw_layers(image, layers, scale=scale))
            titles.append(f"{name}: boxes" + (", masks" if layers.masks is not None else ""))
        if f"{prefix}sem_seg" in item:
            layers = Layers(
                sem_seg=item[f"{prefix}sem_seg"].numpy(), sem_seg_colors=metadata.stuff_colors
            )
            pictures.append(draw_layers(image, layers, scale=scale))
            titles.append(f"{name}: semantic map")
        if is_weak or "weak_image" not in item:
            pictures.append(draw_layers(image, Layers(caption=caption), scale=scale))
            titles.append(f"{name}: caption" if caption else name)
    return side_by_side(pictures, titles=titles)


def to_rgb(image: Tensor, image_format: str) -> np.ndarray:
    """What a mapper made of an image, (3, H, W) -> (H, W, 3) RGB."""
    array = image.permute(1, 2, 0).numpy()
    return np.ascontiguousarray(array if image_format == "RGB" else array[..., ::-1])


def _target_layers(instances: Instances, metadata: Any) -> Layers:
    classes = instances.gt_classes.tolist()
    masks = instances.gt_masks if instances.has("gt_masks") else None
    if isinstance(masks, PolygonMasks):
        masks = BitMasks.from_polygon_masks(masks, *instances.image_size)
    return Layers(
        boxes=instances.gt_boxes.tensor.numpy(),
        labels=[metadata.thing_classes[c] for c in classes],
        colors=[tuple(metadata.thing_colors[c]) for c in classes],
        masks=None if masks is None else masks.tensor.numpy(),
    )


def draw_results(
    image: np.ndarray,
    result: Mapping[str, Any],
    metadata: Any,
    *,
    layers: Sequence[str] = (),
    score_threshold: float = 0.25,
    opacity: float = 0.5,
) -> np.ndarray:
    """An image with what a model says of it.

    Args:
        image: is not changed.
        result: of the model.
        metadata: names and colours of the classes.
        layers: some of LAYERS; none: all that there are.
        score_threshold: objects below are left out.
        opacity: of masks and maps.
    """
    wanted = set(layers or LAYERS)
    found: dict[str, Any] = {}
    if "instances" in result and wanted & {"masks", "boxes"} and metadata.get("thing_colors"):
        objects = result["instances"][result["instances"].scores >= score_threshold]
        classes = objects.pred_classes.tolist()
        found["colors"] = [tuple(metadata.thing_colors[c]) for c in classes]
        if "boxes" in wanted:
            found["boxes"] = objects.pred_boxes.tensor.numpy()
            found["labels"] = [metadata.thing_classes[c] for c in classes]
        if "masks" in wanted and objects.has("pred_masks"):
            found["masks"] = np.asarray(objects.pred_masks)
    if "sem_seg" in result and "semantic" in wanted and metadata.get("stuff_colors"):
        found["sem_seg"] = result["sem_seg"].argmax(dim=0).numpy()
        found["sem_seg_colors"] = metadata.stuff_colors
    caption = result.get("caption") if "caption" in wanted else None
    return draw_layers(image, Layers(caption=caption, **found))
