"""Captions: a transformer decoder that reads the pixels of feature maps, and objects.

Shapes: N images, L visual tokens, T text tokens, K beams, D width, V words of the vocabulary.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ....checks import check_range
from ....letterbox import Content
from ...reduce import over_processes
from ..registry import CAPTION_HEAD_REGISTRY
from .config import (
    KEY,
    check_decoding,
    check_layers,
    check_learning,
    check_length,
    check_rewarded,
    check_widths,
    chosen_maps,
    decoding_options,
    region_arguments,
    region_map,
    self_critical_options,
    vocabulary_arguments,
)
from .decoding import Captions, Decoding, Step, Vocabulary, decode, draw_texts
from .encodings import TextEmbedding
from .regions import Regions
from .self_critical import Reward, SelfCritical, advantages
from .transformer import (
    TransformerDecoder,
    TransformerEncoder,
    linear_layer,
)
from .visual_tokens import RegionTokens, VisualTokens, pixel_tokens


@CAPTION_HEAD_REGISTRY.register()
class TransformerCaptionHead(nn.Module):
    """Pixels of feature maps, and objects -> visual tokens -> text, word by word.

    State names: `regions`, `projections.{map}`, `encoder.layers.{i}`,
    `text.{words,positions,norm}`, `decoder.layers.{i}`, `output.{i}` (unless tied).

    Args:
        input_shape: channels and strides of the maps.
        in_features: the maps whose pixels are tokens, in this order.
        vocab_size: V.
        usable_vocab: ids from here on are never generated; None: V.
        pad_id, bos_id, eos_id: the tokenizer's ids of padding, begin and end.
        max_positions: the longest text.
        dim, num_heads, ffn_dim, decoder_layers, encoder_layers, dropout: of the transformer.
        tied: whether words are predicted with the embedding's own matrix, or else by layers of the
            hidden sizes `output_dims` and one to the vocabulary.
        label_smoothing: share of a target that is spread over all words.
        loss_weight: a factor.
        region_feature: the map that objects are cut from, each one more token; None: no objects.
        max_regions: of an image, at most.
        num_classes: of the objects.
        word_dropout: share of the words that the decoder does not hear in training.
        decoding: what `generate` does when it is not told.
        self_critical: learn from the rewards of drawn captions; None: from the true ones alone.

    Attributes:
        reward: what drawn captions earn. Whoever trains with `self_critical` has to set it.
    """

    reward: Reward | None = None

    @configurable
    def __init__(
        self,
        *,
        input_shape: dict[str, ShapeSpec],
        in_features: Sequence[str],
        vocab_size: int,
        usable_vocab: int | None = None,
        pad_id: int = 0,
        bos_id: int = 1,
        eos_id: int = 2,
        max_positions: int = 128,
        dim: int = 512,
        num_heads: int = 8,
        ffn_dim: int = 2048,
        decoder_layers: int = 3,
        encoder_layers: int = 0,
        dropout: float = 0.1,
        tied: bool = True,
        output_dims: Sequence[int] = (),
        label_smoothing: float = 0.0,
        loss_weight: float = 1.0,
        region_feature: str | None = None,
        max_regions: int = 20,
        num_classes: int = 0,
        word_dropout: float = 0.0,
        decoding: Decoding | None = None,
        self_critical: SelfCritical | None = None,
    ) -> None:
        super().__init__()
        self.decoding, self.self_critical = decoding or Decoding(), self_critical
        check_range(KEY, {"VOCAB_SIZE": vocab_size}, low=max(pad_id, bos_id, eos_id) + 1)
        check_layers(num_heads, ffn_dim, decoder=decoder_layers, encoder=encoder_layers)
        check_learning(dropout, word_dropout, label_smoothing, loss_weight=loss_weight)
        check_widths(dim, num_heads, output_dims, tied=tied)
        check_decoding(self.decoding, max_positions)
        check_rewarded(self_critical)
        maps = chosen_maps(input_shape, in_features)
        self.in_features = list(in_features)
        self.strides = {name: shape.stride for name, shape in maps.items()}
        self.vocabulary = Vocabulary(pad_id, bos_id, eos_id, usable_vocab or vocab_size)
        self.label_smoothing = label_smoothing
        self.loss_weight = loss_weight
        self.word_dropout = word_dropout

        sizes: dict[str, Any] = {"dim": dim, "num_heads": num_heads, "ffn_dim": ffn_dim}
        sizes["dropout"] = dropout
        self.projections = nn.ModuleDict(
            {name: linear_layer(shape.channels, dim) for name, shape in maps.items()}
        )
        self.region_feature, self.max_regions = region_feature, max_regions
        self.regions: RegionTokens | None = None
        if region_feature:
            shape = region_map(input_shape, region_feature)
            self.regions = RegionTokens(shape, num_classes=num_classes, dim=dim)
            self.in_features = list(dict.fromkeys([*in_features, region_feature]))
        self.encoder = TransformerEncoder(encoder_layers, **sizes) if encoder_layers else None
        self.text = TextEmbedding(vocab_size, max_positions, dim, pad_id=pad_id, dropout=dropout)
        self.decoder = TransformerDecoder(decoder_layers, **sizes)
        self.output = None if tied else _perceptron(dim, *output_dims, vocab_size)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        head = cfg.MODEL.CAPTION_HEAD
        check_length(cfg.TOKENIZER.MAX_TOKENS, "TOKENIZER.MAX_TOKENS", head.MAX_POSITIONS)
        return {
            "input_shape": input_shape,
            "in_features": head.IN_FEATURES,
            **vocabulary_arguments(cfg),
            "max_positions": head.MAX_POSITIONS,
            "dim": head.DIM,
            "num_heads": head.NUM_HEADS,
            "ffn_dim": head.FFN_DIM,
            "decoder_layers": head.DECODER_LAYERS,
            "encoder_layers": head.ENCODER_LAYERS,
            "dropout": head.DROPOUT,
            "tied": head.TIED,
            "output_dims": head.OUTPUT_DIMS,
            "label_smoothing": head.LABEL_SMOOTHING,
            "loss_weight": head.LOSS_WEIGHT,
            **region_arguments(cfg),
            "word_dropout": head.WORD_DROPOUT,
            "decoding": decoding_options(cfg),
            "self_critical": self_critical_options(cfg),
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
        """Maps (N, C, h, w) -> visual tokens.

        Args:
            features: the maps, by name; others are ignored.
            contents: where each image lies on its canvas, also as (N, 4) left, top, width, height;
                None: everywhere.
            regions: the objects, for a head that is told of them.
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
        """What follows each token of whole texts: ids (R, T) -> logits (R, T, V).

        The texts of the first image come first, and each image has as many.
        """
        text = self.text(ids, slice(ids.shape[1]))  # (N, T, D)
        return self.words_logits(self.decoder(text, tokens.tokens, tokens.padding))

    def words_logits(self, x: Tensor) -> Tensor:
        """The decoder's output (..., D) -> logits (..., V)."""
        return F.linear(x, self.text.words.weight) if self.output is None else self.output(x)

    def losses(
        self,
        tokens: VisualTokens,
        caption_ids: Tensor,
        known: Tensor | None = None,
        images: Sequence[str] = (),
    ) -> dict[str, Tensor]:
        """Cross-entropy of each next token, or what drawn captions earn; in evaluation the former.

        Args:
            tokens: of `forward`.
            caption_ids: (N, T), or (N, K, T) of several captions of an image: begin, words, end,
                then padding; K captions of nothing but padding count for nothing.
            known: (N,) bool, which images have a caption; None: those with any target.
            images: names of their files, for the reward.
        """
        learnt = caption_ids[..., 1:] != self.pad_id
        if known is not None:
            learnt = learnt & known.view(-1, *[1] * (learnt.dim() - 1))
        if self.self_critical is None or not self.training:
            return {"loss_caption": self.loss_weight * self._likely(tokens, caption_ids, learnt)}
        described = learnt.flatten(1).any(dim=1)  # (N,)
        loss = self._rewarded(self.self_critical, tokens, described, images)
        if self.self_critical.ce_weight:
            likely = self._likely(tokens, caption_ids, learnt)
            loss = loss + self.self_critical.ce_weight * likely
        return {"loss_caption": self.loss_weight * loss}

    def _likely(self, tokens: VisualTokens, ids: Tensor, learnt: Tensor) -> Tensor:
        """Make true captions (N, [K,] T) likelier, as far as (N, [K,] T - 1) is to be learnt."""
        smoothing = self.label_smoothing
        return self._cross_entropy(tokens, self._unheard(ids), ids, learnt, smoothing).sum()

    def _rewarded(
        self, how: SelfCritical, tokens: VisualTokens, described: Tensor, images: Sequence[str]
    ) -> Tensor:
        """Make drawn captions likelier that earn more than the others of their image."""
        if self.reward is None:
            raise RuntimeError("MODEL.CAPTION_HEAD.SCST.SAMPLES: nobody has set the head's reward")
        length = self.decoding.max_tokens
        with torch.no_grad():
            uniform = torch.rand(len(images), how.samples, length, device=tokens.tokens.device)
            step = self._stepper(tokens, width=how.samples, max_tokens=length)
            ids = draw_texts(step, self.vocabulary, uniform, num_images=len(images)).ids
            worth = advantages(self.reward(images, ids).to(ids.device))  # (N, K)
        learnt = (ids[..., 1:] != self.pad_id) & described[:, None, None]
        learnt[..., -1] = False  # where nothing but the end may be said
        losses = self._cross_entropy(tokens, ids, ids, learnt)
        return (losses * worth[..., None].to(losses.dtype)).sum()

    def _cross_entropy(
        self,
        tokens: VisualTokens,
        heard: Tensor,
        ids: Tensor,
        learnt: Tensor,
        label_smoothing: float = 0.0,
    ) -> Tensor:
        """Shares of the mean over tokens behind the first: (N, [K,] T - 1), 0 if not learnt.

        Args:
            tokens: of `forward`.
            heard: (N, [K,] T) what the decoder goes on from.
            ids: (N, [K,] T) what it should say.
            learnt: (N, [K,] T - 1) bool.
            label_smoothing: share of a target that is spread over all words.
        """
        logits = self.text_logits(tokens, heard[..., :-1].flatten(0, -2)).flatten(0, 1)
        losses = F.cross_entropy(
            logits.to(torch.promote_types(logits.dtype, torch.float32)),
            ids[..., 1:].masked_fill(~learnt, -1).flatten(),
            ignore_index=-1,
            reduction="none",
            label_smoothing=label_smoothing,
        )
        words, processes = over_processes(learnt.sum())
        return losses.view_as(learnt) * processes / words.clamp(min=1)

    def _unheard(self, texts: Tensor) -> Tensor:
        """Texts of any shape; in training some words are as silent as padding."""
        if not (self.training and self.word_dropout):
            return texts
        silent = torch.rand(texts.shape, device=texts.device) < self.word_dropout
        silent &= texts != self.vocabulary.bos_id
        return texts.masked_fill(silent, self.pad_id)

    @torch.no_grad()
    def generate(self, tokens: VisualTokens, **changes: Any) -> Captions:
        """One caption of each image.

        Args:
            tokens: of `forward`.
            changes: of `decoding`.
        """
        how = self.decoding._replace(**changes)
        return decode(
            self._stepper(tokens, width=how.width, max_tokens=how.max_tokens),
            self.vocabulary,
            how,
            num_images=len(tokens.tokens),
            device=tokens.tokens.device,
        )

    def _stepper(self, tokens: VisualTokens, *, width: int, max_tokens: int) -> Step:
        """The head as one step of a search among texts, which remembers those so far."""
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
