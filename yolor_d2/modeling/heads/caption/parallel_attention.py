"""Post-norm transformer layers with parallel attention to grid and regions, as in GRIT.

Shapes: N images, K beams or texts of an image, R = N * K rows of text, T text tokens, L visual
tokens, D width, H heads, E = D / H.
"""

import math
from functools import partial

import torch
from torch import Tensor, nn

from ...layers.functional import attend
from .transformer import FeedForward, iterate, linear_layer, merge_heads, split_heads


class PostNormAttention(nn.Module):
    """Multi-head attention, residual connection, layer norm."""

    def __init__(self, *, dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = linear_layer(dim, dim)
        self.key = linear_layer(dim, dim)
        self.value = linear_layer(dim, dim)
        self.output = linear_layer(dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def project(self, tokens: Tensor) -> Tensor:
        """Keys and values of tokens: (N, L, D) -> (2, N, H, L, E)."""
        both = torch.cat([self.key(tokens), self.value(tokens)], dim=2)  # (N, L, 2 * D)
        return split_heads(both, self.num_heads, parts=2)

    def forward(self, x: Tensor, key_value: Tensor, *, causal: bool = False) -> Tensor:
        """Attend from x (N, T, D) to projected tokens (2, N, H, L, E)."""
        (query,) = split_heads(self.query(x), self.num_heads, parts=1)  # (N, H, T, E)
        key, value = key_value
        y = attend(query, key, value, causal=causal)
        return self.norm(x + self.dropout(self.output(merge_heads(y))))


class PostNormFeedForward(nn.Module):
    """Feed-forward layer, residual connection, layer norm."""

    def __init__(self, *, dim: int, ffn_dim: int, dropout: float) -> None:
        super().__init__()
        self.layers = FeedForward(dim, ffn_dim, dropout)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x + self.dropout(self.layers(x)))


class PostNormEncoderLayer(nn.Module):
    """Self-attention and feed-forward layer."""

    def __init__(self, *, dim: int, num_heads: int, ffn_dim: int, dropout: float) -> None:
        super().__init__()
        self.attention = PostNormAttention(dim=dim, num_heads=num_heads, dropout=dropout)
        self.ffn = PostNormFeedForward(dim=dim, ffn_dim=ffn_dim, dropout=dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.ffn(self.attention(x, self.attention.project(x)))


class ParallelDecoderLayer(nn.Module):
    """Self-attention, gated parallel attention to grid and regions, feed-forward layer."""

    def __init__(self, *, dim: int, num_heads: int, ffn_dim: int, dropout: float) -> None:
        super().__init__()
        attention = partial(PostNormAttention, dim=dim, num_heads=num_heads, dropout=dropout)
        self.text_attention = attention()
        self.grid_attention = attention()
        self.region_attention = attention()
        self.gate = linear_layer(2 * dim, dim)  # of both branches, as in the published network
        self.ffn = PostNormFeedForward(dim=dim, ffn_dim=ffn_dim, dropout=dropout)

    def forward(self, x: Tensor, grid: Tensor, regions: Tensor) -> Tensor:
        """Whole texts x (R, T, D), K of each image, with causal attention.

        `grid` and `regions` (2, N, H, L, E) are projected tokens.
        """
        x = self.text_attention(x, self.text_attention.project(x), causal=True)
        by_image = x.view(grid.shape[1], -1, x.shape[2])  # (N, K * T, D)
        return self._cross_attend(by_image, grid, regions).view_as(x)

    def extend(
        self, x: Tensor, past: Tensor, grid: Tensor, regions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The newest token of each beam, x (N, K, D); `past` (2, N, K, H, T, E) is extended."""
        rows = x.flatten(0, 1)[:, None]  # (R, 1, D)
        newest = self.text_attention.project(rows).unflatten(1, x.shape[:2])
        longer = torch.cat([past, newest], dim=4)  # (2, N, K, H, T + 1, E)
        attended = self.text_attention(rows, longer.flatten(1, 2)).view_as(x)
        return self._cross_attend(attended, grid, regions), longer

    def _cross_attend(self, x: Tensor, grid: Tensor, regions: Tensor) -> Tensor:
        """Both branches attend from the same x (N, T or K, D)."""
        branches = self.grid_attention(x, grid), self.region_attention(x, regions)
        first, second = (y * self.gate(torch.cat([x, y], dim=2)).sigmoid() for y in branches)
        return self.ffn((first + second) / math.sqrt(2))


class ParallelDecoder(nn.Module):
    """Decodes text from grid and region tokens: whole texts, or token by token."""

    def __init__(
        self, num_layers: int, *, dim: int, num_heads: int, ffn_dim: int, dropout: float
    ) -> None:
        super().__init__()
        layers = [
            ParallelDecoderLayer(dim=dim, num_heads=num_heads, ffn_dim=ffn_dim, dropout=dropout)
            for _ in range(num_layers)
        ]
        self.layers = nn.ModuleList(layers)

    def project(self, grid: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of tokens (N, L, D) for each layer: (layers, 2, N, H, L, E) each."""
        layers = list(iterate(self.layers, ParallelDecoderLayer))
        return (
            torch.stack([layer.grid_attention.project(grid) for layer in layers]),
            torch.stack([layer.region_attention.project(regions) for layer in layers]),
        )

    def forward(self, x: Tensor, grid: Tensor, regions: Tensor) -> Tensor:
        """Whole embedded texts x (R, T, D), K of each image; tokens (N, L, D) -> (R, T, D)."""
        keys = zip(*self.project(grid, regions), strict=True)
        layers = iterate(self.layers, ParallelDecoderLayer)
        for layer, (layer_grid, layer_regions) in zip(layers, keys, strict=True):
            x = layer(x, layer_grid, layer_regions)
        return x

    def extend(
        self, x: Tensor, past: Tensor, grid: Tensor, regions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Decode the newest token of each beam.

        Args:
            x: (N, K, D) the embedded tokens.
            past: (layers, 2, N, K, H, T, E) keys and values of the previous tokens.
            grid, regions: results of `project`.

        Returns:
            (N, K, D), and the past including the newest token (layers, 2, N, K, H, T + 1, E).
        """
        grown = []
        layers = iterate(self.layers, ParallelDecoderLayer)
        parts = zip(layers, past.unbind(), grid.unbind(), regions.unbind(), strict=True)
        for layer, layer_past, layer_grid, layer_regions in parts:
            x, longer = layer.extend(x, layer_past, layer_grid, layer_regions)
            grown.append(longer)
        return x, torch.stack(grown)
