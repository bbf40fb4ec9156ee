"""Sampling of texts from a network's next-token probabilities.

Shapes: N images, K texts of each, T tokens, V vocabulary.
"""

import torch
from torch import Tensor

from .rules import NO_RULES, Captions, Rules, Step, Vocabulary, log_probabilities


def sample_texts(
    step: Step,
    vocabulary: Vocabulary,
    uniform: Tensor,
    *,
    num_images: int,
    top_p: float = 1.0,
    temperature: float = 1.0,
    rules: Rules = NO_RULES,
) -> Captions:
    """Sample K texts for each image.

    Args:
        step: the network.
        vocabulary: the tokens.
        uniform: (N or 1, K, T) random numbers in [0, 1), the only source of randomness. If all
            images share them, a text does not depend on the other images of a batch.
        num_images: N.
        top_p: sample from the most likely tokens that have this total probability.
        temperature: of the softmax; below 1, likely tokens become more likely.
        rules: constraints on the texts.

    Returns:
        ids (N, K, T), scores and lengths (N, K). Scores ignore `top_p` and `temperature`.
    """
    _, num_texts, max_tokens = uniform.shape
    rows, device = (num_images, num_texts), uniform.device
    ids = torch.full((*rows, max_tokens), vocabulary.pad_id, device=device)  # (N, K, T)
    ids[:, :, 0] = vocabulary.bos_id
    scores = torch.zeros(rows, device=device)
    done = torch.zeros(rows, dtype=torch.bool, device=device)
    for position in range(1, max_tokens):
        logits = step(ids[:, :, position - 1], position - 1, None)  # (N, K, V)
        log_probs = log_probabilities(logits, vocabulary, ids, position=position, rules=rules)
        probabilities = (log_probs / temperature).softmax(dim=-1)
        tokens = _sample(probabilities, uniform[:, :, position].expand(rows), top_p)  # (N, K)
        log_prob = log_probs.gather(2, tokens[:, :, None])[:, :, 0]
        scores = torch.where(done, scores, scores + log_prob)
        ids[:, :, position] = torch.where(done, vocabulary.pad_id, tokens)
        done |= tokens == vocabulary.eos_id
        if bool(done.all()):
            break
    return Captions(ids, scores, (ids != vocabulary.pad_id).sum(dim=2))


def _sample(probabilities: Tensor, uniform: Tensor, top_p: float) -> Tensor:
    """Sample tokens (N, K) with probabilities (N, K, V) and random numbers (N, K)."""
    ordered, tokens = probabilities.sort(dim=-1, descending=True, stable=True)
    sums = ordered.cumsum(dim=-1)
    allowed = (sums - ordered < top_p) & (ordered > 0)
    allowed[..., 0] = True  # even if top_p is 0
    total = torch.where(allowed, ordered, 0).sum(dim=-1)  # (N, K)
    rank = (sums <= (uniform * total)[..., None]).sum(dim=-1)
    rank = torch.minimum(rank, allowed.sum(dim=-1) - 1)
    return tokens.gather(-1, rank[..., None])[..., 0]
