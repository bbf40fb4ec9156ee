"""Beam search in which finished texts keep their places, as in the published gyolo.

Shapes: N images, K beams, T tokens, V vocabulary.
"""

import torch
from torch import Tensor

from .rules import NO_RULES, Captions, Rules, Step, Vocabulary, log_probabilities
from .search import stable_topk


def fixed_beam_search(
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
    """Keep the K best texts of each image in each step, finished or not.

    A finished text is continued with padding at no cost, until K other texts are better. Equal
    continuations are ordered by beam, then by token id.

    Args:
        step: the network.
        vocabulary: the tokens.
        num_images: N.
        beam_size: K.
        max_tokens: T, begin and end included; texts of this length need no end.
        length_penalty: texts are ranked by score / (tokens after begin) ** this; not negative.
        device: of the network.
        rules: constraints on the texts; the last token needs not end a text.
    """
    rules = rules._replace(ends=False)
    rows, pad_id = (num_images, beam_size), vocabulary.pad_id
    ids = torch.full((*rows, max_tokens), pad_id, device=device)  # (N, K, T)
    ids[:, :, 0] = vocabulary.bos_id
    # All beams begin with the same text, so only the first one is continued.
    scores = torch.full(rows, -torch.inf, device=device)  # (N, K)
    scores[:, 0] = 0
    done = torch.zeros(rows, dtype=torch.bool, device=device)
    parents = None
    for position in range(1, max_tokens):
        logits = step(ids[:, :, position - 1], position - 1, parents)  # (N, K, V)
        log_probs = log_probabilities(logits, vocabulary, ids, position=position, rules=rules)
        _continue_finished(log_probs, done, pad_id)
        totals = (scores[:, :, None] + log_probs).flatten(1)  # (N, K * V)
        scores, index = stable_topk(totals, beam_size)  # (N, K) each
        parents, tokens = index // log_probs.shape[2], index % log_probs.shape[2]
        ids = ids.gather(1, parents[:, :, None].expand_as(ids))
        ids[:, :, position] = tokens
        done = done.gather(1, parents) | (tokens == vocabulary.eos_id)
        if bool(done.all()):
            break
    lengths = (ids != pad_id).sum(dim=2)  # (N, K)
    best = (scores / (lengths - 1) ** length_penalty).argmax(dim=1, keepdim=True)  # (N, 1)
    texts = ids.gather(1, best[:, :, None].expand(-1, -1, max_tokens))
    return Captions(texts[:, 0], scores.gather(1, best)[:, 0], lengths.gather(1, best)[:, 0])


def _continue_finished(log_probs: Tensor, done: Tensor, pad_id: int) -> None:
    """Set log_probs (N, K, V) of finished texts (N, K) to 0 for padding and -inf for the rest."""
    log_probs.masked_fill_(done[:, :, None], -torch.inf)
    log_probs[..., pad_id].masked_fill_(done, 0)
