"""The transformer of the caption head: pre-norm layers, and a decoder with a cache.

Shapes: N images, K beams or texts of an image, R = N * K rows of text, T text tokens, L visual
tokens, D width, H heads, E = D / H. A mask is True where tokens are attended to.
"""

from collections.abc import Iterator
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from ...layers.functional import attend

Layer = TypeVar("Layer", bound=nn.Module)


class DecoderCache(NamedTuple):
    """Keys and values of each layer, kept between decoding steps."""

    text: Tensor  # (layers, 2, R, H, T, E) of the tokens so far; later columns are not filled
    visual: tuple[Tensor, ...]  # for each layer (2, N, H, L, E), or (N, L, D) if not projected
    mask: Tensor  # (N, 1, 1, L)

    def reorder(self, parents: Tensor, position: int) -> None:
        """Replace the first `position` tokens of each beam with those of its parent (N, K)."""
        first_row = torch.arange(len(parents), device=parents.device)[:, None] * parents.shape[1]
        past = self.text[..., :position, :]  # (layers, 2, R, H, position, E)
        past.copy_(past.index_select(2, (first_row + parents).flatten()))


class SelfAttention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query_key_value = linear_layer(dim, dim, parts=3)
        self.output = linear_layer(dim, dim)

    def forward(self, x: Tensor, *, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """x (N, T, D) -> (N, T, D); the mask broadcasts to (N, H, T, T)."""
        query, key, value = split_heads(self.query_key_value(x), self.num_heads, parts=3)
        y = attend(query, key, value, mask=mask, causal=causal)
        return self.output(merge_heads(y))

    def step(self, x: Tensor, past: Tensor, position: int) -> Tensor:
        """Attend from the newest token of each row, x (R, 1, D), to itself and the previous ones.

        Args:
            x: the tokens at `position`.
            past: (2, R, H, T, E) keys and values before `position`; those of x are written to it.
            position: number of previous tokens.
        """
        heads = split_heads(self.query_key_value(x), self.num_heads, parts=3)  # (3, R, H, 1, E)
        past[..., position : position + 1, :] = heads[1:]
        key, value = past[..., : position + 1, :]  # (R, H, position + 1, E) each
        y = attend(heads[0], key, value)  # (R, H, 1, E)
        return self.output(merge_heads(y))

    def extend(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """`step` without in-place writes, which exporters do not support.

        Args:
            x: (N, K, D) the newest token of each beam.
            past: (2, N, K, H, T, E) keys and values of the previous tokens.

        Returns:
            (N, K, D), and keys and values including the newest token (2, N, K, H, T + 1, E).
        """
        rows = x.flatten(0, 1)[:, None]  # (R, 1, D)
        heads = split_heads(self.query_key_value(rows), self.num_heads, parts=3)  # (3, R, H, 1, E)
        grown = torch.cat([past, heads[1:].unflatten(1, x.shape[:2])], dim=4)
        key, value = grown.flatten(1, 2)  # (R, H, T + 1, E) each
        y = attend(heads[0], key, value)  # (R, H, 1, E)
        return self.output(merge_heads(y)).view_as(x), grown


class CrossAttention(nn.Module):
    """Multi-head attention from text to visual tokens, for which beams are further queries."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = linear_layer(dim, dim)
        self.key_value = linear_layer(dim, dim, parts=2)
        self.output = linear_layer(dim, dim)

    def project(self, visual: Tensor) -> Tensor:
        """Keys and values of visual tokens: (N, L, D) -> (2, N, H, L, E)."""
        return split_heads(self.key_value(visual), self.num_heads, parts=2)

    def projects(self, queries: int) -> bool:
        """Whether `project` saves multiplications at this number of queries for each image.

        For each visual token, projecting takes 2 D * D, and then each query takes 2 D. Without
        projection a query takes 2 D in each head.
        """
        dim = self.query.in_features
        return dim + queries <= queries * self.num_heads

    def forward(self, x: Tensor, visual: Tensor, mask: Tensor) -> Tensor:
        """Attend to visual tokens.

        Args:
            x: (N, T or K, D).
            visual: the result of `project`, or the visual tokens (N, L, D).
            mask: (N, 1, 1, L).

        Returns:
            (N, T or K, D).
        """
        if visual.dim() == 3:
            return self._attend_unprojected(x, visual, mask)
        (query,) = split_heads(self.query(x), self.num_heads, parts=1)  # (N, H, T or K, E)
        key, value = visual
        y = attend(query, key, value, mask=mask)
        return self.output(merge_heads(y))

    def _attend_unprojected(self, x: Tensor, visual: Tensor, mask: Tensor) -> Tensor:
        """Apply the key and value projections to queries and results instead of visual tokens.

        x (N, K, D), visual (N, L, D), mask (N, 1, 1, L) -> (N, K, D).
        """
        heads = (self.num_heads, x.shape[-1] // self.num_heads)  # H, E
        to_key, to_value = self.key_value.weight.unflatten(0, (2, *heads))  # (H, E, D) each
        # Without the keys' bias: it shifts all scores of a query equally, and softmax cancels it.
        query = self.query(x).view(-1, *heads).transpose(0, 1) @ to_key  # (H, N * K, D)
        query = query.transpose(0, 1).reshape(len(x), 1, -1, x.shape[-1])  # (N, 1, K * H, D)
        tokens, scale = visual[:, None], heads[1] ** -0.5
        y = attend(query, tokens, tokens, mask=mask, scale=scale)
        y = y.view(-1, self.num_heads, x.shape[-1]).transpose(0, 1)  # (H, N * K, D)
        y = (y @ to_value.mT).transpose(0, 1).reshape(x.shape)
        return self.output(y + self.key_value.bias.chunk(2)[1])


class FeedForward(nn.Sequential):
    """Two linear layers with ReLU, applied to each token."""

    def __init__(self, dim: int, hidden_dim: int, dropout: float) -> None:
        super().__init__(
            linear_layer(dim, hidden_dim),
            nn.ReLU(),
            nn.Dropout(dropout),
            linear_layer(hidden_dim, dim),
        )


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward layers with residual connections."""

    def __init__(self, *, dim: int, num_heads: int, ffn_dim: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = SelfAttention(dim, num_heads)
        self.ffn_norm = nn.LayerNorm(dim)
        self.ffn = FeedForward(dim, ffn_dim, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x), mask=mask))
        return x + self.dropout(self.ffn(self.ffn_norm(x)))


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention and feed-forward layers with residual connections."""

    def __init__(self, *, dim: int, num_heads: int, ffn_dim: int, dropout: float) -> None:
        super().__init__()
        self.text_norm = nn.LayerNorm(dim)
        self.text_attention = SelfAttention(dim, num_heads)
        self.visual_norm = nn.LayerNorm(dim)
        self.visual_attention = CrossAttention(dim, num_heads)
        self.ffn_norm = nn.LayerNorm(dim)
        self.ffn = FeedForward(dim, ffn_dim, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, visual: Tensor, mask: Tensor) -> Tensor:
        """Whole texts x (R, T, D), K of each image, with causal attention."""
        x = x + self.dropout(self.text_attention(self.text_norm(x), causal=True))
        by_image = x.view(len(mask), -1, x.shape[-1])  # (N, K * T, D)
        return self._cross_attend(by_image, visual, mask).view_as(x)

    def step(self, x: Tensor, past: Tensor, position: int, visual: Tensor, mask: Tensor) -> Tensor:
        """The newest token of each beam, x (N, K, D)."""
        rows = self.text_norm(x).flatten(0, 1)[:, None]  # (R, 1, D)
        x = x + self.dropout(self.text_attention.step(rows, past, position)).view_as(x)
        return self._cross_attend(x, visual, mask)

    def extend(
        self, x: Tensor, past: Tensor, visual: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`step` without in-place writes; arguments as in `SelfAttention.extend`."""
        attended, grown = self.text_attention.extend(self.text_norm(x), past)
        return self._cross_attend(x + self.dropout(attended), visual, mask), grown

    def _cross_attend(self, x: Tensor, visual: Tensor, mask: Tensor) -> Tensor:
        """Cross-attention and feed-forward layers."""
        x = x + self.dropout(self.visual_attention(self.visual_norm(x), visual, mask))
        return x + self.dropout(self.ffn(self.ffn_norm(x)))


class TransformerEncoder(nn.Module):
    """Self-attention among visual tokens; padding does not influence the others."""

    def __init__(
        self, num_layers: int, *, dim: int, num_heads: int, ffn_dim: int, dropout: float
    ) -> None:
        super().__init__()
        layers = [
            EncoderLayer(dim=dim, num_heads=num_heads, ffn_dim=ffn_dim, dropout=dropout)
            for _ in range(num_layers)
        ]
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        """x (N, L, D), padding (N, L) True for tokens to ignore -> (N, L, D)."""
        mask = attention_mask(padding)
        for layer in iterate(self.layers, EncoderLayer):
            x = layer(x, mask)
        return self.norm(x)


class TransformerDecoder(nn.Module):
    """Decodes text from visual tokens: whole texts in parallel, or token by token with a cache."""

    def __init__(
        self, num_layers: int, *, dim: int, num_heads: int, ffn_dim: int, dropout: float
    ) -> None:
        super().__init__()
        layers = [
            DecoderLayer(dim=dim, num_heads=num_heads, ffn_dim=ffn_dim, dropout=dropout)
            for _ in range(num_layers)
        ]
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(dim)

    def each_layer(self) -> Iterator[DecoderLayer]:
        return iterate(self.layers, DecoderLayer)

    def forward(self, x: Tensor, visual: Tensor, padding: Tensor) -> Tensor:
        """Decode whole texts.

        Args:
            x: (R, T, D) embedded tokens, of K texts of each image.
            visual: (N, L, D) visual tokens.
            padding: (N, L) bool, True for visual tokens to ignore.

        Returns:
            (R, T, D); a token depends only on itself and the previous ones.
        """
        mask = attention_mask(padding)
        for layer in self.each_layer():
            x = layer(x, layer.visual_attention.project(visual), mask)
        return self.norm(x)

    @torch.no_grad()
    def start(
        self, visual: Tensor, padding: Tensor, *, beam_size: int, max_length: int
    ) -> DecoderCache:
        """A cache for texts of up to max_length; it projects visual tokens if that is faster."""
        layers = list(self.each_layer())
        visuals = tuple(visual for _ in layers)
        if self._projects(visual, queries=beam_size * max_length):
            visuals = self.project(visual)
        heads = layers[0].text_attention.num_heads
        shape = (len(layers), 2, len(visual) * beam_size, heads, max_length)
        past = visuals[0].new_empty(*shape, visual.shape[2] // heads)
        return DecoderCache(past, visuals, attention_mask(padding))

    def project(self, visual: Tensor) -> tuple[Tensor, ...]:
        """Keys and values of the visual tokens for each layer, (2, N, H, L, E)."""
        return tuple(layer.visual_attention.project(visual) for layer in self.each_layer())

    def _projects(self, visual: Tensor, queries: int) -> bool:
        """Whether this number of queries for each image is faster with projected visual tokens."""
        device = visual.device.type
        return (
            device != "cpu"  # GPUs have no fast attention kernel for heads of width D
            or torch.is_autocast_enabled(device)  # each step would convert all visual tokens
            or len(visual) == 1  # keys and values of one image fit the CPU's cache
            or next(self.each_layer()).visual_attention.projects(queries)
        )

    @torch.no_grad()
    def step(self, x: Tensor, cache: DecoderCache, position: int) -> Tensor:
        """Decode the newest token of each beam, x (N, K, D), after `position` others."""
        for layer, past, visual in zip(self.each_layer(), cache.text, cache.visual, strict=True):
            x = layer.step(x, past, position, visual, cache.mask)
        return self.norm(x)

    def extend(
        self, x: Tensor, past: Tensor, visual: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`step` without in-place writes, for exporters.

        Args:
            x: (N, K, D) the newest token of each beam.
            past: (layers, 2, N, K, H, T, E) keys and values of the previous tokens.
            visual: (layers, 2, N, H, L, E) the stacked result of `project`.
            mask: (N, 1, 1, L).

        Returns:
            (N, K, D), and the past including the newest token (layers, 2, N, K, H, T + 1, E).
        """
        grown = []
        parts = zip(self.each_layer(), past.unbind(), visual.unbind(), strict=True)
        for layer, layer_past, layer_visual in parts:
            x, longer = layer.extend(x, layer_past, layer_visual, mask)
            grown.append(longer)
        return self.norm(x), torch.stack(grown)


def iterate(layers: nn.ModuleList, kind: type[Layer]) -> Iterator[Layer]:
    """The layers of a list that has one type."""
    for layer in layers:
        assert isinstance(layer, kind)
        yield layer


def attention_mask(padding: Tensor) -> Tensor:
    """Padding (N, L) -> mask (N, 1, 1, L), which is True everywhere if all tokens are padding."""
    all_padding = padding.all(dim=1, keepdim=True)  # (N, 1); an empty mask would give NaN
    return (~padding | all_padding)[:, None, None]


def split_heads(x: Tensor, num_heads: int, *, parts: int) -> Tensor:
    """(N, T, parts * D) -> (parts, N, H, T, E)."""
    return x.unflatten(2, (parts, num_heads, -1)).permute(2, 0, 3, 1, 4)


def merge_heads(x: Tensor) -> Tensor:
    """(N, H, T, E) -> (N, T, D)."""
    return x.transpose(1, 2).flatten(2)


def linear_layer(in_features: int, out_features: int, *, parts: int = 1) -> nn.Linear:
    """`parts` projections in one layer, each initialized separately."""
    linear = nn.Linear(in_features, parts * out_features)
    for weight in linear.weight.chunk(parts):
        nn.init.xavier_uniform_(weight)
    nn.init.zeros_(linear.bias)
    return linear
