"""The transformer of the caption head: pre-norm layers, and a decoder that remembers its past.

Shapes: N images, K beams or texts of each, R = N * K rows of text, T text tokens, L visual tokens,
D width, H heads, E = D / H. A mask is True where attention may look.
"""

from collections.abc import Iterable
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DecoderCache(NamedTuple):
    """What a decoder keeps between steps: keys and values of each layer."""

    text: Tensor  # (layers, 2, R, H, T, E) of the tokens so far; later columns are empty
    visual: tuple[Tensor, ...]  # of each layer (2, N, H, L, E), or (N, L, D): not projected
    mask: Tensor  # (N, 1, 1, L)

    def reorder(self, parents: Tensor, position: int) -> None:
        """Let each beam go on from the past (`position` tokens) of the beam (N, K) before it."""
        first_row = torch.arange(len(parents), device=parents.device)[:, None] * parents.shape[1]
        past = self.text[..., :position, :]  # (layers, 2, R, H, position, E)
        past.copy_(past.index_select(2, (first_row + parents).flatten()))


class SelfAttention(nn.Module):
    """Tokens look at each other."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query_key_value = linear_layer(dim, dim, parts=3)
        self.output = linear_layer(dim, dim)

    def forward(self, x: Tensor, *, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """x (N, T, D) -> (N, T, D); the mask broadcasts to (N, H, T, T)."""
        query, key, value = split_heads(self.query_key_value(x), self.num_heads, parts=3)
        y = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal)
        return self.output(merge_heads(y))

    def step(self, x: Tensor, past: Tensor, position: int) -> Tensor:
        """The newest token of each row, x (R, 1, D), looks at itself and at those before.

        Args:
            x: the tokens at `position`.
            past: (2, R, H, T, E) keys and values up to `position`, which are written into it.
            position: how many tokens came before.
        """
        heads = split_heads(self.query_key_value(x), self.num_heads, parts=3)  # (3, R, H, 1, E)
        past[..., position : position + 1, :] = heads[1:]
        key, value = past[..., : position + 1, :]  # (R, H, position + 1, E) each
        y = F.scaled_dot_product_attention(heads[0], key, value)  # (R, H, 1, E)
        return self.output(merge_heads(y))

    def extend(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """As `step`, but nothing is written into: for exporters, to which memory means nothing.

        Args:
            x: (N, K, D) the newest token of each beam.
            past: (2, N, K, H, T, E) keys and values of the tokens before.

        Returns:
            As x, and keys and values with the newest token's (2, N, K, H, T + 1, E).
        """
        rows = x.flatten(0, 1)[:, None]  # (R, 1, D)
        heads = split_heads(self.query_key_value(rows), self.num_heads, parts=3)  # (3, R, H, 1, E)
        grown = torch.cat([past, heads[1:].unflatten(1, x.shape[:2])], dim=4)
        key, value = grown.flatten(1, 2)  # (R, H, T + 1, E) each
        y = F.scaled_dot_product_attention(heads[0], key, value)  # (R, H, 1, E)
        return self.output(merge_heads(y)).view_as(x), grown


class CrossAttention(nn.Module):
    """Text looks at the image. Tokens do not see each other here: beams are just more of them."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = linear_layer(dim, dim)
        self.key_value = linear_layer(dim, dim, parts=2)
        self.output = linear_layer(dim, dim)

    def project(self, visual: Tensor) -> Tensor:
        """Visual tokens (N, L, D) -> their keys and values (2, N, H, L, E)."""
        return split_heads(self.key_value(visual), self.num_heads, parts=2)

    def projects(self, queries: int) -> bool:
        """Whether to `project` takes fewer multiplications, for so many queries to each image.

        Of each visual token, keys and values take 2 D * D, and each query 2 D with them. Without,
        a query takes 2 D in each head.
        """
        dim = self.query.in_features
        return dim + queries <= queries * self.num_heads

    def forward(self, x: Tensor, visual: Tensor, mask: Tensor) -> Tensor:
        """Read the image.

        Args:
            x: (N, T or K, D).
            visual: what `project` returned, or the visual tokens themselves (N, L, D).
            mask: (N, 1, 1, L).

        Returns:
            as x.
        """
        if visual.dim() == 3:
            return self._read_tokens(x, visual, mask)
        (query,) = split_heads(self.query(x), self.num_heads, parts=1)  # (N, H, T or K, E)
        key, value = visual
        y = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.output(merge_heads(y))

    def _read_tokens(self, x: Tensor, visual: Tensor, mask: Tensor) -> Tensor:
        """What `project` would do to all visual tokens is done to queries and results instead.

        x (N, K, D), visual (N, L, D), mask (N, 1, 1, L) -> (N, K, D).
        """
        heads = (self.num_heads, x.shape[-1] // self.num_heads)  # H, E
        to_key, to_value = self.key_value.weight.unflatten(0, (2, *heads))  # (H, E, D) each
        # The keys' bias adds the same to all of a query's scores, which softmax does not see.
        query = self.query(x).view(-1, *heads).transpose(0, 1) @ to_key  # (H, N * K, D)
        query = query.transpose(0, 1).reshape(len(x), 1, -1, x.shape[-1])  # (N, 1, K * H, D)
        tokens, scale = visual[:, None], heads[1] ** -0.5
        y = F.scaled_dot_product_attention(query, tokens, tokens, attn_mask=mask, scale=scale)
        y = y.view(-1, self.num_heads, x.shape[-1]).transpose(0, 1)  # (H, N * K, D)
        y = (y @ to_value.mT).transpose(0, 1).reshape(x.shape)
        return self.output(y + self.key_value.bias.chunk(2)[1])


class FeedForward(nn.Sequential):
    """Each token on its own: wide, ReLU, narrow."""

    def __init__(self, dim: int, hidden_dim: int, dropout: float) -> None:
        super().__init__(
            linear_layer(dim, hidden_dim),
            nn.ReLU(),
            nn.Dropout(dropout),
            linear_layer(hidden_dim, dim),
        )


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each added to what it reads."""

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
    """Self-attention, cross-attention and feed-forward, each added to what it reads."""

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
        """Whole texts x (R, T, D), several of each image; each token sees those before it."""
        x = x + self.dropout(self.text_attention(self.text_norm(x), causal=True))
        of_image = x.view(len(mask), -1, x.shape[-1])  # (N, K * T, D)
        return self._look_and_think(of_image, visual, mask).view_as(x)

    def step(self, x: Tensor, past: Tensor, position: int, visual: Tensor, mask: Tensor) -> Tensor:
        """The newest token of each beam, x (N, K, D)."""
        rows = self.text_norm(x).flatten(0, 1)[:, None]  # (R, 1, D)
        x = x + self.dropout(self.text_attention.step(rows, past, position)).view_as(x)
        return self._look_and_think(x, visual, mask)

    def extend(
        self, x: Tensor, past: Tensor, visual: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As `step`, with shapes as of `SelfAttention.extend`; the past is given back, longer."""
        heard, grown = self.text_attention.extend(self.text_norm(x), past)
        return self._look_and_think(x + self.dropout(heard), visual, mask), grown

    def _look_and_think(self, x: Tensor, visual: Tensor, mask: Tensor) -> Tensor:
        x = x + self.dropout(self.visual_attention(self.visual_norm(x), visual, mask))
        return x + self.dropout(self.ffn(self.ffn_norm(x)))


class TransformerEncoder(nn.Module):
    """Visual tokens look at each other; padding has no influence on the others."""

    def __init__(
        self, num_layers: int, *, dim: int, num_heads: int, ffn_dim: int, dropout: float
    ) -> None:
        super().__init__()
        layers = [
            EncoderLayer(dim=dim, num_heads=num_heads, ffn_dim=ffn_dim, dropout=dropout)
            for _ in range(num_layers)
        ]
        self.layers = cast("Iterable[EncoderLayer]", nn.ModuleList(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        """x (N, L, D), padding (N, L) True where there is no image -> (N, L, D)."""
        mask = attention_mask(padding)
        for layer in self.layers:
            x = layer(x, mask)
        return self.norm(x)


class TransformerDecoder(nn.Module):
    """Text that sees its past and the image; whole texts at once, or a token at a time."""

    def __init__(
        self, num_layers: int, *, dim: int, num_heads: int, ffn_dim: int, dropout: float
    ) -> None:
        super().__init__()
        layers = [
            DecoderLayer(dim=dim, num_heads=num_heads, ffn_dim=ffn_dim, dropout=dropout)
            for _ in range(num_layers)
        ]
        self.layers = cast("Iterable[DecoderLayer]", nn.ModuleList(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, visual: Tensor, padding: Tensor) -> Tensor:
        """Whole texts.

        Args:
            x: (R, T, D) embedded tokens, of equally many texts of each image.
            visual: (N, L, D) visual tokens.
            padding: (N, L) bool, True where there is no image.

        Returns:
            (R, T, D); what follows a token has no influence on it.
        """
        mask = attention_mask(padding)
        for layer in self.layers:
            x = layer(x, layer.visual_attention.project(visual), mask)
        return self.norm(x)

    @torch.no_grad()
    def start(
        self, visual: Tensor, padding: Tensor, *, beam_size: int, max_length: int
    ) -> DecoderCache:
        """Project the image once, if that pays, and make room for texts of up to max_length."""
        layers = list(self.layers)
        visuals = tuple(visual for _ in layers)
        if self._projects(visual, queries=beam_size * max_length):
            visuals = self.project(visual)
        heads = layers[0].text_attention.num_heads
        room = (len(layers), 2, len(visual) * beam_size, heads, max_length)
        past = visuals[0].new_empty(*room, visual.shape[2] // heads)
        return DecoderCache(past, visuals, attention_mask(padding))

    def project(self, visual: Tensor) -> tuple[Tensor, ...]:
        """The image's keys and values in each layer, (2, N, H, L, E)."""
        return tuple(layer.visual_attention.project(visual) for layer in self.layers)

    def _projects(self, visual: Tensor, queries: int) -> bool:
        """Whether so many queries to each image are sooner done with its keys and values."""
        device = visual.device.type
        return (
            device != "cpu"  # GPUs have no fast kernel for heads as wide as a token
            or torch.is_autocast_enabled(device)  # each step would convert all visual tokens
            or len(visual) == 1  # whose keys and values a CPU's cache can hold
            or next(iter(self.layers)).visual_attention.projects(queries)
        )

    @torch.no_grad()
    def step(self, x: Tensor, cache: DecoderCache, position: int) -> Tensor:
        """The newest token of each beam, x (N, K, D), which `position` others precede."""
        for layer, past, visual in zip(self.layers, cache.text, cache.visual, strict=True):
            x = layer.step(x, past, position, visual, cache.mask)
        return self.norm(x)

    def extend(
        self, x: Tensor, past: Tensor, visual: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As `step`, but nothing is written into: for exporters.

        Args:
            x: (N, K, D) the newest token of each beam.
            past: (layers, 2, N, K, H, T, E) keys and values of the tokens before.
            visual: (layers, 2, N, H, L, E) what `project` returned, stacked.
            mask: (N, 1, 1, L).

        Returns:
            (N, K, D), and the past with the newest token (layers, 2, N, K, H, T + 1, E).
        """
        grown = []
        for layer, before, image in zip(self.layers, past.unbind(), visual.unbind(), strict=True):
            x, longer = layer.extend(x, before, image, mask)
            grown.append(longer)
        return self.norm(x), torch.stack(grown)


def attention_mask(padding: Tensor) -> Tensor:
    """Padding (N, L) -> mask (N, 1, 1, L). Without any content all is seen: nothing gives NaN."""
    nothing = padding.all(dim=1, keepdim=True)  # (N, 1)
    return (~padding | nothing)[:, None, None]


def split_heads(x: Tensor, num_heads: int, *, parts: int) -> Tensor:
    """(N, T, parts * D) -> (parts, N, H, T, E)."""
    return x.unflatten(2, (parts, num_heads, -1)).permute(2, 0, 3, 1, 4)


def merge_heads(x: Tensor) -> Tensor:
    """(N, H, T, E) -> (N, T, D)."""
    return x.transpose(1, 2).flatten(2)


def linear_layer(in_features: int, out_features: int, *, parts: int = 1) -> nn.Linear:
    """Several projections in one, initialised as if each were alone."""
    linear = nn.Linear(in_features, parts * out_features)
    for weight in linear.weight.chunk(parts):
        nn.init.xavier_uniform_(weight)
    nn.init.zeros_(linear.bias)
    return linear
