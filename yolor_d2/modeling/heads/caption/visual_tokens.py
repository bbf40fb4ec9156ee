"""Visual tokens: pixels of feature maps and objects as vectors of one width.

Shapes: N images, L visual tokens, M objects of an image, C classes, D width.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from detectron2.layers import ShapeSpec
from torch import Tensor, nn
from torchvision.ops import roi_align

from ....letterbox import Content
from ...layers.functional import at_least_float32, keep_layout
from .encodings import sine_encoding
from .regions import Regions
from .transformer import FeedForward, linear_layer, merge_heads, split_heads

CELLS = 3  # of a cropped object, along each side
SAMPLES = 2  # of RoIAlign, along each side of a cell


class VisualTokens(NamedTuple):
    """Objects, best first, then the pixels of each map, row-major."""

    tokens: Tensor  # (N, L, D)
    padding: Tensor  # (N, L) bool, True for tokens to ignore


class RegionTokens(nn.Module):
    """Encodes objects as tokens: appearance, class, position.

    A shallow map has the colors and textures that a neck trained for boxes loses.
    """

    def __init__(self, shape: ShapeSpec, *, num_classes: int, dim: int) -> None:
        """
        Args:
            shape: channels and stride of the map that objects are cropped from.
            num_classes: C.
            dim: D.
        """
        super().__init__()
        self.stride = shape.stride
        self.look = linear_layer(shape.channels * CELLS**2, dim)
        self.classes = nn.Linear(num_classes, dim, bias=False)
        nn.init.normal_(self.classes.weight)  # the scale of the position encoding
        self.norm = nn.LayerNorm(dim)
        self.ffn = FeedForward(dim, 2 * dim, 0.0)
        self.counting = CountingAttention(dim)

    def forward(
        self, feature: Tensor, regions: Regions, contents: Sequence[Content] | Tensor | None
    ) -> VisualTokens:
        """Encode the M regions of each image, cropped from a map (N, X, h, w)."""
        n, m = regions.padding.shape
        image = torch.arange(n, device=feature.device)[:, None].expand(n, m).reshape(-1, 1)
        wide = at_least_float32(feature)  # boxes need it
        boxes = torch.cat([image, regions.boxes.flatten(0, 1)], dim=1).to(wide.dtype)
        cells = roi_align(keep_layout(wide), boxes, CELLS, 1 / self.stride, SAMPLES, aligned=True)
        pixels = cells.to(feature.dtype).flatten(1).unflatten(0, (n, m))  # (N, M, X * CELLS**2)
        x = self.look(pixels) + self.classes(regions.scores.to(pixels.dtype))
        x = x + self.positions(feature, regions, contents).to(x.dtype)
        x = x + self.ffn(self.norm(x))
        x = x + self.counting(x, regions.padding)
        return VisualTokens(x.masked_fill(regions.padding[:, :, None], 0), regions.padding)

    def positions(
        self, feature: Tensor, regions: Regions, contents: Sequence[Content] | Tensor | None
    ) -> Tensor:
        """Encode centers and sizes of boxes, relative to the contents: (N, M, D), 0 for padding."""
        rectangles = content_rectangles(contents, feature, self.stride)[:, None]  # (N or 1, 1, 4)
        start, size = rectangles.chunk(2, dim=2)
        first, last = regions.boxes.chunk(2, dim=2)
        center, extent = ((first + last) / 2 - start) / size, (last - first) / size
        values = torch.cat([center, extent], dim=2)  # (N, M, 4)
        encoded = sine_encoding(values, self.norm.normalized_shape[0] // 4).flatten(2)
        return encoded.masked_fill(regions.padding[:, :, None], 0)


class CountingAttention(nn.Module):
    """Attention with sigmoid weights, whose sums depend on the number of objects.

    With softmax, attention returns weighted means, which are the same for one ball and for two
    equal balls.
    """

    def __init__(self, dim: int, num_heads: int = 4) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(dim)
        self.query_key_value = linear_layer(dim, dim, parts=3)
        self.output = linear_layer(dim, dim)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        """Tokens (N, M, D) -> (N, M, D), without attention to padding (N, M)."""
        heads = split_heads(self.query_key_value(self.norm(x)), self.num_heads, parts=3)
        query, key, value = heads  # (N, H, M, E) each
        logits = query @ key.transpose(2, 3) / query.shape[3] ** 0.5  # (N, H, M, M)
        weights = (logits - 1).sigmoid()  # initially about a quarter
        sums = weights.masked_fill(padding[:, None, None], 0) @ value  # (N, H, M, E)
        return self.output(merge_heads(sums))


def pixel_tokens(
    feature: Tensor,
    projection: nn.Module,
    stride: int,
    contents: Sequence[Content] | Tensor | None,
) -> VisualTokens:
    """Projected pixels of a map (N, C, h, w) plus encodings of their positions.

    Positions are relative to the content, so that tokens do not depend on the canvas.
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
    positions = torch.cat([rows, columns], dim=3).flatten(1, 2)  # (N or 1, h * w, D)
    tokens = (tokens + positions.to(tokens.dtype)).masked_fill(padding[:, :, None], 0)
    return VisualTokens(tokens, padding)


def content_rectangles(
    contents: Sequence[Content] | Tensor | None, feature: Tensor, stride: int
) -> Tensor:
    """Rectangles of the images on the canvas, (N or 1, 4) left, top, width, height in pixels."""
    if contents is None:
        height, width = feature.shape[-2:]
        contents = torch.tensor([[0, 0, width * stride, height * stride]])
    return torch.as_tensor(contents).to(feature.device, non_blocking=True).float()


def _cells(cells: int, stride: int, start: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    """Cell centers along one side in 0..1 of contents (N,), and which cells overlap them."""
    edges = torch.arange(cells, device=start.device) * stride  # (cells,)
    begin = edges - start[:, None]  # (N, cells) pixels from the edge of the content
    inside = (begin + stride > 0) & (begin < length[:, None])
    return (begin + stride / 2) / length[:, None], inside
