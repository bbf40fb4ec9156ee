"""Options of decoding, and the choice of the search that they describe."""

from typing import NamedTuple

import torch

from .....checks import check_range
from .fixed_beam import fixed_beam_search
from .rules import Captions, Rules, Step, Vocabulary
from .sampling import sample_texts
from .search import beam_search, greedy_search

MIN_TEMPERATURE = 1e-3  # below, probabilities overflow; beam_size 1 picks the likeliest token


class Decoding(NamedTuple):
    """How captions are generated; see MODEL.CAPTION_HEAD.TEST.

    Attributes:
        beam_size: texts that are searched in parallel; 1: greedy search.
        max_tokens: the longest caption, begin and end included.
        min_tokens: the shortest caption, begin and end included.
        length_penalty: finished captions are ranked by score / length ** length_penalty.
        no_repeat_ngram: block repeated n-grams of this length; 0: allow them.
        top_p: above 0, sample one text from the most likely tokens that have this total
            probability, instead of searching.
        temperature: of sampling.
        seed: of sampling.
        finished_in_beam: finished texts keep their place in the beam, and texts need no end token,
            see `fixed_beam_search`.
    """

    beam_size: int = 5
    max_tokens: int = 40
    min_tokens: int = 0
    length_penalty: float = 0.0
    no_repeat_ngram: int = 0
    top_p: float = 0.0
    temperature: float = 1.0
    seed: int = 0
    finished_in_beam: bool = False

    @property
    def width(self) -> int:
        """Texts of an image that are decoded in parallel."""
        return 1 if self.top_p else self.beam_size

    def check(self) -> None:
        """Raise ValueError for invalid options."""
        key = "MODEL.CAPTION_HEAD.TEST"
        check_range(key, {"BEAM_SIZE": self.beam_size}, low=1)
        check_range(
            key, {"LENGTH_PENALTY": self.length_penalty, "NO_REPEAT_NGRAM": self.no_repeat_ngram}
        )
        check_range(key, {"MIN_TOKENS": self.min_tokens}, high=self.max_tokens)
        check_range(key, {"TOP_P": self.top_p}, high=1)
        check_range(key, {"TEMPERATURE": self.temperature}, low=MIN_TEMPERATURE)


def decode(
    step: Step,
    vocabulary: Vocabulary,
    options: Decoding,
    *,
    num_images: int,
    device: torch.device,
) -> Captions:
    """Generate one text for each image."""
    rules = Rules(min_tokens=options.min_tokens, no_repeat_ngram=options.no_repeat_ngram)
    if options.top_p:
        # The same random numbers for every image: a caption does not depend on its batch.
        generator = torch.Generator().manual_seed(options.seed)
        uniform = torch.rand(1, 1, options.max_tokens, generator=generator).to(device)
        sampled = sample_texts(
            step,
            vocabulary,
            uniform,
            num_images=num_images,
            top_p=options.top_p,
            temperature=options.temperature,
            rules=rules,
        )
        return Captions(*(field[:, 0] for field in sampled))
    if options.finished_in_beam:
        return fixed_beam_search(
            step,
            vocabulary,
            num_images=num_images,
            beam_size=options.beam_size,
            max_tokens=options.max_tokens,
            length_penalty=options.length_penalty,
            device=device,
            rules=rules,
        )
    if options.beam_size == 1:
        return greedy_search(
            step,
            vocabulary,
            num_images=num_images,
            max_tokens=options.max_tokens,
            device=device,
            rules=rules,
        )
    return beam_search(
        step,
        vocabulary,
        num_images=num_images,
        beam_size=options.beam_size,
        max_tokens=options.max_tokens,
        length_penalty=options.length_penalty,
        device=device,
        rules=rules,
    )
