"""Greedy search and beam search over a network's next-token logits.

Shapes: N images, K beams, T tokens, V vocabulary.
"""

import torch
from torch import Tensor

from .rules import NO_RULES, Captions, Rules, Step, Vocabulary, log_probabilities


def greedy_search(
    step: Step,
    vocabulary: Vocabulary,
    *,
    num_images: int,
    max_tokens: int,
    device: torch.device,
    rules: Rules = NO_RULES,
) -> Captions:
    """Pick the most likely token in each step; the same texts as beam search with one beam.

    Of equally likely tokens, the lowest id is picked.

    Args:
        step: the network.
        vocabulary: the tokens.
        num_images: N.
        max_tokens: T, begin and end included.
        device: of the network.
        rules: constraints on the texts.
    """
    pad_id, bos_id, eos_id, _ = vocabulary
    ids = torch.full((num_images, max_tokens), pad_id, device=device)
    ids[:, 0] = bos_id
    scores = torch.zeros(num_images, device=device)
    done = torch.zeros(num_images, dtype=torch.bool, device=device)
    for position in range(1, max_tokens):
        logits = step(ids[:, position - 1, None], position - 1, None)  # (N, 1, V)
        log_probs = log_probabilities(
            logits, vocabulary, ids[:, None], position=position, rules=rules
        )
        best, tokens = (scores[:, None] + log_probs[:, 0]).max(dim=1)  # (N,) each
        scores = torch.where(done, scores, best)
        ids[:, position] = torch.where(done, pad_id, tokens)
        done |= tokens == eos_id
        if bool(done.all()):
            break
    return Captions(ids, scores, (ids != pad_id).sum(dim=1))


def beam_search(
    step: Step,
    vocabulary: Vocabulary,
    *,
    num_images: int,
    beam_size: int,
    max_tokens: int,
    length_penalty: float = 0.0,
    device: torch.device,
    rules: Rules = NO_RULES,
) -> Captions:
    """Keep the K best unfinished texts of each image in each step.

    A text is finished if its end token is among the K best continuations; another text takes its
    place. An image is done when it has K finished texts, or when no unfinished text can beat its
    best one. Equal continuations are ordered by beam, then by token id.

    Args:
        step: the network.
        vocabulary: the tokens.
        num_images: N.
        beam_size: K.
        max_tokens: T, begin and end included.
        length_penalty: finished texts are ranked by score / (tokens after begin) ** this; not
            negative.
        device: of the network.
        rules: constraints on the texts.
    """
    rows = (num_images, beam_size)
    ids = torch.full((*rows, max_tokens), vocabulary.pad_id, device=device)  # (N, K, T)
    ids[:, :, 0] = vocabulary.bos_id
    # All beams begin with the same text, so only the first one is continued.
    scores = torch.full(rows, -torch.inf, device=device)  # (N, K)
    scores[:, 0] = 0
    finished = _Finished(ids[:, 0], vocabulary.eos_id, length_penalty)
    parents = None
    for position in range(1, max_tokens):
        logits = step(ids[:, :, position - 1], position - 1, parents)  # (N, K, V)
        log_probs = log_probabilities(logits, vocabulary, ids, position=position, rules=rules)
        # At most K continuations are ends, so the best 2K have K that are not.
        best, index = stable_topk((scores[:, :, None] + log_probs).flatten(1), 2 * beam_size)
        origins, tokens = index // log_probs.shape[2], index % log_probs.shape[2]  # (N, 2K) each
        ended = tokens == vocabulary.eos_id
        finished.add(ids, origins, best, ended, position)

        kept = ended.int().argsort(dim=1, stable=True)[:, :beam_size]  # (N, K)
        parents, scores = origins.gather(1, kept), best.gather(1, kept)
        ids = ids.gather(1, parents[:, :, None].expand_as(ids))
        ids[:, :, position] = tokens.gather(1, kept)
        if finished.all_done(scores[:, 0]):
            break
    return finished.captions(vocabulary.pad_id)


def stable_topk(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest values of each row of x (N, M) float32, and their columns.

    Equal values are ordered by column. torch.topk orders them arbitrarily, so it gets distinct
    integer keys: the float's bits in increasing order, then the negative column.
    """
    bits = (x + 0.0).view(torch.int32)  # + 0.0 turns -0.0 into 0.0
    keys = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(torch.int64)
    keys <<= 32
    keys -= torch.arange(x.shape[1], device=x.device)
    index = keys.topk(k, dim=1).indices
    return x.gather(1, index), index


class _Finished:
    """The best finished text of each image."""

    def __init__(self, empty: Tensor, eos_id: int, length_penalty: float) -> None:
        """`empty` (N, T) are texts with only the begin token."""
        self.ids = empty.clone()
        self.scores = torch.full((len(empty),), -torch.inf, device=empty.device)
        self.ranks = self.scores  # scores after the length penalty
        self.counts = torch.zeros(len(empty), dtype=torch.int64, device=empty.device)
        self.done = torch.zeros(len(empty), dtype=torch.bool, device=empty.device)
        self.eos_id = eos_id
        self.length_penalty = length_penalty

    def add(
        self, ids: Tensor, origins: Tensor, scores: Tensor, ended: Tensor, position: int
    ) -> None:
        """Add the texts that end at a position.

        Args:
            ids: (N, K, T) unfinished texts.
            origins, scores, ended: (N, 2K) of the best continuations: the text that is continued,
                log-probability, whether it is the end. Only the first K may finish.
            position: of the end tokens.
        """
        beam_size = ids.shape[1]
        possible = scores[:, :beam_size] > -torch.inf
        ended = ended[:, :beam_size] & possible & ~self.done[:, None]  # (N, K)
        first = ended.int().argmax(dim=1, keepdim=True)  # (N, 1) the best, as all are equally long
        scores = scores.gather(1, first)[:, 0]  # (N,)
        ranks = scores / position**self.length_penalty
        better = ended.any(dim=1) & (ranks > self.ranks)
        origin = origins.gather(1, first)[:, :, None].expand(-1, -1, ids.shape[2])
        texts = ids.gather(1, origin)[:, 0]  # (N, T)
        texts[:, position] = self.eos_id
        self.ids = torch.where(better[:, None], texts, self.ids)
        self.scores = torch.where(better, scores, self.scores)
        self.ranks = torch.where(better, ranks, self.ranks)
        self.counts += ended.sum(dim=1)
        self.done |= self.counts >= beam_size

    def all_done(self, live_scores: Tensor) -> bool:
        """Whether no image can get a better text; scores (N,) of the best unfinished ones."""
        # A score only decreases, and the longest text has the largest divisor.
        longest = self.ids.shape[1] - 1
        self.done |= self.ranks >= live_scores / longest**self.length_penalty
        return bool(self.done.all())

    def captions(self, pad_id: int) -> Captions:
        return Captions(self.ids, self.scores, (self.ids != pad_id).sum(dim=1))
