"""How a text is found, as one thing to hand around."""

from typing import NamedTuple

import torch

from .draw import draw_texts
from .rules import Captions, Rules, Step, Vocabulary
from .search import beam_search, greedy_search


class Decoding(NamedTuple):
    """How captions are made; see MODEL.CAPTION_HEAD.TEST."""

    beam_size: int = 5  # texts that are followed at a time; 1 is greedy
    max_tokens: int = 40  # the longest caption, begin and end included
    min_tokens: int = 0
    length_penalty: float = 0.0  # captions are compared by score / length ** this
    no_repeat_ngram: int = 0
    top_p: float = 0.0  # above 0, one text is drawn from the likeliest tokens; nothing is searched
    temperature: float = 1.0
    seed: int = 0

    @property
    def width(self) -> int:
        """Texts of an image that are worked at together."""
        return 1 if self.top_p else self.beam_size


def decode(
    step: Step,
    vocabulary: Vocabulary,
    how: Decoding,
    *,
    num_images: int,
    device: torch.device,
) -> Captions:
    """One text of each image."""
    rules = Rules(min_tokens=how.min_tokens, no_repeat_ngram=how.no_repeat_ngram)
    if how.top_p:
        # The same chances for every image: what is said of one does not depend on its batch.
        dice = torch.Generator().manual_seed(how.seed)
        uniform = torch.rand(1, 1, how.max_tokens, generator=dice).to(device)
        drawn = draw_texts(
            step,
            vocabulary,
            uniform,
            num_images=num_images,
            top_p=how.top_p,
            temperature=how.temperature,
            rules=rules,
        )
        return Captions(*(field[:, 0] for field in drawn))
    if how.beam_size == 1:
        return greedy_search(
            step,
            vocabulary,
            num_images=num_images,
            max_tokens=how.max_tokens,
            device=device,
            rules=rules,
        )
    return beam_search(
        step,
        vocabulary,
        num_images=num_images,
        beam_size=how.beam_size,
        max_tokens=how.max_tokens,
        length_penalty=how.length_penalty,
        device=device,
        rules=rules,
    )
