"""Finding a likely text, token by token, in NumPy. Knows no network, only what a step returns.

Shapes: K texts that are followed, T tokens, V words of the vocabulary.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# The newest token of each text (K,), and which text of the step before each goes on from (K,) ->
# logits (K, V) of what follows.
Step = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Search(NamedTuple):
    """What may be said, and how a text is found."""

    pad_id: int
    bos_id: int
    eos_id: int
    usable: int  # ids from here on are never said
    beam_size: int  # K; 1 is greedy
    max_tokens: int  # T, begin and end included
    min_tokens: int = 0  # before, a text may not end
    length_penalty: float = 0.0  # finished texts are compared by score / length ** this
    no_repeat_ngram: int = 0  # so many tokens in a row are not said twice; 0: whatever


def beam_search(step: Step, how: Search) -> tuple[list[int], float]:
    """Follow the K best texts; the ids of the best with begin and end, and its log-probability."""
    beams, last = how.beam_size, how.max_tokens - 1
    texts = np.full((beams, how.max_tokens), how.pad_id)
    texts[:, 0] = how.bos_id
    # All texts begin alike, so at first only one counts.
    scores = np.full(beams, -np.inf, np.float32)
    scores[0] = 0
    best, best_score, best_rank, finished = [how.bos_id], -np.inf, -np.inf, 0
    parents = np.arange(beams)
    for position in range(1, how.max_tokens):
        gains = log_probabilities(
            step(texts[:, position - 1], parents), texts[:, :position], position == last, how
        )
        totals = (scores[:, None] + gains).ravel()
        # At most K continuations are ends, so 2K hold K that are not.
        order = largest(totals, 2 * beams)
        origins, tokens = np.divmod(order, gains.shape[1])
        ended = tokens == how.eos_id
        ends = np.flatnonzero(ended[:beams] & (totals[order[:beams]] > -np.inf))
        finished += len(ends)
        if len(ends):
            score = totals[order[ends[0]]]
            rank = score / position**how.length_penalty
            if rank > best_rank:
                best = [*texts[origins[ends[0]], :position].tolist(), how.eos_id]
                best_score, best_rank = score, rank
        going_on = np.argsort(ended, kind="stable")[:beams]
        parents, scores = origins[going_on], totals[order[going_on]]
        texts = texts[parents]
        texts[:, position] = tokens[going_on]
        # Log-probabilities only fall, and the longest text's are divided by most.
        if finished >= beams or best_rank >= scores[0] / last**how.length_penalty:
            break
    return best, float(best_score)


def log_probabilities(
    logits: np.ndarray, texts: np.ndarray, is_last: bool, how: Search
) -> np.ndarray:
    """Of what may follow texts (K, P), from logits (K, V); -inf for the rest."""
    gains = log_softmax(logits)
    end = gains[:, how.eos_id].copy()
    if is_last:
        gains[:] = -np.inf
    else:
        gains[:, how.usable :] = -np.inf
        gains[:, [how.pad_id, how.bos_id, how.eos_id]] = -np.inf
        forbid_repeats(gains, texts, how.no_repeat_ngram)
        if texts.shape[1] + 1 < how.min_tokens:  # who may say nothing else may end early
            end[gains.max(axis=1) > -np.inf] = -np.inf
    gains[:, how.eos_id] = end
    return gains


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities (K, V)."""
    below = logits - logits.max(axis=1, keepdims=True)
    return below - np.log(np.exp(below).sum(axis=1, keepdims=True))


def largest(values: np.ndarray, count: int) -> np.ndarray:
    """Where the largest are, best first, of equals the first."""
    count = min(count, len(values))
    limit = np.partition(values, len(values) - count)[len(values) - count]
    places = np.flatnonzero(values >= limit)
    return places[np.argsort(-values[places], kind="stable")][:count]


def forbid_repeats(gains: np.ndarray, texts: np.ndarray, length: int) -> None:
    """Of gains (K, V) forbid what makes `length` tokens of the texts (K, P) come again."""
    for row, text in zip(gains, texts.tolist(), strict=True):
        newest = text[len(text) - length + 1 :]
        for start in range(len(text) - length + 1 if length else 0):
            if text[start : start + length - 1] == newest:
                row[text[start + length - 1]] = -np.inf
