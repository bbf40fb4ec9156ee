"""CIDEr-D fast enough to be the reward of self-critical training, where every step scores samples.

The n-grams of a corpus are counted once. Each has a number, its row in a sorted table, which is
looked up by the number of its beginning and its last word; so vectors of captions are arrays. Of
the references only the words are kept, and their vectors are made along with the captions'.
Measured with COCO's captions, five an image: 2.2 MB for 1,000 images, 8.3 MB for 5,000. For 118,000
images, their captions spliced from these, it is 105 MB, 770 MB while they are counted, and 5 s.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, count

import numpy as np

Array = np.ndarray

ORDERS = 4  # n-grams have up to so many words
SIGMA = 6.0  # of the Gaussian that lowers scores of captions longer or shorter than a reference


class CiderD:
    """How well captions agree with an image's references, by a corpus that is counted once."""

    def __init__(self, references: Mapping[int, Sequence[str]], *, end_token: bool = False) -> None:
        """
        Args:
            references: texts of every image of the corpus, their words separated by blanks. An
                n-gram weighs the more, the fewer of these images have it.
            end_token: put an end word behind captions and references, so that a caption that
                breaks off earns less (Hu et al., SacreEOS); evaluation does without.
        """
        if not references:
            raise ValueError("there are no references")
        for image_id, texts in references.items():
            if not texts or isinstance(texts, str):
                raise ValueError(f"image {image_id!r}: the references are no list of texts")
        self._end = ["\n"] if end_token else []  # no word of a text, as it is a blank
        self._word_ids: dict[str, int] = {}
        words, lengths, self._word_ids = self._encode(chain.from_iterable(references.values()))
        many = np.array([len(texts) for texts in references.values()])  # (images,)
        self._tables, self._weights = zip(*_count(words, lengths, many), strict=True)
        ends = np.cumsum(many)[:-1]  # (images - 1,)
        self._lengths = dict(zip(references, np.split(lengths, ends), strict=True))
        of_images = np.split(words.astype(np.int32), np.cumsum(lengths)[ends - 1])
        self._words = dict(zip(references, of_images, strict=True))

    def score(self, image_ids: Sequence[int], captions: Sequence[str]) -> Array:
        """CIDEr-D of R captions in words, one of these images each, 0 to 10: (R,) float64."""
        if unknown := set(image_ids) - self._words.keys():
            raise ValueError(f"images without references have captions: {sorted(unknown)}")
        slots = {image_id: slot for slot, image_id in enumerate(dict.fromkeys(image_ids))}
        words, lengths, _ = self._encode(captions)
        words = np.concatenate([words, *(self._words[i] for i in slots)])
        lengths = np.concatenate([lengths, *(self._lengths[i] for i in slots)])

        # Texts are the captions first, then the references; a pair is one of each, of an image.
        groups = np.array([slots[i] for i, _ in zip(image_ids, captions, strict=True)], int)  # (R,)
        many = np.array([len(self._lengths[i]) for i in slots], int)  # (slots,)
        caption, reference = _members(many, groups)  # (pairs,)
        reference += len(captions)
        # pycocoevalcap counts bigrams, which differ by as many but where a text has no words.
        apart = lengths[caption] - lengths[reference]  # (pairs,)
        similar = self._cosines(words, lengths, caption, reference)  # (pairs,)
        similar *= np.exp(-(apart**2) / (2 * SIGMA**2))
        return 10 / ORDERS * np.bincount(caption, similar, len(captions)) / many[groups]

    def _encode(self, texts: Iterable[str]) -> tuple[Array, Array, dict[str, int]]:
        """The words' numbers, text by text, how many words each text has, and the new words.

        New ones are not kept, so that scores never depend on what was scored before.
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
        """The clipped cosines, summed over the orders: (pairs,), of texts of these numbers."""
        total = np.zeros(len(caption))  # (pairs,)
        every_order = _ngrams(words, lengths, self._tables)
        for weights, (texts, ngrams, distinct) in zip(self._weights, every_order, strict=True):
            span = len(weights) + len(distinct)
            # An entry is an n-gram of a text, however often; entries are in the order of texts.
            entries, counts = np.unique(texts * span + ngrams, return_counts=True)
            text, ngram = np.divmod(entries, span)
            squares = weights[np.where(ngram < len(weights), ngram, 0)] ** 2
            norms = np.sqrt(np.bincount(text, squares * counts**2, minlength=len(lengths)))

            sizes = np.bincount(text, minlength=len(lengths))  # (texts,) in entries
            pair, mine = _members(sizes, caption)  # the entries of each pair's caption
            theirs, found = _find(entries, reference[pair] * span + ngram[mine])
            pair, mine, theirs = pair[found], mine[found], theirs[found]
            shared = squares[mine] * np.minimum(counts[mine], counts[theirs]) * counts[theirs]
            products = np.bincount(pair, shared, minlength=len(caption))  # (pairs,)
            both = norms[caption] * norms[reference]  # (pairs,) 0 where nothing weighs anything
            total += products / np.where(both > 0, both, 1)
        return total


def _count(words: Array, lengths: Array, many: Array) -> Iterator[tuple[Array, Array]]:
    """Of each order the table and what its n-grams weigh; images have so many texts."""
    image_of_text = np.repeat(np.arange(len(many)), many)  # (texts,)
    nothing = np.array([-1])  # row 0 is no n-gram: it has the weight of those not in the corpus
    for texts, ngrams, distinct in _ngrams(words, lengths, [nothing] * ORDERS):
        rows = len(distinct) + 1
        # With counts NumPy sorts, without them it hashes, which takes ten times as long.
        once, _ = np.unique(image_of_text[texts] * rows + ngrams, return_counts=True)
        images_with = np.bincount(once % rows, minlength=rows)  # (rows,)
        weights = np.log(len(many)) - np.log(np.maximum(images_with, 1))  # (rows,)
        yield np.concatenate([nothing, distinct]), weights


def _ngrams(
    words: Array, lengths: Array, tables: Sequence[Array]
) -> Iterator[tuple[Array, Array, Array]]:
    """Of each order the text and the number of every n-gram, and the sorted distinct keys.

    Numbers are rows of the order's table; those that are not in it have numbers behind it.
    """
    text_of_word = np.repeat(np.arange(len(lengths)), lengths)  # (words,)
    left = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(words))  # (words,) of the text
    numbers = np.zeros(len(words), int)  # (words,) of the n-gram that begins here
    for order, table in enumerate(tables):
        begins = np.flatnonzero(left > order)  # (n-grams,)
        keys = numbers[begins] << 32 | words[begins + order]
        distinct, which = np.unique(keys, return_inverse=True)
        rows, found = _find(table, distinct)
        numbers[begins] = np.where(found, rows, len(table) + np.arange(len(distinct)))[which]
        yield text_of_word[begins], numbers[begins], distinct


def _find(table: Array, keys: Array) -> tuple[Array, Array]:
    """Rows of a sorted table with these keys, and whether they are there at all."""
    rows = np.searchsorted(table, keys)
    rows[rows == len(table)] = 0
    return rows, table[rows] == keys


def _members(sizes: Array, groups: Array) -> tuple[Array, Array]:
    """Members of these groups, numbered through: which of `groups` each is of, and its number."""
    many = sizes[groups]
    owner = np.repeat(np.arange(len(groups)), many)  # (members,)
    first = (np.cumsum(sizes) - sizes)[groups]
    return owner, np.arange(len(owner)) + (first - np.cumsum(many) + many)[owner]
