"""Decoding options: minimum length, blocked n-grams, sampling."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from yolor_d2.modeling.heads.caption.decoding import (
    Captions,
    Decoding,
    Rules,
    Vocabulary,
    beam_search,
    decode,
    greedy_search,
    log_probabilities,
    sample_texts,
)

from .factory import make_features, make_head

PAD, BOS, EOS = 0, 1, 2
VOCABULARY = Vocabulary(PAD, BOS, EOS, 7)
CPU = torch.device("cpu")


class ByNewest:
    """A step whose logits depend only on the newest token."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits  # (N, V, V)

    def __call__(self, tokens: Tensor, position: int, parents: Tensor | None, /) -> Tensor:
        return torch.stack([rows[t] for rows, t in zip(self.logits, tokens, strict=True)])


def language(seed: int, *, images: int = 2) -> ByNewest:
    rng = torch.Generator().manual_seed(seed)
    return ByNewest(2 * torch.randn(images, 7, 7, generator=rng))


def words(captions: Captions) -> list[list[int]]:
    return [
        ids[1 : length - 1]
        for ids, length in zip(captions.ids.tolist(), captions.lengths.tolist(), strict=True)
    ]


@pytest.mark.parametrize("beam_size", [1, 4])
@given(seed=st.integers(0, 10**6), shortest=st.integers(0, 9), ngram=st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_minimum_length_and_blocked_ngrams(
    beam_size: int, seed: int, shortest: int, ngram: int
) -> None:
    options = Decoding(
        beam_size=beam_size, max_tokens=9, min_tokens=shortest, no_repeat_ngram=ngram
    )
    found = decode(language(seed), VOCABULARY, options, num_images=2, device=CPU)
    for text, score in zip(words(found), found.scores.tolist(), strict=True):
        grams = [tuple(text[i : i + ngram]) for i in range(len(text) - ngram + 1)]
        assert len(set(grams)) == len(grams)
        # There are four words: if none may be repeated, a text may have to end early.
        assert len(text) + 2 >= (min(shortest, 6) if ngram == 1 else shortest)
        assert np.isfinite(score)


def test_rules_without_effect_change_nothing() -> None:
    step = language(3)
    for search, options in ((greedy_search, {}), (beam_search, {"beam_size": 3})):
        common = {"num_images": 2, "max_tokens": 9, "device": CPU} | options
        plain = search(step, VOCABULARY, **common)
        ruled = search(step, VOCABULARY, rules=Rules(2, 9), **common)
        assert all(torch.equal(a, b) for a, b in zip(plain, ruled, strict=True))


def test_repeated_bigram_is_blocked() -> None:
    """After 3 4 3, token 4 would repeat the bigram 3 4."""
    logits = torch.zeros(1, 1, 7)
    logits[..., 4], logits[..., 5] = 3, 2
    texts = torch.tensor([[[BOS, 3, 4, 3, PAD, PAD]]])
    free, ruled = (
        log_probabilities(logits, VOCABULARY, texts, position=4, rules=Rules(0, n)).flatten()
        for n in (0, 2)
    )
    assert free.argmax() == 4
    assert ruled[4] == -torch.inf
    assert torch.equal(ruled[[2, 3, 5, 6]], free[[2, 3, 5, 6]])


def constant(*probabilities: float) -> ByNewest:
    """The same probabilities of the words 3, 4, ... after every token."""
    row = torch.full((7,), 1e-9)
    row[3 : 3 + len(probabilities)] = torch.tensor(probabilities)
    return ByNewest(row.log().expand(1, 7, 7))


def frequencies(step: ByNewest, *, texts: int = 20000, **options: float) -> np.ndarray:
    """The frequency of each token at the first position."""
    uniform = torch.rand(1, texts, 3, generator=torch.Generator().manual_seed(0))
    ids = sample_texts(step, VOCABULARY, uniform, num_images=1, **options).ids
    return np.bincount(ids[0, :, 1].numpy(), minlength=7) / texts


def test_frequencies_are_probabilities() -> None:
    assert frequencies(constant(0.5, 0.3, 0.2))[3:6] == pytest.approx([0.5, 0.3, 0.2], abs=0.015)


def test_top_p_excludes_unlikely_tokens() -> None:
    """0.5 is less than 0.6, so that 0.3 is included, and 0.2 is not."""
    found = frequencies(constant(0.5, 0.2, 0.3), top_p=0.6)
    assert found[[3, 5]] == pytest.approx([0.5 / 0.8, 0.3 / 0.8], abs=0.015)
    assert found[4] == 0
    assert frequencies(constant(0.5, 0.2, 0.3), top_p=1e-6)[3] == 1


def test_temperature() -> None:
    found = frequencies(constant(0.5, 0.3, 0.2), temperature=0.5)
    shares = np.array([0.25, 0.09, 0.04])
    assert found[3:6] == pytest.approx(shares / shares.sum(), abs=0.015)


@pytest.mark.parametrize("number", [0.0, 0.999999, float(np.nextafter(np.float32(1), 0))])
def test_extreme_random_numbers_give_tokens(number: float) -> None:
    uniform = torch.full((1, 1, 4), number)
    ids = sample_texts(constant(0.5, 0.5), VOCABULARY, uniform, num_images=1).ids
    assert int(ids[0, 0, 1]) in (3, 4)


def test_scores_ignore_top_p_and_temperature() -> None:
    head = make_head(top_p=0.7, temperature=0.6, seed=5)
    tokens = head(make_features())
    found = head.generate(tokens)
    logits = head.text_logits(tokens, found.ids[:, :-1]).log_softmax(-1)
    log_probs = logits.gather(2, found.ids[:, 1:, None])[..., 0]
    is_token = found.ids[:, 1:] != PAD
    torch.testing.assert_close(found.scores, (log_probs * is_token).sum(1))


def test_sampled_text_does_not_depend_on_the_batch() -> None:
    head = make_head(top_p=0.95)
    tokens = head(make_features())
    together = head.generate(tokens)
    alone = head.generate(type(tokens)(*(part[1:2] for part in tokens)))
    assert torch.equal(together.ids[1:2], alone.ids)
    assert torch.equal(together.ids, head.generate(tokens).ids)
    others = [head.generate(tokens, seed=seed).ids for seed in range(1, 6)]
    assert any(not torch.equal(together.ids, ids) for ids in others)
