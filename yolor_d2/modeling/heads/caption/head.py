"""Caption head: a transformer decoder over pixels of feature maps and detected objects.

Shapes: N images, K captions or beams of an image, L visual tokens, T text tokens, D width, V
vocabulary.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ....letterbox import Content
from ..registry import CAPTION_HEAD_REGISTRY
from .base import CaptionHead
from .decoding import Decoding, Step
from .encodings import TextEmbedding
from .options import (
    KEY,
    CaptionTraining,
    RegionOptions,
    TransformerSizes,
    VocabularyOptions,
    decoding_from_config,
    select_maps,
    select_region_map,
    self_critical_from_config,
)
from .regions import Regions
from .self_critical import SelfCritical
from .transformer import TransformerDecoder, TransformerEncoder, linear_layer
from .visual_tokens import RegionTokens, VisualTokens, pixel_tokens


@CAPTION_HEAD_REGISTRY.register()
class TransformerCaptionHead(CaptionHead):
    """Encodes an image as visual tokens and decodes them into text, token by token.

    State names: `regions`, `projections.{map}`, `encoder.layers.{i}`,
    `text.{words,positions,norm}`, `decoder.layers.{i}`, `output.{i}` (unless tied).

    Args:
        input_shape: channels and strides of the maps.
        in_features: the maps whose pixels are visual tokens, in this order.
        vocabulary: sizes and ids of the vocabulary.
        sizes: of the transformer; None: the defaults.
        regions: objects as visual tokens; None: no objects.
        training: regularization and weight of the loss; None: the defaults.
        decoding: what `generate` does without arguments; None: the defaults.
        self_critical: how to train with rewards; None: with cross-entropy.
    """

    text: TextEmbedding

    @configurable
    def __init__(
        self,
        *,
        input_shape: dict[str, ShapeSpec],
        in_features: Sequence[str],
        vocabulary: VocabularyOptions,
        sizes: TransformerSizes | None = None,
        regions: RegionOptions | None = None,
        training: CaptionTraining | None = None,
        decoding: Decoding | None = None,
        self_critical: SelfCritical | None = None,
    ) -> None:
        sizes, regions = sizes or TransformerSizes(), regions or RegionOptions()
        training, decoding = training or CaptionTraining(), decoding or Decoding()
        super().__init__(
            vocabulary=vocabulary,
            training=training,
            decoding=decoding,
            self_critical=self_critical,
        )
        sizes.check()
        regions.check(sizes.dim)
        sizes.check_length(f"{KEY}.TEST.MAX_TOKENS", decoding.max_tokens)
        maps = select_maps(input_shape, in_features)
        self.in_features = list(in_features)
        self.strides = {name: shape.stride for name, shape in maps.items()}

        dim, dropout = sizes.dim, training.dropout
        layer: dict[str, Any] = {
            "dim": dim,
            "num_heads": sizes.num_heads,
            "ffn_dim": sizes.ffn_dim,
            "dropout": dropout,
        }
        self.projections = nn.ModuleDict(
            {name: linear_layer(shape.channels, dim) for name, shape in maps.items()}
        )
        self.region_feature, self.max_regions = regions.region_feature, regions.max_regions
        self.position_scale = regions.position_scale
        self.regions: RegionTokens | None = None
        if self.region_feature:
            shape = select_region_map(input_shape, self.region_feature)
            self.regions = RegionTokens(shape, num_classes=regions.num_classes, dim=dim)
            self.in_features = list(dict.fromkeys([*in_features, self.region_feature]))
        self.encoder = (
            TransformerEncoder(sizes.encoder_layers, **layer) if sizes.encoder_layers else None
        )
        self.text = TextEmbedding(
            vocabulary.vocab_size,
            sizes.max_positions,
            dim,
            pad_id=vocabulary.pad_id,
            dropout=dropout,
        )
        self.decoder = TransformerDecoder(sizes.decoder_layers, **layer)
        self.output = (
            None
            if vocabulary.tied
            else _perceptron(dim, *vocabulary.output_dims, vocabulary.vocab_size)
        )

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        sizes = TransformerSizes.from_config(cfg)
        sizes.check_length("TOKENIZER.MAX_TOKENS", cfg.TOKENIZER.MAX_TOKENS)
        return {
            "input_shape": input_shape,
            "in_features": cfg.MODEL.CAPTION_HEAD.IN_FEATURES,
            "vocabulary": VocabularyOptions.from_config(cfg),
            "sizes": sizes,
            "regions": RegionOptions.from_config(cfg),
            "training": CaptionTraining.from_config(cfg),
            "decoding": decoding_from_config(cfg),
            "self_critical": self_critical_from_config(cfg),
        }

    def forward(
        self,
        features: dict[str, Tensor],
        contents: Sequence[Content] | Tensor | None = None,
        regions: Regions | None = None,
    ) -> VisualTokens:
        """Encode maps (N, C, h, w) as visual tokens.

        Args:
            features: maps by name; further ones are ignored.
            contents: the rectangle of each image on its canvas, also as (N, 4) left, top, width,
                height; None: the whole canvas.
            regions: objects, for a head with a region feature.
        """
        parts = [
            pixel_tokens(features[name], self.projections[name], stride, contents)
            for name, stride in self.strides.items()
        ]
        positions = None
        if self.regions is not None and regions is not None:
            assert self.region_feature
            inputs = features[self.region_feature], regions, contents
            parts.insert(0, self.regions(*inputs))
            if self.position_scale:
                positions = self.position_scale * self.regions.positions(*inputs)  # (N, M, D)
        tokens = torch.cat([part.tokens for part in parts], dim=1)  # (N, L, D)
        padding = torch.cat([part.padding for part in parts], dim=1)  # (N, L)
        if self.encoder is not None:
            tokens = self.encoder(tokens, padding)
        if positions is not None:
            count = positions.shape[1]  # M
            placed = tokens[:, :count] + positions.to(tokens.dtype)
            tokens = torch.cat([placed, tokens[:, count:]], dim=1)
        return VisualTokens(tokens, padding)

    def text_logits(self, tokens: VisualTokens, ids: Tensor) -> Tensor:
        """Next-token logits of whole texts: ids (N * K, T) -> (N * K, T, V).

        The K texts of an image are consecutive.
        """
        text = self.text(ids, slice(ids.shape[1]))  # (N * K, T, D)
        return self.words_logits(self.decoder(text, tokens.tokens, tokens.padding))

    def words_logits(self, x: Tensor) -> Tensor:
        """The decoder's output (..., D) -> logits (..., V)."""
        return F.linear(x, self.text.words.weight) if self.output is None else self.output(x)

    def _step(self, tokens: VisualTokens, *, width: int, max_tokens: int) -> Step:
        """One decoding step as a function, with a cache of the previous tokens."""
        cache = self.decoder.start(*tokens, beam_size=width, max_length=max_tokens - 1)

        def step(ids: Tensor, position: int, parents: Tensor | None, /) -> Tensor:
            if parents is not None:
                cache.reorder(parents, position)
            return self.words_logits(self.decoder.step(self.text(ids, position), cache, position))

        return step


def _perceptron(*sizes: int) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = [nn.Linear(sizes[0], sizes[1])]
    for inputs, outputs in pairwise(sizes[1:]):
        layers += [nn.ReLU(), nn.Linear(inputs, outputs)]
    return nn.Sequential(*layers)
