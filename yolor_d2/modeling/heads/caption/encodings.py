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

    def forward(self, ids: Tensor, positions: slice | int) -> Tensor:
        """ids (N, T) at a slice of positions, or (N, K) at one position -> (N, T or K, D)."""
        return self.dropout(self.norm(self.words(ids) + self.positions.weight[positions]))


def sine_encoding(coordinates: Tensor, width: int) -> Tensor:
    """Coordinates (...) in 0..1 -> sines and cosines (..., width) of increasing frequency.

    From half a wave, which differs at both ends, to eight waves, which differ between neighboring
    cells.
    """
    octaves = torch.linspace(0, 4, width // 2, device=coordinates.device)
    angles = coordinates[..., None] * (math.pi * 2**octaves)  # (..., width / 2)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
