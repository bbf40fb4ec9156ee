"""Beam search with finished texts in the beam, compared with a search written with lists."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from yolor_d2.modeling.heads.caption.decoding import Captions, Decoding, decode, fixed_beam_search

from .test_decoding import BOS, DEVICE, EOS, PAD, Language, LanguageStep, listed_log_probs

Text = tuple[list[int], np.float32]


def run(language: Language, *, beam_size: int, max_tokens: int, penalty: float = 0.0) -> Captions:
    return fixed_beam_search(
        LanguageStep(language),
        language.vocabulary,
        num_images=len(language.logits),
        beam_size=beam_size,
        max_tokens=max_tokens,
        length_penalty=penalty,
        device=DEVICE,
    )


def listed(language: Language, *, beam_size: int, max_tokens: int, penalty: float) -> Text:
    """The best text of one image, without tensors or cache; all beams run to the last step."""
    beam: list[Text] = [([BOS], np.float32(0))]
    for _ in range(1, max_tokens):
        following = [
            (-(score + cost), number, token)
            for number, (text, score) in enumerate(beam)
            for token, cost in continuations(language, text)
        ]
        following.sort()
        beam = [([*beam[number][0], token], -cost) for cost, number, token in following[:beam_size]]
    texts = [([token for token in text if token != PAD], score) for text, score in beam]
    return max(texts, key=lambda item: item[1] / (len(item[0]) - 1) ** penalty)


def continuations(language: Language, text: list[int]) -> list[tuple[int, np.float32]]:
    if text[-1] in (EOS, PAD):
        return [(PAD, np.float32(0))]
    gains = listed_log_probs(language, text)
    return [(token, gains[token]) for token in range(EOS, language.vocabulary.usable)]


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 1000),
    beam_size=st.integers(1, 4),
    max_tokens=st.integers(2, 8),
    penalty=st.sampled_from([0.0, 0.7]),
)
def test_equals_lists(seed: int, beam_size: int, max_tokens: int, penalty: float) -> None:
    language = Language.random(seed, unused=1)
    how = {"beam_size": beam_size, "max_tokens": max_tokens, "penalty": penalty}
    found = run(language, **how)
    for number in range(2):
        text, score = listed(language.image(number), **how)
        length = int(found.lengths[number])
        assert found.ids[number, :length].tolist() == text
        assert not found.ids[number, length:].any()
        assert float(found.scores[number]) == pytest.approx(float(score), rel=1e-5)


def test_texts_need_no_end() -> None:
    language = Language.random(0)
    language.logits[..., EOS] = -100
    found = run(language, beam_size=2, max_tokens=5)
    assert found.lengths.tolist() == [5, 5]
    assert not (found.ids == EOS).any()


def test_search_ends_when_all_texts_are_finished() -> None:
    language = Language.random(0)
    language.logits[..., EOS] = 100
    language.logits[:, 1, EOS] = 0  # the first step
    step = LanguageStep(language)
    fixed_beam_search(
        step, language.vocabulary, num_images=2, beam_size=2, max_tokens=30, device=DEVICE
    )
    assert step.calls < 5


def test_decoding_chooses_it() -> None:
    language = Language.random(3)
    options = Decoding(beam_size=3, max_tokens=6, finished_in_beam=True)
    found = decode(
        LanguageStep(language), language.vocabulary, options, num_images=2, device=DEVICE
    )
    expected = run(language, beam_size=3, max_tokens=6)
    assert torch.equal(found.ids, expected.ids)
