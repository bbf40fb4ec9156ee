"""Beam search over next-token logits, in NumPy.

Shapes: K beams, T tokens, P tokens so far, V vocabulary.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# The newest token of each beam (K,), and its parent beam in the step before (K,) -> next-token
# logits (K, V).
Step = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Search(NamedTuple):
    """Vocabulary and decoding options."""

    pad_id: int
    bos_id: int
    eos_id: int
    usable: int  # ids from here on are never generated
    beam_size: int  # K; 1 is greedy
    max_tokens: int  # T, including begin and end
    min_tokens: int = 0  # T, including begin and end; 0 disables it
    length_penalty: float = 0.0  # finished texts are ranked by score / length ** length_penalty
    no_repeat_ngram: int = 0  # block repeated n-grams of this length; 0 disables it


def beam_search(step: Step, search: Search) -> tuple[list[int], float]:
    """Return the token ids of the best text, including begin and end, and its log-probability."""
    beams, last = search.beam_size, search.max_tokens - 1
    texts = np.full((beams, search.max_tokens), search.pad_id)
    texts[:, 0] = search.bos_id
    # All beams begin with the same token, so that only one counts in the first step.
    scores = np.full(beams, -np.inf, np.float32)
    scores[0] = 0
    best, best_score, best_rank, finished = [search.bos_id], -np.inf, -np.inf, 0
    parents = np.arange(beams)
    for position in range(1, search.max_tokens):
        gains = log_probabilities(
            step(texts[:, position - 1], parents), texts[:, :position], position == last, search
        )
        totals = (scores[:, None] + gains).ravel()
        # At most K continuations end, so that 2K contain K that do not.
        order = largest(totals, 2 * beams)
        origins, tokens = np.divmod(order, gains.shape[1])
        ended = tokens == search.eos_id
        ends = np.flatnonzero(ended[:beams] & (totals[order[:beams]] > -np.inf))
        finished += len(ends)
        if len(ends):
            score = totals[order[ends[0]]]
            rank = score / position**search.length_penalty
            if rank > best_rank:
                best = [*texts[origins[ends[0]], :position].tolist(), search.eos_id]
                best_score, best_rank = score, rank
        continuing = np.argsort(ended, kind="stable")[:beams]
        parents, scores = origins[continuing], totals[order[continuing]]
        texts = texts[parents]
        texts[:, position] = tokens[continuing]
        # Log-probabilities only decrease, and the longest text has the largest divisor.
        if finished >= beams or best_rank >= scores[0] / last**search.length_penalty:
            break
    return best, float(best_score)


def log_probabilities(
    logits: np.ndarray, texts: np.ndarray, is_last: bool, search: Search
) -> np.ndarray:
    """Return log-probabilities (K, V) of next tokens of texts (K, P); -inf if not allowed."""
    gains = log_softmax(logits)
    end = gains[:, search.eos_id].copy()
    if is_last:
        gains[:] = -np.inf
    else:
        gains[:, search.usable :] = -np.inf
        gains[:, [search.pad_id, search.bos_id, search.eos_id]] = -np.inf
        forbid_repeats(gains, texts, search.no_repeat_ngram)
        if texts.shape[1] + 1 < search.min_tokens:
            # A text without other allowed tokens can end early.
            end[gains.max(axis=1) > -np.inf] = -np.inf
    gains[:, search.eos_id] = end
    return gains


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return log-probabilities (K, V)."""
    below = logits - logits.max(axis=1, keepdims=True)
    return below - np.log(np.exp(below).sum(axis=1, keepdims=True))


def largest(values: np.ndarray, count: int) -> np.ndarray:
    """Return the indices of the largest values in descending order; ties in order of the index."""
    count = min(count, len(values))
    limit = np.partition(values, len(values) - count)[len(values) - count]
    places = np.flatnonzero(values >= limit)
    return places[np.argsort(-values[places], kind="stable")][:count]


def forbid_repeats(gains: np.ndarray, texts: np.ndarray, length: int) -> None:
    """Set gains (K, V) of tokens that repeat an n-gram of the texts (K, P) to -inf."""
    for row, text in zip(gains, texts.tolist(), strict=True):
        newest = text[len(text) - length + 1 :]
        for start in range(len(text) - length + 1 if length else 0):
            if text[start : start + length - 1] == newest:
                row[text[start + length - 1]] = -np.inf
