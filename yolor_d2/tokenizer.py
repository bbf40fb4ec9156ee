"""Tokenizer of captions: a sentencepiece model, stored as bytes."""

import hashlib
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import sentencepiece

LONGEST_LINE = 4192  # bytes: sentencepiece's default limit, which is stored in the model


class Tokenizer:
    """A trained vocabulary.

    Tokenizers with the same bytes are equal; only the bytes are pickled.

    Args:
        model_proto: a serialized sentencepiece model with ids for padding, begin, end and unknown.

    Attributes:
        model_proto: the same bytes.
        pad_id, bos_id, eos_id, unk_id: the special ids.
    """

    def __init__(self, model_proto: bytes) -> None:
        # sentencepiece accepts empty bytes and creates a processor without a model.
        if not model_proto:
            raise ValueError("not a sentencepiece model: no bytes")
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model_proto)
        except RuntimeError as error:
            raise ValueError(f"not a sentencepiece model: {error}") from None
        self.model_proto = model_proto
        self.pad_id: int = self._processor.pad_id()
        self.bos_id: int = self._processor.bos_id()
        self.eos_id: int = self._processor.eos_id()
        self.unk_id: int = self._processor.unk_id()
        special_ids = (self.pad_id, self.bos_id, self.eos_id, self.unk_id)
        if min(special_ids) < 0 or len(set(special_ids)) < 4:
            raise ValueError(
                "the sentencepiece model needs different ids for padding, begin, end and unknown; "
                f"it has {special_ids}"
            )

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Load a .model file."""
        try:
            return cls(Path(path).read_bytes())
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

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
            raise ValueError("there are no captions to train a tokenizer from")
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
            raise ValueError(
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
                raise ValueError(
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
