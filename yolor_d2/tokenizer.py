"""Tokenizer of captions: a sentencepiece model or a list of words, stored as bytes."""

import hashlib
import io
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import sentencepiece

from .errors import ConfigError, DataError, FileError

LONGEST_LINE = 4192  # bytes: sentencepiece's default limit, which is stored in the model


class WordList:
    """A vocabulary of whole words, with the methods of sentencepiece's processor.

    It is the form of the published gyolo. Words that are not in the list, such as punctuation, are
    encoded as unknown, and unknown words are not decoded.

    Args:
        data: one word per line, in UTF-8; the number of a line is its id. The first line is [PAD],
            others are [UNK], [CLS] (begin) and [SEP] (end).
    """

    FIRST_LINE = b"[PAD]"
    SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

    def __init__(self, data: bytes) -> None:
        lines = data.decode("utf-8").removesuffix("\n").split("\n")
        self._words = [line.removesuffix("\r") for line in lines]
        self._ids = {word: number for number, word in enumerate(self._words)}
        missing = [word for word in self.SPECIAL[:4] if word not in self._ids]
        if missing:
            raise FileError(f"the list of words has no {', '.join(missing)}")
        self._special = {self._ids[word] for word in self.SPECIAL if word in self._ids}

    def pad_id(self) -> int:
        return self._ids["[PAD]"]

    def unk_id(self) -> int:
        return self._ids["[UNK]"]

    def bos_id(self) -> int:
        return self._ids["[CLS]"]

    def eos_id(self) -> int:
        return self._ids["[SEP]"]

    def __len__(self) -> int:
        return len(self._words)

    def encode(self, text: str) -> list[int]:
        """Ids of the words; case and accents are ignored, punctuation marks are words."""
        letters = unicodedata.normalize("NFD", text.lower())
        plain = "".join(c for c in letters if unicodedata.category(c) != "Mn")
        words = re.findall(r"[^\W_]+|[^\w\s]|_", plain)
        return [self._ids.get(word, self.unk_id()) for word in words]

    def decode(self, ids: list[int]) -> str:
        """The words with blanks between them and a capital letter, without special words."""
        words = [self._words[number] for number in ids if number not in self._special]
        return " ".join(words).capitalize()


class Tokenizer:
    """A vocabulary, trained by sentencepiece or a list of words.

    Tokenizers with the same bytes are equal; only the bytes are pickled.

    Args:
        model_proto: a serialized sentencepiece model with ids for padding, begin, end and unknown,
            or the content of a `WordList`.

    Attributes:
        model_proto: the same bytes.
        pad_id, bos_id, eos_id, unk_id: the special ids.
    """

    def __init__(self, model_proto: bytes) -> None:
        # sentencepiece accepts empty bytes and creates a processor without a model.
        if not model_proto:
            raise FileError("not a sentencepiece model: no bytes")
        self._processor = _processor(model_proto)
        self.model_proto = model_proto
        self.pad_id: int = self._processor.pad_id()
        self.bos_id: int = self._processor.bos_id()
        self.eos_id: int = self._processor.eos_id()
        self.unk_id: int = self._processor.unk_id()
        special_ids = (self.pad_id, self.bos_id, self.eos_id, self.unk_id)
        if min(special_ids) < 0 or len(set(special_ids)) < 4:
            raise FileError(
                "the vocabulary needs different ids for padding, begin, end and unknown; "
                f"it has {special_ids}"
            )

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Load a .model file, or a .txt file with one word per line."""
        try:
            return cls(Path(path).read_bytes())
        except ValueError as error:
            raise FileError(f"{path}: {error}") from None

    @classmethod
    def train(
        cls, captions: Iterable[str], *, vocab_size: int, model_type: str = "bpe"
    ) -> "Tokenizer":
        """Train a lower-case vocabulary; the same captions always give the same bytes.

        Args:
            captions: blanks are normalized and empty captions ignored.
            vocab_size: upper limit of the vocabulary; few captions give a smaller one.
            model_type: "bpe" or "unigram".
        """
        lines = [line for line in (" ".join(caption.split()) for caption in captions) if line]
        if not lines:
            raise DataError("there are no captions to train a tokenizer from")
        model = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(lines),
                model_writer=model,
                vocab_size=vocab_size,
                hard_vocab_limit=False,
                model_type=model_type,
                normalization_rule_name="nmt_nfkc_cf",
                character_coverage=1.0,
                # Longer ones would be skipped silently.
                max_sentence_length=max(LONGEST_LINE, *(len(line.encode()) for line in lines)),
                num_threads=1,  # stored in the model, and affects the ids of "unigram"
                pad_id=0,
                bos_id=1,
                eos_id=2,
                unk_id=3,
                minloglevel=2,  # errors only
            )
        except RuntimeError as error:
            raise ConfigError(
                f"cannot train a tokenizer of {vocab_size} pieces ({model_type}): {error}"
            ) from None
        return cls(model.getvalue())

    def encode(self, text: str, *, max_length: int | None = None) -> list[int]:
        """Return the ids of a text, with begin and end.

        Args:
            text: case and extra blanks are ignored.
            max_length: largest number of ids, at least 2; longer texts are cut before the end id.
        """
        ids = self._processor.encode(text)
        if max_length is not None:
            if max_length < 2:
                raise ConfigError(
                    f"max_length must be at least 2, for begin and end, got {max_length}"
                )
            ids = ids[: max_length - 2]
        return [self.bos_id, *ids, self.eos_id]

    def decode(self, ids: Any) -> str:
        """Return the text up to the first end id; ids are a 1-D list, array or tensor."""
        ids = ids.tolist() if hasattr(ids, "tolist") else list(ids)
        if self.eos_id in ids:
            ids = ids[: ids.index(self.eos_id)]
        return self._processor.decode(ids)

    def save(self, path: str | Path) -> None:
        """Write the model to a file."""
        Path(path).write_bytes(self.model_proto)

    @property
    def sha256(self) -> str:
        """Hexadecimal SHA-256 of the bytes, to identify the vocabulary."""
        return hashlib.sha256(self.model_proto).hexdigest()

    def __len__(self) -> int:
        return len(self._processor)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizer) and self.model_proto == other.model_proto

    def __hash__(self) -> int:
        return hash(self.model_proto)

    def __reduce__(self) -> tuple[type["Tokenizer"], tuple[bytes]]:
        return Tokenizer, (self.model_proto,)


def _processor(model_proto: bytes) -> Any:
    if model_proto.startswith(WordList.FIRST_LINE):
        return WordList(model_proto)
    try:
        return sentencepiece.SentencePieceProcessor(model_proto=model_proto)
    except RuntimeError as error:
        raise FileError(f"not a sentencepiece model: {error}") from None
