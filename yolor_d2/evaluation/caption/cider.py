"""CIDEr-D, fast enough to be the reward of self-critical training at every step.

The document frequencies of a corpus are counted once. N-grams are numbered by their row in a sorted
table, which is searched by the number of the n-gram without its last word and by that word, so that
caption vectors are arrays. Of the references only the words are stored; their vectors are computed
along with those of the captions. Memory measured on COCO captions, five per image: 2.2 MB for 1,000
images, 8.3 MB for 5,000. For 118,000 images with captions spliced from these: 105 MB, 770 MB while
counting, which takes 5 s.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, count

import numpy as np

from ...errors import DataError, LabelError

Array = np.ndarray

ORDERS = 4  # n-grams have up to 4 words
SIGMA = 6.0  # of the Gaussian that penalizes differences in length from a reference


class CiderD:
    """CIDEr-D of captions against the references of a corpus."""

    def __init__(self, references: Mapping[int, Sequence[str]], *, end_token: bool = False) -> None:
        """
        Args:
            references: tokenized texts of all images of the corpus, tokens separated by spaces.
                An n-gram's weight decreases with the number of images that have it.
            end_token: append an end token to captions and references, so that incomplete captions
                score lower (Hu et al., SacreEOS). Evaluation does not use it.
        """
        if not references:
            raise DataError("there are no references")
        for image_id, texts in references.items():
            if not texts or isinstance(texts, str):
                raise LabelError(f"image {image_id!r}: the references are not a list of strings")
        self._end = ["\n"] if end_token else []  # whitespace, so never a word of a text
        self._word_ids: dict[str, int] = {}
        words, lengths, self._word_ids = self._encode(chain.from_iterable(references.values()))
        texts_per_image = np.array([len(texts) for texts in references.values()])  # (images,)
        self._tables, self._weights = zip(
            *_count_ngrams(words, lengths, texts_per_image), strict=True
        )
        ends = np.cumsum(texts_per_image)[:-1]  # (images - 1,)
        self._lengths = dict(zip(references, np.split(lengths, ends), strict=True))
        words_per_image = np.split(words.astype(np.int32), np.cumsum(lengths)[ends - 1])
        self._words = dict(zip(references, words_per_image, strict=True))

    def score(self, image_ids: Sequence[int], captions: Sequence[str]) -> Array:
        """Return the CIDEr-D of R tokenized captions, 0 to 10: (R,) float64.

        Args:
            image_ids: the image of each caption; images can repeat.
            captions: one caption per entry of `image_ids`.
        """
        if unknown := set(image_ids) - self._words.keys():
            raise LabelError(f"captions of images without references: {sorted(unknown)}")
        slots = {image_id: slot for slot, image_id in enumerate(dict.fromkeys(image_ids))}
        words, lengths, _ = self._encode(captions)
        words = np.concatenate([words, *(self._words[i] for i in slots)])
        lengths = np.concatenate([lengths, *(self._lengths[i] for i in slots)])

        # Texts are the captions, then the references; each caption is paired with all references
        # of its image.
        groups = np.array([slots[i] for i, _ in zip(image_ids, captions, strict=True)], int)  # (R,)
        num_references = np.array([len(self._lengths[i]) for i in slots], int)  # (slots,)
        caption, reference = _members(num_references, groups)  # (pairs,)
        reference += len(captions)
        # pycocoevalcap compares numbers of bigrams: the same difference unless a text is empty.
        difference = lengths[caption] - lengths[reference]  # (pairs,)
        similarity = self._cosines(words, lengths, caption, reference)  # (pairs,)
        similarity *= np.exp(-(difference**2) / (2 * SIGMA**2))
        sums = np.bincount(caption, similarity, len(captions))  # (R,)
        return 10 / ORDERS * sums / num_references[groups]

    def _encode(self, texts: Iterable[str]) -> tuple[Array, Array, dict[str, int]]:
        """Return the word ids of all texts, the number of words of each text, and the new words.

        New words are not stored, so that scores do not depend on earlier calls.
        """
        known = self._word_ids
        new: dict[str, int] = defaultdict(count(len(known)).__next__)
        words: list[int] = []
        lengths: list[int] = []
        for text in texts:
            split = text.split() + self._end
            lengths.append(len(split))
            words += [known[word] if word in known else new[word] for word in split]
        return np.array(words, int), np.array(lengths, int), dict(new)

    def _cosines(self, words: Array, lengths: Array, caption: Array, reference: Array) -> Array:
        """Return the clipped cosines of pairs of texts, summed over the orders, (pairs,)."""
        total = np.zeros(len(caption))  # (pairs,)
        every_order = _ngrams(words, lengths, self._tables)
        for weights, (texts, ngrams, distinct) in zip(self._weights, every_order, strict=True):
            span = len(weights) + len(distinct)
            # One entry per distinct n-gram of a text, sorted by text.
            entries, counts = np.unique(texts * span + ngrams, return_counts=True)
            text, ngram = np.divmod(entries, span)
            squares = weights[np.where(ngram < len(weights), ngram, 0)] ** 2
            norms = np.sqrt(np.bincount(text, squares * counts**2, minlength=len(lengths)))

            sizes = np.bincount(text, minlength=len(lengths))  # (texts,) numbers of entries
            pair, ours = _members(sizes, caption)  # the entries of each pair's caption
            theirs, found = _find(entries, reference[pair] * span + ngram[ours])
            pair, ours, theirs = pair[found], ours[found], theirs[found]
            shared = squares[ours] * np.minimum(counts[ours], counts[theirs]) * counts[theirs]
            products = np.bincount(pair, shared, minlength=len(caption))  # (pairs,)
            both = norms[caption] * norms[reference]  # (pairs,) 0 if all weights of a text are 0
            total += products / np.where(both > 0, both, 1)
        return total


def _count_ngrams(
    words: Array, lengths: Array, texts_per_image: Array
) -> Iterator[tuple[Array, Array]]:
    """Yield, for each order, the table of n-grams and their weights."""
    image_of_text = np.repeat(np.arange(len(texts_per_image)), texts_per_image)  # (texts,)
    placeholder = np.array([-1])  # row 0 has the weight of n-grams that are not in the corpus
    for texts, ngrams, distinct in _ngrams(words, lengths, [placeholder] * ORDERS):
        rows = len(distinct) + 1
        # With counts NumPy sorts; without them it hashes, which is ten times slower.
        once, _ = np.unique(image_of_text[texts] * rows + ngrams, return_counts=True)
        images_with = np.bincount(once % rows, minlength=rows)  # (rows,)
        weights = np.log(len(texts_per_image)) - np.log(np.maximum(images_with, 1))  # (rows,)
        yield np.concatenate([placeholder, distinct]), weights


def _ngrams(
    words: Array, lengths: Array, tables: Sequence[Array]
) -> Iterator[tuple[Array, Array, Array]]:
    """Yield, for each order, the text and number of every n-gram, and the sorted distinct keys.

    Numbers are rows of the order's table; n-grams that are not in it have numbers beyond its end.
    """
    text_of_word = np.repeat(np.arange(len(lengths)), lengths)  # (words,)
    remaining = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(words))  # (words,) in text
    numbers = np.zeros(len(words), int)  # (words,) of the n-gram that starts here
    for order, table in enumerate(tables):
        starts = np.flatnonzero(remaining > order)  # (n-grams,)
        keys = numbers[starts] << 32 | words[starts + order]
        distinct, which = np.unique(keys, return_inverse=True)
        rows, found = _find(table, distinct)
        numbers[starts] = np.where(found, rows, len(table) + np.arange(len(distinct)))[which]
        yield text_of_word[starts], numbers[starts], distinct


def _find(table: Array, keys: Array) -> tuple[Array, Array]:
    """Return the rows of keys in a sorted table, and whether they exist."""
    rows = np.searchsorted(table, keys)
    rows[rows == len(table)] = 0
    return rows, table[rows] == keys


def _members(sizes: Array, groups: Array) -> tuple[Array, Array]:
    """Return, for each member of the listed groups, the position in `groups` and its number.

    Args:
        sizes: number of members of every group; members are numbered consecutively.
        groups: indices of groups, which can repeat.
    """
    many = sizes[groups]
    owner = np.repeat(np.arange(len(groups)), many)  # (members,)
    first = (np.cumsum(sizes) - sizes)[groups]
    return owner, np.arange(len(owner)) + (first - np.cumsum(many) + many)[owner]
