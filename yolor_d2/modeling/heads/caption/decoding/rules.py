"""Constraints on generated texts, and log-probabilities of the tokens that they allow.

Shapes: N images, K texts of each, T tokens, V vocabulary.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Vocabulary(NamedTuple):
    """The special tokens, and how many of the others are used."""

    pad_id: int
    bos_id: int
    eos_id: int
    usable: int  # ids from here on are never generated, nor are pad and bos


class Rules(NamedTuple):
    """Constraints on a text."""

    min_tokens: int = 0  # the shortest text, begin and end included
    no_repeat_ngram: int = 0  # block repeated n-grams of this length; 0: allow them
    ends: bool = True  # whether the last token of the longest texts must be the end


NO_RULES = Rules()


class Captions(NamedTuple):
    """One text for each image."""

    ids: Tensor  # (N, T) int64: begin, words, end, then padding
    scores: Tensor  # (N,) sum of the log-probabilities of words and end
    lengths: Tensor  # (N,) begin and end included


class Step(Protocol):
    """One step of a network that caches the texts so far."""

    def __call__(self, tokens: Tensor, position: int, parents: Tensor | None, /) -> Tensor:
        """Logits (N, K, V) of the next tokens.

        Args:
            tokens: (N, K) the newest token of each beam.
            position: number of previous tokens.
            parents: (N, K) the beam of the previous step that each beam continues; None: itself.
        """


def log_probabilities(
    logits: Tensor,
    vocabulary: Vocabulary,
    texts: Tensor,
    *,
    position: int,
    rules: Rules = NO_RULES,
) -> Tensor:
    """Log-probabilities of the next tokens in float32; -inf for tokens that are not allowed.

    Args:
        logits: (N, K, V).
        vocabulary: the tokens.
        texts: (N, K, T), filled before `position`. With `rules.ends`, only the end is allowed at
            the last position.
        position: of the next tokens.
        rules: constraints on the texts.
    """
    log_probs = logits.float().log_softmax(dim=-1)
    if rules.ends and position == texts.shape[2] - 1:
        end = log_probs[..., vocabulary.eos_id].clone()
        log_probs.fill_(-torch.inf)
        log_probs[..., vocabulary.eos_id] = end
        return log_probs
    log_probs[..., vocabulary.usable :] = -torch.inf
    log_probs[..., vocabulary.pad_id] = -torch.inf
    log_probs[..., vocabulary.bos_id] = -torch.inf
    end = log_probs[..., vocabulary.eos_id].clone()
    log_probs[..., vocabulary.eos_id] = -torch.inf
    if rules.no_repeat_ngram:
        _forbid_repeats(log_probs, texts[..., :position], rules.no_repeat_ngram)
    if position + 1 < rules.min_tokens:  # an early end is allowed if nothing else is
        end = end.where(log_probs.amax(dim=-1) == -torch.inf, -torch.inf)
    log_probs[..., vocabulary.eos_id] = end
    return log_probs


def _forbid_repeats(log_probs: Tensor, texts: Tensor, length: int) -> None:
    """Set log_probs (N, K, V) to -inf where a token repeats an n-gram of the texts (N, K, P)."""
    if texts.shape[2] < length:
        return
    windows = texts.unfold(2, length, 1)  # (N, K, P - length + 1, length)
    newest = texts[..., texts.shape[2] - length + 1 :]  # (N, K, length - 1)
    repeats = (windows[..., :-1] == newest[:, :, None]).all(dim=-1)
    limits = torch.where(repeats, -torch.inf, torch.inf).to(log_probs.dtype)
    log_probs.scatter_reduce_(-1, windows[..., -1], limits, "amin")
