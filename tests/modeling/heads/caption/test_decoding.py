"""Greedy and beam search, compared with searches written with lists."""

import itertools
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from yolor_d2.modeling.heads.caption.decoding import (
    Captions,
    Vocabulary,
    beam_search,
    greedy_search,
    log_probabilities,
    stable_topk,
)

PAD, BOS, EOS = 0, 1, 2
STATES = 13
DEVICE = torch.device("cpu")


class Language(NamedTuple):
    """Logits of the next token depend on a state, a function of the whole text."""

    logits: Tensor  # (N, STATES, V)
    vocabulary: Vocabulary

    @classmethod
    def random(
        cls, seed: int, *, images: int = 2, words: int = 3, ties: bool = False, unused: int = 0
    ) -> "Language":
        generator = torch.Generator().manual_seed(seed)
        size = (images, STATES, 3 + words + unused)
        logits = 2 * torch.randn(size, generator=generator)
        if ties:
            logits = logits.round().clamp(-1, 1)
        return cls(logits, Vocabulary(PAD, BOS, EOS, 3 + words))

    def image(self, number: int) -> "Language":
        return self._replace(logits=self.logits[number, None])


def next_state(state, token):  # numbers or tensors
    return (state * 5 + token * 3 + 1) % STATES


class LanguageStep:
    """The step of a network whose cache is the state of each beam."""

    def __init__(self, language: Language) -> None:
        self.language = language
        self.states = torch.zeros(len(language.logits), 1, dtype=torch.int64)
        self.calls = 0

    def __call__(self, tokens: Tensor, position: int, parents: Tensor | None, /) -> Tensor:
        assert position == self.calls
        self.calls += 1
        states = self.states.expand_as(tokens) if parents is None else self.states
        states = states if parents is None else states.gather(1, parents)
        self.states = next_state(states, tokens)
        images = torch.arange(len(tokens))[:, None]
        return self.language.logits[images, self.states]  # (N, K, V)


def run_greedy(language: Language, *, max_tokens: int) -> Captions:
    return greedy_search(
        LanguageStep(language),
        language.vocabulary,
        num_images=len(language.logits),
        max_tokens=max_tokens,
        device=DEVICE,
    )


def run_beams(language: Language, *, beam_size: int, max_tokens: int, penalty: float) -> Captions:
    return beam_search(
        LanguageStep(language),
        language.vocabulary,
        num_images=len(language.logits),
        beam_size=beam_size,
        max_tokens=max_tokens,
        length_penalty=penalty,
        device=DEVICE,
    )


def listed_log_probs(language: Language, text: list[int]) -> np.ndarray:
    """Log-probabilities of the next token of a text; the language has one image."""
    state = 0
    for token in text:
        state = next_state(state, token)
    return language.logits[0, state].log_softmax(0).numpy()


def allowed_tokens(language: Language, position: int, max_tokens: int) -> list[int]:
    words = range(EOS, language.vocabulary.usable)
    return [EOS] if position == max_tokens - 1 else list(words)


def listed_beams(language: Language, *, beam_size: int, max_tokens: int, penalty: float):
    """(text, score) of one image by beam search without tensors, cache or early end."""
    live = [([BOS], np.float32(0))]
    finished: list[tuple[list[int], np.float32]] = []
    for position in range(1, max_tokens):
        following = [
            (-(score + listed_log_probs(language, text)[token]), beam, token)
            for beam, (text, score) in enumerate(live)
            for token in allowed_tokens(language, position, max_tokens)
        ]
        following.sort()
        texts = [([*live[beam][0], token], -cost) for cost, beam, token in following]
        finished += [item for item in texts[:beam_size] if item[0][-1] == EOS]
        live = [item for item in texts if item[0][-1] != EOS][:beam_size]
        if len(finished) >= beam_size:
            break
    return max(finished, key=lambda item: item[1] / (len(item[0]) - 1) ** penalty)


def check_one(found: Captions, text: list[int], score: float) -> None:
    length = int(found.lengths[0])
    assert found.ids[0, :length].tolist() == text
    assert not found.ids[0, length:].any()
    assert found.scores[0].item() == pytest.approx(float(score), rel=1e-6)


seeds = st.integers(0, 2**31)
penalties = st.sampled_from([0.0, 0.5, 1.0, 2.0])


@settings(max_examples=150, deadline=None)
@given(
    seed=seeds,
    beam_size=st.sampled_from([1, 2, 3, 4, 12]),
    max_tokens=st.integers(2, 7),
    words=st.integers(1, 4),
    penalty=penalties,
    ties=st.booleans(),
    unused=st.integers(0, 2),
)
def test_beam_search_equals_lists(
    seed, beam_size, max_tokens, words, penalty, ties, unused
) -> None:
    language = Language.random(seed, images=1, words=words, ties=ties, unused=unused)
    options = {"beam_size": beam_size, "max_tokens": max_tokens, "penalty": penalty}
    check_one(run_beams(language, **options), *listed_beams(language, **options))


@settings(max_examples=30, deadline=None)
@given(seed=seeds, max_tokens=st.integers(2, 6), penalty=penalties)
def test_enough_beams_find_the_best_text(seed, max_tokens, penalty) -> None:
    language = Language.random(seed, images=1, words=2)
    scores = {}
    for length in range(max_tokens - 1):
        for words in itertools.product([3, 4], repeat=length):
            text = (BOS, *words, EOS)
            log_probs = [
                listed_log_probs(language, list(text[:i]))[text[i]] for i in range(1, len(text))
            ]
            scores[text] = sum(log_probs)

    def rank(text: tuple[int, ...]) -> float:
        return scores[text] / (len(text) - 1) ** penalty

    found = run_beams(language, beam_size=40, max_tokens=max_tokens, penalty=penalty)

    text = tuple(found.ids[0, : found.lengths[0]].tolist())
    check_one(found, list(text), scores[text])
    assert rank(text) == pytest.approx(max(map(rank, scores)), rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(seed=seeds, max_tokens=st.integers(2, 8), penalty=penalties, ties=st.booleans())
def test_one_beam_equals_greedy_search(seed, max_tokens, penalty, ties) -> None:
    language = Language.random(seed, images=4, ties=ties)
    greedy = run_greedy(language, max_tokens=max_tokens)
    beam = run_beams(language, beam_size=1, max_tokens=max_tokens, penalty=penalty)
    assert all(torch.equal(*pair) for pair in zip(greedy, beam, strict=True))


@settings(max_examples=60, deadline=None)
@given(seed=seeds, beam_size=st.integers(1, 4), penalty=penalties, ties=st.booleans())
def test_a_batch_equals_its_images(seed, beam_size, penalty, ties) -> None:
    language = Language.random(seed, images=4, ties=ties)
    options = {"beam_size": beam_size, "max_tokens": 7, "penalty": penalty}
    batch = run_beams(language, **options)
    greedy = run_greedy(language, max_tokens=7)
    for number in range(4):
        alone = run_beams(language.image(number), **options)
        assert all(torch.equal(a[number], b[0]) for a, b in zip(batch, alone, strict=True))
        alone = run_greedy(language.image(number), max_tokens=7)
        assert all(torch.equal(a[number], b[0]) for a, b in zip(greedy, alone, strict=True))


def fixed(rows: list[list[float]]):
    """A step whose logits depend only on the position, and the positions of its calls."""
    calls = []

    def step(tokens: Tensor, position: int, parents: Tensor | None, /) -> Tensor:
        calls.append(position)
        return torch.tensor(rows[position]).log().expand(*tokens.shape, -1)

    return step, calls


VOCABULARY = Vocabulary(PAD, BOS, EOS, 5)


def test_scores_are_sums_of_log_probabilities() -> None:
    step, _ = fixed([[0.05, 0.05, 0.2, 0.4, 0.3], [0.1, 0.1, 0.5, 0.2, 0.1]])
    found = greedy_search(step, VOCABULARY, num_images=1, max_tokens=6, device=DEVICE)
    assert found.ids.tolist() == [[BOS, 3, EOS, PAD, PAD, PAD]]
    assert found.scores.item() == pytest.approx(np.log(0.4 * 0.5))
    assert found.lengths.tolist() == [3]


@pytest.mark.parametrize(("penalty", "words"), [(0.0, 0), (1.0, 2)])
def test_length_penalty_prefers_longer_texts(penalty, words) -> None:
    """log 0.3 = -1.20 for no words; for two, log 0.6 + log 0.7 + log 0.6 = -1.38, or -0.46 each."""
    rows = [[0.05, 0.05, 0.3, 0.6, 0], [0.1, 0.1, 0.1, 0.7, 0], [0.2, 0.2, 0.6, 0, 0]]
    step, _ = fixed([*rows, [0.25, 0.25, 0.5, 0, 0]])
    found = beam_search(
        step,
        VOCABULARY,
        num_images=1,
        beam_size=3,
        max_tokens=5,
        length_penalty=penalty,
        device=DEVICE,
    )
    assert found.ids[0, : words + 2].tolist() == [BOS, *[3] * words, EOS]


def test_search_ends_when_all_images_are_done() -> None:
    end = [0.0, 0.0, 1.0, 0.0, 0.0]
    words = [0.0, 0.0, 0.0, 0.6, 0.4]
    for beam_size in (1, 3):
        step, calls = fixed([words, end, end, end])
        beam_search(
            step, VOCABULARY, num_images=2, beam_size=beam_size, max_tokens=5, device=DEVICE
        )
        assert calls == [0, 1]
    step, calls = fixed([words, end, end, end])
    greedy_search(step, VOCABULARY, num_images=2, max_tokens=5, device=DEVICE)
    assert calls == [0, 1]


@pytest.mark.parametrize("beam_size", [1, 2])
def test_the_last_token_is_the_end(beam_size) -> None:
    step, _ = fixed([[0.1, 0.1, 0.001, 0.4, 0.399]] * 4)
    found = beam_search(
        step, VOCABULARY, num_images=1, beam_size=beam_size, max_tokens=5, device=DEVICE
    )
    assert found.ids.tolist() == [[BOS, 3, 3, 3, EOS]]
    assert found.scores.item() == pytest.approx(np.log(0.4**3 * 0.001), rel=1e-5)
    greedy = greedy_search(step, VOCABULARY, num_images=1, max_tokens=5, device=DEVICE)
    assert torch.equal(greedy.ids, found.ids)


def test_equal_continuations_are_ordered_by_beam_and_token() -> None:
    """All texts of a length are equally likely; token 3 is the lowest."""
    step, _ = fixed([[0.25, 0.25, 0.0, 0.25, 0.25]] * 2 + [[0.5, 0.0, 0.5, 0.0, 0.0]])
    found = beam_search(step, VOCABULARY, num_images=2, beam_size=2, max_tokens=4, device=DEVICE)
    assert found.ids.tolist() == [[BOS, 3, 3, EOS]] * 2


def test_shortest_of_equal_texts() -> None:
    """The score for each token is log 0.5 at any length."""
    step, _ = fixed([[0.0, 0.0, 0.5, 0.5, 0.0]] * 4)
    found = beam_search(
        step,
        VOCABULARY,
        num_images=1,
        beam_size=3,
        max_tokens=5,
        length_penalty=1.0,
        device=DEVICE,
    )
    assert found.ids.tolist() == [[BOS, EOS, PAD, PAD, PAD]]


def test_tokens_that_are_not_allowed_have_no_probability() -> None:
    logits = torch.zeros(1, 1, 6, dtype=torch.bfloat16)
    texts = torch.zeros(1, 1, 3, dtype=torch.int64)
    log_probs = log_probabilities(logits, VOCABULARY, texts, position=1)
    assert log_probs.dtype == torch.float32
    likely = pytest.approx(-np.log(6))
    assert log_probs.flatten().tolist() == [-np.inf, -np.inf, likely, likely, likely, -np.inf]
    log_probs = log_probabilities(logits, VOCABULARY, texts, position=2)
    assert log_probs.flatten().tolist() == [-np.inf, -np.inf, likely, *[-np.inf] * 3]
    assert not logits.any()


@settings(max_examples=100, deadline=None)
@given(
    values=st.lists(
        st.one_of(
            st.floats(width=32, allow_nan=False),
            st.sampled_from([0.0, -0.0, 1.0, -np.inf, np.inf, 1e-40]),
        ),
        min_size=1,
        max_size=40,
    ),
    data=st.data(),
)
def test_stable_topk_equals_sorting(values, data) -> None:
    k = data.draw(st.integers(1, len(values)))
    expected = sorted(range(len(values)), key=lambda i: (-values[i], i))[:k]
    x = torch.tensor([values, values[::-1]], dtype=torch.float32)
    best, index = stable_topk(x, k)
    assert index[0].tolist() == expected
    assert torch.equal(best, x.gather(1, index))
    assert torch.equal(best[0], best[1])
