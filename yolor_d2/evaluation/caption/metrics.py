"""Caption metrics on raw text: pycocoevalcap's scorers without its Java tokenizer.

BLEU and ROUGE-L are 0 to 1, CIDEr (CIDEr-D) is 0 to 10; papers print them times 100.
"""

from collections.abc import Mapping, Sequence

from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from ...errors import DataError, LabelError
from .ptb import tokenize

METRICS = ("Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "ROUGE_L", "CIDEr")


def score(
    references: Mapping[int, Sequence[str]], candidates: Mapping[int, str]
) -> dict[str, float]:
    """Score raw captions.

    Only images with a candidate are scored and counted in CIDEr's document frequencies. The CIDEr
    of a single image is therefore 0: all its words have the same frequency.

    Args:
        references: reference captions by image id; extra images are ignored.
        candidates: one caption per image, which can be empty.

    Returns:
        Corpus-level METRICS.
    """
    return score_tokenized(*tokenize_captions(references, candidates))


def tokenize_captions(
    references: Mapping[int, Sequence[str]], candidates: Mapping[int, str]
) -> tuple[dict[int, list[str]], dict[int, str]]:
    """Tokenize the candidates and the references of their images."""
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
    """Score tokenized captions, tokens separated by spaces; otherwise as `score`."""
    truth = _scored_references(references, candidates)
    answers = {image_id: [candidates[image_id]] for image_id in truth}
    bleu, _ = Bleu().compute_score(truth, answers, verbose=0)
    rouge, _ = Rouge().compute_score(truth, answers)
    # Cider fails if no reference has a word.
    has_words = any(text.split() for texts in truth.values() for text in texts)
    cider = Cider().compute_score(truth, answers)[0] if has_words else 0.0
    return dict(zip(METRICS, map(float, (*bleu, rouge, cider)), strict=True))


def _scored_references(
    references: Mapping[int, Sequence[str]], candidates: Mapping[int, str]
) -> dict[int, list[str]]:
    """Return the references of the images with a candidate."""
    if not candidates:
        raise DataError("there are no captions to score")
    for image_id, caption in candidates.items():
        if not isinstance(caption, str):
            raise LabelError(f"image {image_id!r}: the caption {caption!r} is not a string")
        texts = references.get(image_id, ())
        if not texts:
            raise LabelError(f"image {image_id!r} has a caption but no reference")
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise LabelError(f"image {image_id!r}: the references are not a list of strings")
    return {i: list(texts) for i, texts in references.items() if i in candidates}
