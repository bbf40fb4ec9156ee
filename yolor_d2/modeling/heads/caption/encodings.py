"""Embeddings of tokens and encodings of coordinates."""

import math

import torch
from torch import Tensor, nn


class TextEmbedding(nn.Module):
    """The normalized sum of a token embedding and a position embedding."""

    def __init__(
        self, vocab_size: int, max_positions: int, dim: int, *, pad_id: int, dropout: float
    ) -> None:
        super().__init__()
        self.words = nn.Embedding(vocab_size, dim, padding_idx=pad_id)
        self.positions = nn.Embedding(max_positions, dim)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        # As a tied output matrix, embeddings of this scale give logits of unit scale.
        nn.init.normal_(self.words.weight, std=dim**-0.5)
        nn.init.normal_(self.positions.weight, std=dim**-0.5)
        with torch.no_grad():
            self.words.weight[pad_id] = 0

    @property
    def max_positions(self) -> int:
        return len(self.positions.weight)

    def forward(self, ids: Tensor, positions: slice | int) -> Tensor:
        """ids (N, T) at a slice of positions, or (N, K) at one position -> (N, T or K, D)."""
        return self.dropout(self.norm(self.words(ids) + self.positions.weight[positions]))


class FixedPositionEmbedding(nn.Module):
    """The sum of a token embedding and a position encoding that is not trained.

    The table of gyolo has random values, so it is part of the weights. Its first row, of padding,
    is not used.
    """

    positions: Tensor

    def __init__(self, vocab_size: int, max_positions: int, dim: int, *, pad_id: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocab_size, dim, padding_idx=pad_id)
        self.register_buffer("positions", sinusoids(max_positions + 1, dim))

    @property
    def max_positions(self) -> int:
        return len(self.positions) - 1

    def forward(self, ids: Tensor, positions: slice | int) -> Tensor:
        """ids (N, T) at a slice of positions, or (N, K) at one position -> (N, T or K, D)."""
        return self.words(ids) + self.positions[1:][positions]


def sinusoids(count: int, width: int) -> Tensor:
    """Sines and cosines (count, width) of positions, with wavelengths from 2 pi to 10,000 times."""
    frequencies = 10_000 ** -(torch.arange(0, width, 2) / width)  # (width / 2,)
    angles = torch.arange(count)[:, None] * frequencies  # (count, width / 2)
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)


def sine_encoding(coordinates: Tensor, width: int) -> Tensor:
    """Coordinates (...) in 0..1 -> sines and cosines (..., width) of increasing frequency.

    From half a wave, which differs at both ends, to eight waves, which differ between neighboring
    cells.
    """
    octaves = torch.linspace(0, 4, width // 2, device=coordinates.device)
    angles = coordinates[..., None] * (math.pi * 2**octaves)  # (..., width / 2)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
