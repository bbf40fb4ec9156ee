"""Caption head: a transformer decoder over pixels of feature maps and detected objects.

Shapes: N images, K captions or beams of an image, L visual tokens, T text tokens, D width, V
vocabulary.
"""

from collections.abc import Hashable, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ....letterbox import Content
from ...objects import CaptionTargets, Reward
from ...reduce import over_processes
from ..registry import CAPTION_HEAD_REGISTRY
from .decoding import Captions, Decoding, Step, decode, sample_texts
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
from .self_critical import SelfCritical, advantages
from .transformer import TransformerDecoder, TransformerEncoder, linear_layer
from .visual_tokens import RegionTokens, VisualTokens, pixel_tokens


@CAPTION_HEAD_REGISTRY.register()
class TransformerCaptionHead(nn.Module):
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
        super().__init__()
        sizes, regions = sizes or TransformerSizes(), regions or RegionOptions()
        training, decoding = training or CaptionTraining(), decoding or Decoding()
        vocabulary.check()
        sizes.check()
        regions.check(sizes.dim)
        training.check()
        sizes.check_length(f"{KEY}.TEST.MAX_TOKENS", decoding.max_tokens)
        decoding.check()
        if self_critical is not None:
            self_critical.check()
        maps = select_maps(input_shape, in_features)
        self.in_features = list(in_features)
        self.strides = {name: shape.stride for name, shape in maps.items()}
        self.vocabulary = vocabulary.for_decoding()
        self.label_smoothing = training.label_smoothing
        self.loss_weight = training.loss_weight
        self.word_dropout = training.word_dropout
        self.decoding, self.self_critical = decoding, self_critical

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

    @property
    def pad_id(self) -> int:
        return self.vocabulary.pad_id

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
        if self.regions is not None and regions is not None:
            assert self.region_feature
            parts.insert(0, self.regions(features[self.region_feature], regions, contents))
        tokens = torch.cat([part.tokens for part in parts], dim=1)  # (N, L, D)
        padding = torch.cat([part.padding for part in parts], dim=1)  # (N, L)
        if self.encoder is not None:
            tokens = self.encoder(tokens, padding)
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

    def losses(
        self, tokens: VisualTokens, captions: CaptionTargets, reward: Reward | None = None
    ) -> dict[str, Tensor]:
        """The cross-entropy, or with `self_critical` in training the self-critical loss.

        Args:
            tokens: the result of `forward`.
            captions: of the images; tokens that are padding have no loss.
            reward: of sampled captions; required for the self-critical loss, otherwise ignored.
        """
        is_target = (captions.ids[..., 1:] != self.pad_id) & captions.known[:, None, None]
        if self.self_critical is None or not self.training:
            loss = self._cross_entropy_loss(tokens, captions.ids, is_target)
            return {"loss_caption": self.loss_weight * loss}
        if reward is None:
            raise ValueError(
                f"{KEY}.SCST.SAMPLES is not 0: training needs a reward, model(batch, reward=...)"
            )
        has_caption = is_target.flatten(1).any(dim=1)  # (N,)
        images = captions.image_ids
        loss = self._self_critical_loss(self.self_critical, tokens, has_caption, images, reward)
        if self.self_critical.ce_weight:
            cross_entropy = self._cross_entropy_loss(tokens, captions.ids, is_target)
            loss = loss + self.self_critical.ce_weight * cross_entropy
        return {"loss_caption": self.loss_weight * loss}

    def _cross_entropy_loss(self, tokens: VisualTokens, ids: Tensor, is_target: Tensor) -> Tensor:
        """Mean cross-entropy of captions (N, K, T) at the target tokens (N, K, T - 1)."""
        smoothing = self.label_smoothing
        return self._token_losses(tokens, self._drop_words(ids), ids, is_target, smoothing).sum()

    def _self_critical_loss(
        self,
        options: SelfCritical,
        tokens: VisualTokens,
        has_caption: Tensor,
        image_ids: Sequence[Hashable],
        reward: Reward,
    ) -> Tensor:
        """Mean of -advantage * log-probability over the tokens of sampled captions."""
        images, length = len(has_caption), self.decoding.max_tokens
        with torch.no_grad():
            uniform = torch.rand(images, options.samples, length, device=tokens.tokens.device)
            step = self._step(tokens, width=options.samples, max_tokens=length)
            ids = sample_texts(step, self.vocabulary, uniform, num_images=images).ids  # (N, K, T)
            weights = advantages(reward(image_ids, ids).to(ids.device))  # (N, K)
        is_target = (ids[..., 1:] != self.pad_id) & has_caption[:, None, None]
        is_target[..., -1] = False  # the end token is forced there
        losses = self._token_losses(tokens, ids, ids, is_target)
        return (losses * weights[..., None].to(losses.dtype)).sum()

    def _token_losses(
        self,
        tokens: VisualTokens,
        decoder_input: Tensor,
        ids: Tensor,
        is_target: Tensor,
        label_smoothing: float = 0.0,
    ) -> Tensor:
        """Cross-entropy of each token after the first, divided by the number of target tokens.

        Args:
            tokens: the result of `forward`.
            decoder_input: (N, K, T) token ids.
            ids: (N, K, T) token ids to predict.
            is_target: (N, K, T - 1) bool, False where there is no loss.
            label_smoothing: share of the target probability that is spread over the vocabulary.

        Returns:
            (N, K, T - 1), 0 where there is no loss; the divisor counts all processes' tokens.
        """
        logits = self.text_logits(tokens, decoder_input[..., :-1].flatten(0, -2)).flatten(0, 1)
        losses = F.cross_entropy(
            logits.to(torch.promote_types(logits.dtype, torch.float32)),
            ids[..., 1:].masked_fill(~is_target, -1).flatten(),
            ignore_index=-1,
            reduction="none",
            label_smoothing=label_smoothing,
        )
        total, processes = over_processes(is_target.sum())
        return losses.view_as(is_target) * processes / total.clamp(min=1)

    def _drop_words(self, ids: Tensor) -> Tensor:
        """In training, randomly replace tokens except the begin with padding (word dropout)."""
        if not (self.training and self.word_dropout):
            return ids
        dropped = torch.rand(ids.shape, device=ids.device) < self.word_dropout
        dropped &= ids != self.vocabulary.bos_id
        return ids.masked_fill(dropped, self.pad_id)

    @torch.no_grad()
    def generate(self, tokens: VisualTokens, **changes: Any) -> Captions:
        """Generate one caption for each image.

        Args:
            tokens: the result of `forward`.
            changes: fields of `Decoding` that differ from `decoding`.
        """
        options = self.decoding._replace(**changes)
        return decode(
            self._step(tokens, width=options.width, max_tokens=options.max_tokens),
            self.vocabulary,
            options,
            num_images=len(tokens.tokens),
            device=tokens.tokens.device,
        )

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
