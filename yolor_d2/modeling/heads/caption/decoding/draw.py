"""Texts by chance, each token as often as it is likely.

Shapes: N images, K texts of each, T tokens, V words of the vocabulary.
"""

import torch
from torch import Tensor

from .rules import NO_RULES, Captions, Rules, Step, Vocabulary, log_probabilities


def draw_texts(
    step: Step,
    vocabulary: Vocabulary,
    uniform: Tensor,
    *,
    num_images: int,
    top_p: float = 1.0,
    temperature: float = 1.0,
    rules: Rules = NO_RULES,
) -> Captions:
    """Draw texts, each token with its probability.

    Args:
        step: the network.
        vocabulary: what may be said.
        uniform: (N or 1, K, T) random numbers in [0, 1), from which all else follows. With the same
            ones for all images, a text does not depend on the other images of a batch.
        num_images: N.
        top_p: draw from the likeliest tokens that have this probability together.
        temperature: below 1, likely tokens become likelier.
        rules: what may be said when.

    Returns:
        ids (N, K, T), scores and lengths (N, K). Scores do not know of `top_p` and `temperature`.
    """
    _, num_texts, max_tokens = uniform.shape
    rows, device = (num_images, num_texts), uniform.device
    ids = torch.full((*rows, max_tokens), vocabulary.pad_id, device=device)  # (N, K, T)
    ids[:, :, 0] = vocabulary.bos_id
    scores = torch.zeros(rows, device=device)
    done = torch.zeros(rows, dtype=torch.bool, device=device)
    for position in range(1, max_tokens):
        logits = step(ids[:, :, position - 1], position - 1, None)  # (N, K, V)
        gains = log_probabilities(logits, vocabulary, ids, position=position, rules=rules)
        shares = (gains / temperature).softmax(dim=-1)
        tokens = _draw(shares, uniform[:, :, position].expand(rows), top_p)  # (N, K)
        gain = gains.gather(2, tokens[:, :, None])[:, :, 0]
        scores = torch.where(done, scores, scores + gain)
        ids[:, :, position] = torch.where(done, vocabulary.pad_id, tokens)
        done |= tokens == vocabulary.eos_id
        if bool(done.all()):
            break
    return Captions(ids, scores, (ids != vocabulary.pad_id).sum(dim=2))


def _draw(shares: Tensor, uniform: Tensor, top_p: float) -> Tensor:
    """Tokens (N, K), from probabilities (N, K, V) and random numbers (N, K)."""
    likeliest, tokens = shares.sort(dim=-1, descending=True, stable=True)
    sums = likeliest.cumsum(dim=-1)
    allowed = (sums - likeliest < top_p) & (likeliest > 0)  # the likeliest is always
    allowed[..., 0] = True
    total = torch.where(allowed, likeliest, 0).sum(dim=-1)  # (N, K)
    number = (sums <= (uniform * total)[..., None]).sum(dim=-1)
    number = torch.minimum(number, allowed.sum(dim=-1) - 1)
    return tokens.gather(-1, number[..., None])[..., 0]
