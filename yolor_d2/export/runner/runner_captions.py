"""Beam search over next-token logits, in NumPy, and decoding of its token ids.

Shapes: K beams, T tokens, P tokens so far, V vocabulary.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
    finished_in_beam: bool = False  # whether finished texts keep their places in the beam


def beam_search(step: Step, search: Search) -> tuple[list[int], float]:
    """Return the token ids of the best text, including begin and end, and its log-probability."""
    if search.finished_in_beam:
        return fixed_beam_search(step, search)
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


def fixed_beam_search(step: Step, search: Search) -> tuple[list[int], float]:
    """Return the same as `beam_search`; finished texts keep their places, and need no end."""
    beams, pad_id = search.beam_size, search.pad_id
    texts = np.full((beams, search.max_tokens), pad_id)
    texts[:, 0] = search.bos_id
    scores = np.full(beams, -np.inf, np.float32)
    scores[0] = 0
    parents, done = np.arange(beams), np.zeros(beams, bool)
    for position in range(1, search.max_tokens):
        logits = step(texts[:, position - 1], parents)
        gains = log_probabilities(logits, texts[:, :position], False, search)
        gains[done] = -np.inf
        gains[done, pad_id] = 0
        totals = (scores[:, None] + gains).ravel()
        order = largest(totals, beams)
        parents, tokens = np.divmod(order, gains.shape[1])
        scores, texts = totals[order], texts[parents]
        texts[:, position] = tokens
        done = done[parents] | (tokens == search.eos_id)
        if done.all():
            break
    lengths = (texts != pad_id).sum(axis=1)
    best = int(np.argmax(scores / (lengths - 1.0) ** search.length_penalty))
    return texts[best, : lengths[best]].tolist(), float(scores[best])


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


class WordList:
    """A vocabulary of whole words, one per line, of which the first is [PAD]."""

    SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

    def __init__(self, data: bytes) -> None:
        lines = data.decode("utf-8").removesuffix("\n").split("\n")
        self._words = [line.removesuffix("\r") for line in lines]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the words with blanks between them and a capital letter."""
        words = [self._words[number] for number in ids]
        return " ".join(word for word in words if word not in self.SPECIAL).capitalize()


def load_tokenizer(path: Path) -> Any:
    """Return an object whose `decode` converts token ids to text."""
    data = path.read_bytes()
    if data.startswith(b"[PAD]"):
        return WordList(data)
    from sentencepiece import SentencePieceProcessor

    return SentencePieceProcessor(model_proto=data)
