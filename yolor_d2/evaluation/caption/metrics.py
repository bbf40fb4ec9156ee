"""Caption scores by pycocoevalcap's scorers, without Java: raw text in, numbers out.

BLEU and ROUGE-L are 0 to 1, CIDEr (CIDEr-D) is 0 to 10; papers print them times 100.
"""

from collections.abc import Mapping, Sequence

from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from .ptb import tokenize

METRICS = ("Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "ROUGE_L", "CIDEr")


def score(
    references: Mapping[int, Sequence[str]], candidates: Mapping[int, str]
) -> dict[str, float]:
    """Score raw captions.

    Only images with a candidate are scored, and they alone make CIDEr's document frequencies: the
    CIDEr of a single image is 0, as no word of it is rarer than another.

    Args:
        references: true captions of each image; may be of more images than the candidates.
        candidates: one caption each, which may be empty.

    Returns:
        METRICS of all of them together.
    """
    return score_tokenized(*tokenize_captions(references, candidates))


def tokenize_captions(
    references: Mapping[int, Sequence[str]], candidates: Mapping[int, str]
) -> tuple[dict[int, list[str]], dict[int, str]]:
    """The references of the images with a candidate, and the candidates, in words."""
    truth = _scored_references(references, candidates)
    words = iter(tokenize(text for texts in truth.values() for text in texts))
    answers = tokenize(candidates[image_id] for image_id in truth)
    return (
        {image_id: [next(words) for _ in texts] for image_id, texts in truth.items()},
        dict(zip(truth, answers, strict=True)),
    )


def score_tokenized(
    references: Mapping[int, Sequence[str]], candidates: Mapping[int, str]
) -> dict[str, float]:
    """Like `score`, of text whose words are separated by blanks."""
    truth = _scored_references(references, candidates)
    answers = {image_id: [candidates[image_id]] for image_id in truth}
    bleu, _ = Bleu().compute_score(truth, answers, verbose=0)
    rouge, _ = Rouge().compute_score(truth, answers)
    # Without any word Cider fails.
    has_words = any(text.split() for texts in truth.values() for text in texts)
    cider = Cider().compute_score(truth, answers)[0] if has_words else 0.0
    return dict(zip(METRICS, map(float, (*bleu, rouge, cider)), strict=True))


def _scored_references(
    references: Mapping[int, Sequence[str]], candidates: Mapping[int, str]
) -> dict[int, list[str]]:
    """The references of the images with a candidate."""
    if not candidates:
        raise ValueError("there are no captions to score")
    for image_id, caption in candidates.items():
        if not isinstance(caption, str):
            raise ValueError(f"image {image_id!r}: the caption {caption!r} is no text")
        texts = references.get(image_id, ())
        if not texts:
            raise ValueError(f"image {image_id!r} has a caption but no reference")
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"image {image_id!r}: the references are no list of texts")
    return {i: list(texts) for i, texts in references.items() if i in candidates}
