"""Caption head of gyolo: text from a coarse grid and from points chosen by other heads' outputs.

Shapes: N images, K captions or beams of an image, G grid tokens, R region tokens, A points of the
detection head, S semantic classes, T text tokens, D width, V vocabulary.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ....errors import ConfigError
from ....letterbox import Content
from ...layers import ConvBlock
from ...layers.functional import pick
from ...objects import HeadOutputs
from ..registry import CAPTION_HEAD_REGISTRY
from .base import CaptionHead
from .decoding import Decoding, Step
from .encodings import FixedPositionEmbedding
from .options import (
    KEY,
    CaptionTraining,
    PointOptions,
    TransformerSizes,
    VocabularyOptions,
    decoding_from_config,
    select_maps,
    self_critical_from_config,
)
from .parallel_attention import ParallelDecoder, PostNormEncoderLayer
from .regions import top
from .self_critical import SelfCritical
from .transformer import linear_layer


class GridAndRegions(NamedTuple):
    """An encoded image. Padding of the canvas is not masked, as in the published network."""

    grid: Tensor  # (N, G, D)
    regions: Tensor  # (N, R, D) of points with the best class scores, then one per semantic class


@CAPTION_HEAD_REGISTRY.register()
class GridRegionCaptionHead(CaptionHead):
    """Decodes text with parallel attention to grid tokens and region tokens.

    State names: `grid`, `points.{map}`, `semantic_points`, `text.{words,positions}`,
    `decoder.layers.{i}`, `output`.

    Args:
        input_shape: channels and strides of the maps.
        in_features: the map whose pixels are grid tokens.
        points: where region tokens are taken from.
        vocabulary: sizes and ids of the vocabulary; its output layer is not tied.
        sizes: of the transformer; None: the defaults.
        training: regularization and weight of the loss; None: the defaults.
        decoding: what `generate` does without arguments; None: the defaults.
        self_critical: how to train with rewards; None: with cross-entropy.
    """

    reads = frozenset({"detection", "semantic"})

    @configurable
    def __init__(
        self,
        *,
        input_shape: dict[str, ShapeSpec],
        in_features: Sequence[str],
        points: PointOptions,
        vocabulary: VocabularyOptions,
        sizes: TransformerSizes | None = None,
        training: CaptionTraining | None = None,
        decoding: Decoding | None = None,
        self_critical: SelfCritical | None = None,
    ) -> None:
        sizes, training = sizes or TransformerSizes(), training or CaptionTraining()
        decoding = decoding or Decoding()
        super().__init__(
            vocabulary=vocabulary,
            training=training,
            decoding=decoding,
            self_critical=self_critical,
        )
        sizes.check()
        sizes.check_length(f"{KEY}.TEST.MAX_TOKENS", decoding.max_tokens)
        _check_options(in_features, vocabulary, training)
        points.check()
        (grid,) = select_maps(input_shape, in_features).values()
        self.in_features = list(dict.fromkeys([*in_features, *points.features]))
        self.max_points = points.max_points

        dim, dropout = sizes.dim, training.dropout
        layer: dict[str, Any] = {
            "dim": dim,
            "num_heads": sizes.num_heads,
            "ffn_dim": sizes.ffn_dim,
            "dropout": dropout,
        }
        self.grid = GridEncoder(grid.channels, sizes.encoder_layers, **layer)
        self.points = nn.ModuleDict(
            {name: _projection(input_shape[name].channels, dim) for name in points.features}
        )
        self.semantic_points = _projection(points.semantic_channels, dim)
        self.text = FixedPositionEmbedding(
            vocabulary.vocab_size, sizes.max_positions, dim, pad_id=vocabulary.pad_id
        )
        self.decoder = ParallelDecoder(sizes.decoder_layers, **layer)
        self.output = nn.Linear(dim, vocabulary.vocab_size, bias=False)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        sizes = TransformerSizes.from_config(cfg)
        sizes.check_length("TOKENIZER.MAX_TOKENS", cfg.TOKENIZER.MAX_TOKENS)
        return {
            "input_shape": input_shape,
            "in_features": cfg.MODEL.CAPTION_HEAD.IN_FEATURES,
            "points": PointOptions.from_config(cfg, input_shape),
            "vocabulary": VocabularyOptions.from_config(cfg),
            "sizes": sizes,
            "training": CaptionTraining.from_config(cfg),
            "decoding": decoding_from_config(cfg),
            "self_critical": self_critical_from_config(cfg),
        }

    def forward(
        self,
        features: Mapping[str, Tensor],
        contents: Sequence[Content] | Tensor | None = None,
        outputs: HeadOutputs | None = None,
    ) -> GridAndRegions:
        """Encode maps (N, C, h, w) as visual tokens.

        Args:
            features: maps by name; further ones are ignored.
            contents: ignored.
            outputs: of the other heads; required.
        """
        if outputs is None:
            raise ValueError(f"{type(self).__name__} needs the outputs of the other heads")
        grid = self.grid(features[self._grid_feature])
        maps = [blocks(features[name]).flatten(2) for name, blocks in self.points.items()]
        points = torch.cat(maps, dim=2).transpose(1, 2)  # (N, A, D)
        best = top(outputs.class_logits.amax(dim=2), self.max_points)[1]  # (N, M)
        semantic = self._semantic_tokens(outputs.semantic_logits, outputs.semantic_features)
        return GridAndRegions(grid, torch.cat([pick(points, best), semantic], dim=1))

    @property
    def _grid_feature(self) -> str:
        return self.in_features[0]

    def _semantic_tokens(self, logits: Tensor, features: Tensor) -> Tensor:
        """The pixel with the highest logit of each class.

        logits (N, S, h, w), features (N, X, h, w) -> (N, S, D).
        """
        pixels = logits.flatten(2).argmax(dim=2)  # (N, S)
        if self.training:  # batch norms use the statistics of the whole map
            return pick(self.semantic_points(features).flatten(2).transpose(1, 2), pixels)
        picked = pick(features.flatten(2).transpose(1, 2), pixels)  # (N, S, X)
        return self.semantic_points(picked.transpose(1, 2)[..., None])[..., 0].transpose(1, 2)

    def text_logits(self, tokens: GridAndRegions, ids: Tensor) -> Tensor:
        """Next-token logits of whole texts: ids (N * K, T) -> (N * K, T, V).

        The K texts of an image are consecutive. Logits after padding are 0.
        """
        x = self.decoder(self.text(ids, slice(ids.shape[1])), *tokens)  # (N * K, T, D)
        return self.words_logits(x.masked_fill((ids == self.pad_id)[:, :, None], 0))

    def words_logits(self, x: Tensor) -> Tensor:
        """The decoder's output (..., D) -> logits (..., V)."""
        return self.output(x)

    def _step(self, tokens: GridAndRegions, *, width: int, max_tokens: int) -> Step:
        """One decoding step as a function, with a cache of the previous tokens."""
        projected = self.decoder.project(*tokens)
        layers, _, images, heads, _, channels = projected[0].shape
        past = projected[0].new_empty(layers, 2, images, width, heads, 0, channels)
        first = torch.arange(images, device=past.device)[:, None] * width  # (N, 1) of each image

        def step(ids: Tensor, position: int, parents: Tensor | None, /) -> Tensor:
            nonlocal past
            if parents is not None:
                rows = (first + parents).flatten()
                past = past.flatten(2, 3).index_select(2, rows).view_as(past)
            x, past = self.decoder.extend(self.text(ids, position), past, *projected)
            return self.words_logits(x)

        return step


class GridEncoder(nn.Module):
    """Encodes the pixels of a map as tokens."""

    def __init__(
        self,
        channels: int,
        num_layers: int,
        *,
        dim: int,
        num_heads: int,
        ffn_dim: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.blocks = _projection(channels, channels)
        self.project = linear_layer(channels, dim)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(dim)
        self.layers = nn.Sequential(
            *(
                PostNormEncoderLayer(dim=dim, num_heads=num_heads, ffn_dim=ffn_dim, dropout=dropout)
                for _ in range(num_layers)
            )
        )

    def forward(self, feature: Tensor) -> Tensor:
        """A map (N, C, h, w) -> (N, h * w, D)."""
        pixels = self.blocks(feature).flatten(2).transpose(1, 2)  # (N, h * w, C)
        return self.layers(self.norm(self.dropout(F.relu(self.project(pixels)))))


def _projection(in_channels: int, channels: int) -> nn.Sequential:
    return nn.Sequential(ConvBlock(in_channels, channels, 1), ConvBlock(channels, channels, 1))


def _check_options(
    in_features: Sequence[str], vocabulary: VocabularyOptions, training: CaptionTraining
) -> None:
    """Raise ValueError for options that the head does not have."""
    name = GridRegionCaptionHead.__name__
    if len(in_features) != 1:
        raise ConfigError(f"{KEY}.IN_FEATURES must be one map for {name}, not {list(in_features)}")
    if vocabulary.tied or vocabulary.output_dims:
        raise ConfigError(f"{KEY}.TIED must be False and {KEY}.OUTPUT_DIMS [] for {name}")
    if training.word_dropout:
        # Nothing is predicted after padding, which would replace the dropped words.
        raise ConfigError(f"{KEY}.WORD_DROPOUT must be 0 for {name}, not {training.word_dropout}")
