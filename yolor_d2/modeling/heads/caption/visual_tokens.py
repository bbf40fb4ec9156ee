"""What captions are decoded from: pixels of feature maps, and objects.

Shapes: N images, L visual tokens, M objects of an image, C classes, D width.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from detectron2.layers import ShapeSpec
from torch import Tensor, nn
from torchvision.ops import roi_align

from ....letterbox import Content
from .encodings import sine_encoding
from .regions import Regions
from .transformer import (
    FeedForward,
    linear_layer,
    merge_heads,
    split_heads,
)

CELLS = 3  # that an object is cut into, along each side
SAMPLES = 2  # along each side of a cell


class VisualTokens(NamedTuple):
    """What the text is decoded from: objects, best first; then map after map, each row-major."""

    tokens: Tensor  # (N, L, D)
    padding: Tensor  # (N, L) bool, True where a token has nothing of the image


class RegionTokens(nn.Module):
    """Objects -> tokens: how each one looks, what it is, and where.

    A shallow map shows colours and textures; a neck that is trained for boxes keeps few.
    """

    def __init__(self, shape: ShapeSpec, *, num_classes: int, dim: int) -> None:
        """
        Args:
            shape: channels and stride of the map that objects are cut from.
            num_classes: C.
            dim: D.
        """
        super().__init__()
        self.stride = shape.stride
        self.look = linear_layer(shape.channels * CELLS**2, dim)
        self.classes = nn.Linear(num_classes, dim, bias=False)
        nn.init.normal_(self.classes.weight)  # as loud as a place
        self.norm = nn.LayerNorm(dim)
        self.ffn = FeedForward(dim, 2 * dim, 0.0)
        self.counting = CountingAttention(dim)

    def forward(
        self, feature: Tensor, regions: Regions, contents: Sequence[Content] | Tensor | None
    ) -> VisualTokens:
        """The map (N, X, h, w) and regions -> M tokens of each image."""
        n, m = regions.padding.shape
        image = torch.arange(n, device=feature.device)[:, None].expand(n, m).reshape(-1, 1)
        wide = feature.to(torch.promote_types(feature.dtype, torch.float32))  # as boxes have to be
        boxes = torch.cat([image, regions.boxes.flatten(0, 1)], dim=1).to(wide.dtype)
        cells = roi_align(wide, boxes, CELLS, 1 / self.stride, SAMPLES, aligned=True)
        look = cells.to(feature.dtype).flatten(1).unflatten(0, (n, m))  # (N, M, X * cells)
        x = self.look(look) + self.classes(regions.scores.to(look.dtype))
        x = x + self._places(regions.boxes, feature, contents).to(x.dtype)
        x = x + self.ffn(self.norm(x))
        x = x + self.counting(x, regions.padding)
        return VisualTokens(x.masked_fill(regions.padding[:, :, None], 0), regions.padding)

    def _places(
        self, boxes: Tensor, feature: Tensor, contents: Sequence[Content] | Tensor | None
    ) -> Tensor:
        """Middles and sizes of boxes (N, M, 4), relative to their contents -> (N, M, D)."""
        rectangles = content_rectangles(contents, feature, self.stride)[:, None]  # (N or 1, 1, 4)
        start, size = rectangles.chunk(2, dim=2)
        first, last = boxes.chunk(2, dim=2)
        middle, extent = ((first + last) / 2 - start) / size, (last - first) / size
        values = torch.cat([middle, extent], dim=2)  # (N, M, 4)
        return sine_encoding(values, self.norm.normalized_shape[0] // 4).flatten(2)


class CountingAttention(nn.Module):
    """Objects add up what they see of each other.

    The softmax of ordinary attention takes means: two balls look like one to it. Here each object
    has a weight of its own, and a sum tells how many there are.
    """

    def __init__(self, dim: int, num_heads: int = 4) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(dim)
        self.query_key_value = linear_layer(dim, dim, parts=3)
        self.output = linear_layer(dim, dim)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        """Tokens (N, M, D) -> (N, M, D); those that are padding (N, M) are not seen."""
        heads = split_heads(self.query_key_value(self.norm(x)), self.num_heads, parts=3)
        query, key, value = heads  # (N, H, M, E) each
        likeness = query @ key.transpose(2, 3) / query.shape[3] ** 0.5  # (N, H, M, M)
        weights = (likeness - 1).sigmoid()  # a new network adds up a quarter
        seen = weights.masked_fill(padding[:, None, None], 0) @ value
        return self.output(merge_heads(seen))


def pixel_tokens(
    feature: Tensor,
    projection: nn.Module,
    stride: int,
    contents: Sequence[Content] | Tensor | None,
) -> VisualTokens:
    """Each pixel of a map (N, C, h, w), projected, with its place in the image added to it.

    The place is relative to the content, so that it does not depend on the canvas.
    """
    n, _, h, w = feature.shape
    rectangles = content_rectangles(contents, feature, stride)  # (N or 1, 4)
    left, top, width, height = rectangles.unbind(dim=1)
    x, x_inside = _cells(w, stride, left, width)  # (N or 1, w) each
    y, y_inside = _cells(h, stride, top, height)  # (N or 1, h) each
    padding = ~(y_inside[:, :, None] & x_inside[:, None]).flatten(1).expand(n, -1)  # (N, h * w)

    tokens = projection(feature.flatten(2).transpose(1, 2))  # (N, h * w, D)
    half = tokens.shape[2] // 2
    rows = sine_encoding(y, half)[:, :, None].expand(-1, -1, w, -1)  # (N or 1, h, w, D / 2)
    columns = sine_encoding(x, half)[:, None].expand(-1, h, -1, -1)
    places = torch.cat([rows, columns], dim=3).flatten(1, 2)  # (N or 1, h * w, D)
    tokens = (tokens + places.to(tokens.dtype)).masked_fill(padding[:, :, None], 0)
    return VisualTokens(tokens, padding)


def content_rectangles(
    contents: Sequence[Content] | Tensor | None, feature: Tensor, stride: int
) -> Tensor:
    """Where images lie on the canvas of a map, (N or 1, 4) left, top, width, height in pixels."""
    if contents is None:
        height, width = feature.shape[-2:]
        contents = torch.tensor([[0, 0, width * stride, height * stride]])
    return torch.as_tensor(contents).to(feature.device, non_blocking=True).float()


def _cells(cells: int, stride: int, start: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    """Along a side: centres of cells in 0..1 of a content (N,), and which cells have some of it."""
    edges = torch.arange(cells, device=start.device) * stride  # (cells,)
    begin = edges - start[:, None]  # (N, cells) pixels from the content's begin
    inside = (begin + stride > 0) & (begin < length[:, None])
    return (begin + stride / 2) / length[:, None], inside
