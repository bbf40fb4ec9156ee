"""What may be said, and how likely it is.

Shapes: N images, K texts of each, T tokens, V words of the vocabulary.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Vocabulary(NamedTuple):
    """What may be said."""

    pad_id: int
    bos_id: int
    eos_id: int
    usable: int  # ids from here on are never said, nor are pad and bos


class Rules(NamedTuple):
    """What may be said when."""

    min_tokens: int = 0  # of a whole text, begin and end included; before, it may not end
    no_repeat_ngram: int = 0  # so many tokens in a row are not said twice; 0: whatever


NO_RULES = Rules()


class Captions(NamedTuple):
    """One text of each image."""

    ids: Tensor  # (N, T) int64: begin, words, end, then padding
    scores: Tensor  # (N,) sum of the log-probabilities of words and end
    lengths: Tensor  # (N,) begin and end included


class Step(Protocol):
    """One step of a network that remembers the texts so far."""

    def __call__(self, tokens: Tensor, position: int, parents: Tensor | None, /) -> Tensor:
        """Logits (N, K, V) of what follows.

        Args:
            tokens: (N, K) the newest token of each beam.
            position: how many tokens came before.
            parents: (N, K) which beam of the step before each beam goes on from; None: itself.
        """


def log_probabilities(
    logits: Tensor,
    vocabulary: Vocabulary,
    texts: Tensor,
    *,
    position: int,
    rules: Rules = NO_RULES,
) -> Tensor:
    """Of what may be said at a position, in float32; -inf for the rest.

    Args:
        logits: (N, K, V).
        vocabulary: what may be said.
        texts: (N, K, T) of which the tokens before the position are said. At the last position
            only the end may be.
        position: of what comes next.
        rules: what may be said when.
    """
    gains = logits.float().log_softmax(dim=-1)
    if position == texts.shape[2] - 1:
        end = gains[..., vocabulary.eos_id].clone()
        gains.fill_(-torch.inf)
        gains[..., vocabulary.eos_id] = end
        return gains
    gains[..., vocabulary.usable :] = -torch.inf
    gains[..., vocabulary.pad_id] = -torch.inf
    gains[..., vocabulary.bos_id] = -torch.inf
    end = gains[..., vocabulary.eos_id].clone()
    gains[..., vocabulary.eos_id] = -torch.inf
    if rules.no_repeat_ngram:
        _forbid_repeats(gains, texts[..., :position], rules.no_repeat_ngram)
    if position + 1 < rules.min_tokens:  # who may say nothing else may end early
        end = end.where(gains.amax(dim=-1) == -torch.inf, -torch.inf)
    gains[..., vocabulary.eos_id] = end
    return gains


def _forbid_repeats(gains: Tensor, said: Tensor, length: int) -> None:
    """Of gains (N, K, V) forbid what makes `length` tokens of the texts (N, K, P) come again."""
    if said.shape[2] < length:
        return
    windows = said.unfold(2, length, 1)  # (N, K, P - length + 1, length)
    newest = said[..., said.shape[2] - length + 1 :]  # (N, K, length - 1)
    again = (windows[..., :-1] == newest[:, :, None]).all(dim=-1)
    limits = torch.where(again, -torch.inf, torch.inf).to(gains.dtype)
    gains.scatter_reduce_(-1, windows[..., -1], limits, "amin")
