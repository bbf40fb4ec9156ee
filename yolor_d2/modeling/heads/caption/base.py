"""Base class of caption heads: losses and decoding, for any encoding of images.

Shapes: N images, K captions or beams of an image, T text tokens, V vocabulary.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....errors import ConfigError
from ...objects import CaptionTargets, Reward
from ...reduce import over_processes
from .decoding import Captions, Decoding, Step, decode, sample_texts
from .options import KEY, CaptionTraining, VocabularyOptions
from .self_critical import SelfCritical, advantages


class CaptionHead(nn.Module):
    """Losses and decoding of a head that predicts next tokens.

    Subclasses implement `text_logits` and `_step`. Encoded images ("tokens") are a NamedTuple of
    tensors, the first of which begins with dimension N.

    Args:
        vocabulary: sizes and ids of the vocabulary.
        training: regularization and weight of the loss.
        decoding: what `generate` does without arguments.
        self_critical: how to train with rewards; None: with cross-entropy.
    """

    def __init__(
        self,
        *,
        vocabulary: VocabularyOptions,
        training: CaptionTraining,
        decoding: Decoding,
        self_critical: SelfCritical | None,
    ) -> None:
        super().__init__()
        vocabulary.check()
        training.check()
        decoding.check()
        if self_critical is not None:
            self_critical.check()
        self.vocabulary = vocabulary.for_decoding()
        self.label_smoothing = training.label_smoothing
        self.loss_weight = training.loss_weight
        self.word_dropout = training.word_dropout
        self.decoding, self.self_critical = decoding, self_critical

    @property
    def pad_id(self) -> int:
        return self.vocabulary.pad_id

    def text_logits(self, tokens: Any, ids: Tensor) -> Tensor:
        """Next-token logits of whole texts: ids (N * K, T) -> (N * K, T, V).

        The K texts of an image are consecutive.
        """
        raise NotImplementedError

    def _step(self, tokens: Any, *, width: int, max_tokens: int) -> Step:
        """One decoding step as a function, with a cache of the previous tokens."""
        raise NotImplementedError

    def losses(
        self, tokens: Any, captions: CaptionTargets, reward: Reward | None = None
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
            raise ConfigError(
                f"{KEY}.SCST.SAMPLES is not 0: training needs a reward, model(batch, reward=...)"
            )
        has_caption = is_target.flatten(1).any(dim=1)  # (N,)
        images = captions.image_ids
        loss = self._self_critical_loss(self.self_critical, tokens, has_caption, images, reward)
        if self.self_critical.ce_weight:
            cross_entropy = self._cross_entropy_loss(tokens, captions.ids, is_target)
            loss = loss + self.self_critical.ce_weight * cross_entropy
        return {"loss_caption": self.loss_weight * loss}

    def _cross_entropy_loss(self, tokens: Any, ids: Tensor, is_target: Tensor) -> Tensor:
        """Mean cross-entropy of captions (N, K, T) at the target tokens (N, K, T - 1)."""
        smoothing = self.label_smoothing
        return self._token_losses(tokens, self._drop_words(ids), ids, is_target, smoothing).sum()

    def _self_critical_loss(
        self,
        options: SelfCritical,
        tokens: Any,
        has_caption: Tensor,
        image_ids: Sequence[Hashable],
        reward: Reward,
    ) -> Tensor:
        """Mean of -advantage * log-probability over the tokens of sampled captions."""
        images, length = len(has_caption), self.decoding.max_tokens
        with torch.no_grad():
            uniform = torch.rand(images, options.samples, length, device=tokens[0].device)
            step = self._step(tokens, width=options.samples, max_tokens=length)
            ids = sample_texts(step, self.vocabulary, uniform, num_images=images).ids  # (N, K, T)
            weights = advantages(reward(image_ids, ids).to(ids.device))  # (N, K)
        is_target = (ids[..., 1:] != self.pad_id) & has_caption[:, None, None]
        is_target[..., -1] = False  # the end token is forced there
        losses = self._token_losses(tokens, ids, ids, is_target)
        return (losses * weights[..., None].to(losses.dtype)).sum()

    def _token_losses(
        self,
        tokens: Any,
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
    def generate(self, tokens: Any, **changes: Any) -> Captions:
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
            num_images=len(tokens[0]),
            device=tokens[0].device,
        )
