"""Base class of caption heads: losses and decoding, for any encoding of images.

Shapes: N images, K captions or beams of an image, T text tokens, V vocabulary.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....errors import ConfigError
from ...layers.functional import at_least_float32, divergence
from ...objects import CaptionTargets, Reward
from ...reduce import over_processes
from .decoding import Captions, Decoding, Step, decode, sample_texts
from .encodings import FixedPositionEmbedding, TextEmbedding
from .options import KEY, CaptionTraining, VocabularyOptions
from .self_critical import SelfCritical, advantages

TextLogits = Callable[[Tensor], Tensor]  # ids (N * K, T) -> next-token logits (N * K, T, V)


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

    text: TextEmbedding | FixedPositionEmbedding

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
        self.vocab_size = vocabulary.vocab_size
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

    def misfit(self, teacher: nn.Module) -> str:
        """Why next tokens cannot be compared with those of another head; "" if they can."""
        if not isinstance(teacher, CaptionHead):
            return f"its caption head is {type(teacher).__name__}"
        if teacher.vocab_size != self.vocab_size:
            return f"it has {teacher.vocab_size} tokens, the network has {self.vocab_size}"
        if teacher.text.max_positions < self.text.max_positions:
            longest = f"{teacher.text.max_positions} tokens, the network {self.text.max_positions}"
            return f"its captions have at most {longest} (MODEL.CAPTION_HEAD.MAX_POSITIONS)"
        return ""

    def losses(
        self,
        tokens: Any,
        captions: CaptionTargets,
        reward: Reward | None = None,
        teacher: TextLogits | None = None,
    ) -> dict[str, Tensor]:
        """The cross-entropy, or with `self_critical` in training the self-critical loss.

        Args:
            tokens: the result of `forward`.
            captions: of the images; tokens that are padding have no loss.
            reward: of sampled captions; required for the self-critical loss, otherwise ignored.
            teacher: `text_logits` of a teacher for the same images, to learn from as well; without
                the self-critical loss only.
        """
        ids = captions.ids
        is_target = (ids[..., 1:] != self.pad_id) & captions.known[:, None, None]
        if self.self_critical is None or not self.training:
            logits = self._next_logits(tokens, self._drop_words(ids))
            loss = self._token_losses(logits, ids, is_target, self.label_smoothing).sum()
            losses = {"loss_caption": self.loss_weight * loss}
            if teacher is not None:
                taught = self._divergence(logits, teacher(ids[..., :-1].flatten(0, -2)), is_target)
                losses["loss_caption_teacher"] = self.loss_weight * taught
            return losses
        if reward is None:
            raise ConfigError(
                f"{KEY}.SCST.SAMPLES is not 0: training needs a reward, model(batch, reward=...)"
            )
        has_caption = is_target.flatten(1).any(dim=1)  # (N,)
        images = captions.image_ids
        loss = self._self_critical_loss(self.self_critical, tokens, has_caption, images, reward)
        if self.self_critical.ce_weight:
            logits = self._next_logits(tokens, self._drop_words(ids))
            cross_entropy = self._token_losses(logits, ids, is_target, self.label_smoothing).sum()
            loss = loss + self.self_critical.ce_weight * cross_entropy
        return {"loss_caption": self.loss_weight * loss}

    def _next_logits(self, tokens: Any, decoder_input: Tensor) -> Tensor:
        """Logits (N * K * (T - 1), V) of all tokens after the first, in at least float32."""
        logits = self.text_logits(tokens, decoder_input[..., :-1].flatten(0, -2)).flatten(0, 1)
        return at_least_float32(logits)

    def _divergence(self, logits: Tensor, teacher: Tensor, is_target: Tensor) -> Tensor:
        """Mean divergence of next tokens from those of a teacher (N * K, T - 1, V), at targets."""
        losses = divergence(logits, teacher.flatten(0, 1).to(logits.dtype), dim=1)
        total, processes = over_processes(is_target.sum())
        return (losses * is_target.flatten()).sum() * processes / total.clamp(min=1)

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
        losses = self._token_losses(self._next_logits(tokens, ids), ids, is_target)
        return (losses * weights[..., None].to(losses.dtype)).sum()

    def _token_losses(
        self,
        logits: Tensor,
        ids: Tensor,
        is_target: Tensor,
        label_smoothing: float = 0.0,
    ) -> Tensor:
        """Cross-entropy of each token after the first, divided by the number of target tokens.

        Args:
            logits: the result of `_next_logits`.
            ids: (N, K, T) token ids to predict.
            is_target: (N, K, T - 1) bool, False where there is no loss.
            label_smoothing: share of the target probability that is spread over the vocabulary.

        Returns:
            (N, K, T - 1), 0 where there is no loss; the divisor counts all processes' tokens.
        """
        losses = F.cross_entropy(
            logits,
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
