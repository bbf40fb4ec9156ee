"""The tokenizer: exact round trips, deterministic bytes, clear errors."""

import copy
import gzip
import importlib.util
import io
import json
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import torch
from hypothesis import given
from hypothesis import strategies as st

from yolor_d2.tokenizer import Tokenizer

ROOT = Path(__file__).parents[1]
CAPTIONS = [
    f"{count} {color} {shape} {relation} a {other} on the {ground}."
    for count in ("A", "Two", "Three")
    for color in ("red", "Blue", "green")
    for shape, other in (("circle", "square"), ("star", "ring"), ("square", "cross"))
    for relation in ("left of", "above")
    for ground in ("sand", "grass")
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(CAPTIONS, vocab_size=200)


@pytest.fixture(scope="module")
def real_captions() -> list[str]:
    path = ROOT.parent / "shared/data/captions_val2017.txt.gz"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    return gzip.decompress(path.read_bytes()).decode().splitlines()


def load_script():
    spec = importlib.util.spec_from_file_location("script", ROOT / "datasets/prepare_tokenizer.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def test_special_ids(tokenizer):
    ids = (tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id)
    assert ids == (0, 1, 2, 3)


def test_round_trip_is_exact_in_lower_case(tokenizer):
    for caption in CAPTIONS:
        ids = tokenizer.encode(caption)
        assert ids[0] == tokenizer.bos_id
        assert ids[-1] == tokenizer.eos_id
        assert tokenizer.unk_id not in ids
        assert tokenizer.decode(ids) == caption.lower()


def test_blanks_and_case_are_ignored(tokenizer):
    assert tokenizer.encode("  A\tRED \n star ") == tokenizer.encode("a red star")


@given(text=st.text())
def test_any_text_is_encoded_within_the_vocabulary(tokenizer, text):
    ids = tokenizer.encode(text, max_length=12)
    assert 2 <= len(ids) <= 12
    assert all(0 <= token < len(tokenizer) for token in ids)
    assert isinstance(tokenizer.decode(ids), str)


def test_decode_stops_at_the_end_and_ignores_padding(tokenizer):
    ids = tokenizer.encode("a red star")
    padded = [*ids, 0, 0, *tokenizer.encode("two rings")]
    for form in (padded, tuple(padded), np.array(padded), torch.tensor(padded)):
        assert tokenizer.decode(form) == "a red star"
    assert tokenizer.decode(ids[1:-1]) == "a red star"
    assert tokenizer.decode([0, 0]) == tokenizer.decode([]) == ""


def test_max_length_keeps_begin_and_end(tokenizer):
    ids = tokenizer.encode(CAPTIONS[0])
    assert tokenizer.encode(CAPTIONS[0], max_length=len(ids)) == ids
    assert tokenizer.encode(CAPTIONS[0], max_length=5) == [*ids[:4], tokenizer.eos_id]
    assert tokenizer.encode(CAPTIONS[0], max_length=2) == [tokenizer.bos_id, tokenizer.eos_id]
    with pytest.raises(ValueError, match="max_length"):
        tokenizer.encode(CAPTIONS[0], max_length=1)


@pytest.mark.parametrize("model_type", ["bpe", "unigram"])
def test_training_is_deterministic(model_type):
    first, second = (
        Tokenizer.train(CAPTIONS, vocab_size=60, model_type=model_type) for _ in range(2)
    )
    assert first.model_proto == second.model_proto
    assert first == second
    assert hash(first) == hash(second)
    assert first.sha256 == second.sha256
    assert first != Tokenizer.train(CAPTIONS[:20], vocab_size=60, model_type=model_type)


def test_few_captions_give_a_smaller_vocabulary():
    assert len(Tokenizer.train(["a"], vocab_size=8000)) == 7
    small = Tokenizer.train(CAPTIONS[:50], vocab_size=8000)
    assert 30 < len(small) < 8000
    assert small.decode(small.encode(CAPTIONS[0])) == CAPTIONS[0].lower()


def test_blanks_do_not_change_the_vocabulary():
    unclean = ["", " \n", *(f"  {caption}\n".replace(" ", "  ") for caption in CAPTIONS)]
    assert Tokenizer.train(iter(unclean), vocab_size=99) == Tokenizer.train(CAPTIONS, vocab_size=99)


def test_long_captions_are_used():
    long = "a long story " * 1000 + "with a zebra"
    for captions in ([*CAPTIONS, long], [long]):
        tokenizer = Tokenizer.train(captions, vocab_size=200)
        assert tokenizer.decode(tokenizer.encode("zebra")) == "zebra"


@pytest.mark.parametrize("captions", [[], [" ", "\n"]])
def test_no_captions(captions):
    with pytest.raises(ValueError, match="no captions"):
        Tokenizer.train(captions, vocab_size=100)


def test_vocabulary_smaller_than_the_alphabet():
    with pytest.raises(ValueError, match="10 pieces"):
        Tokenizer.train(CAPTIONS, vocab_size=10)


@pytest.mark.parametrize("cut", [slice(0, 0), slice(0, 100), slice(1, 300), slice(0, -50)])
def test_damaged_model(tokenizer, cut, tmp_path):
    path = tmp_path / "damaged.model"
    path.write_bytes(tokenizer.model_proto[cut])
    with pytest.raises(ValueError, match="not a sentencepiece model"):
        Tokenizer(path.read_bytes())
    with pytest.raises(ValueError, match=r"damaged\.model"):
        Tokenizer.load(path)


def test_model_without_special_ids():
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CAPTIONS),
        model_writer=model,
        vocab_size=60,
        model_type="bpe",
        minloglevel=2,
    )
    with pytest.raises(ValueError, match="padding"):
        Tokenizer(model.getvalue())


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "star", "cafe", ""]


def word_list(words=WORDS, end="\n"):
    return Tokenizer("".join(word + end for word in words).encode())


def test_word_list():
    """The form of the published gyolo: one word per line, ids are the numbers of the lines."""
    tokenizer = word_list()
    assert len(tokenizer) == len(WORDS)
    ids = (tokenizer.pad_id, tokenizer.unk_id, tokenizer.bos_id, tokenizer.eos_id)
    assert ids == (0, 1, 2, 3)
    assert tokenizer.encode("A red  STAR.") == [2, 5, 6, 7, 1, 3]
    assert tokenizer.encode("a café, a_red star-a", max_length=8) == [2, 5, 8, 1, 5, 1, 6, 3]
    assert tokenizer.encode("") == [2, 3]


def test_word_list_decodes_without_special_words():
    tokenizer = word_list()
    assert tokenizer.decode([2, 5, 1, 6, 4, 7, 3, 5, 0]) == "A red star"
    assert tokenizer.decode(torch.tensor([2, 5, 6])) == "A red"  # no end
    assert tokenizer.decode([2, 3]) == ""
    with pytest.raises(IndexError):
        tokenizer.decode([2, 10])


def test_word_list_of_another_system_is_read(tmp_path):
    (tmp_path / "vocab.txt").write_bytes("\r\n".join(WORDS[:8]).encode())
    loaded = Tokenizer.load(tmp_path / "vocab.txt")
    assert len(loaded) == 8
    assert loaded.decode(loaded.encode("a red star")) == "A red star"
    assert loaded == pickle.loads(pickle.dumps(loaded)) != word_list()


def test_word_list_without_special_words(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("[PAD]\n[UNK]\na\nstar\n")
    with pytest.raises(ValueError, match=r"vocab\.txt: the list of words has no \[CLS\], \[SEP\]"):
        Tokenizer.load(path)


def test_copies_are_equal(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "a.model")
    loaded = Tokenizer.load(str(tmp_path / "a.model"))
    for copied in (loaded, copy.deepcopy(tokenizer), pickle.loads(pickle.dumps(tokenizer))):
        assert copied == tokenizer
        assert copied.encode("a red star") == tokenizer.encode("a red star")
    assert tokenizer != tokenizer.model_proto


def test_nothing_is_written_to_the_terminal(capfd):
    Tokenizer.train(CAPTIONS, vocab_size=60).decode([5, 6])
    with pytest.raises(ValueError, match="not a sentencepiece model"):
        Tokenizer(b"x")
    assert capfd.readouterr() == ("", "")


def test_real_captions(real_captions):
    training, held_out = real_captions[:20_000], real_captions[20_000:]  # different images
    tokenizer = Tokenizer.train(training, vocab_size=8000)
    assert len(tokenizer) == 8000
    encoded = [tokenizer.encode(caption) for caption in held_out]
    assert sum(len(ids) - 2 for ids in encoded) / len(encoded) == pytest.approx(11.7, abs=0.15)
    exact = [
        tokenizer.decode(ids) == " ".join(caption.lower().split())
        for caption, ids in zip(held_out, encoded, strict=True)
    ]
    assert exact.count(False) <= 1  # one has a character, "]", that no other caption has


@pytest.mark.slow
def test_training_on_600_000_captions():
    """Training on as many different captions as COCO has takes seconds."""
    rng = np.random.default_rng(0)
    syllables = [first + second for first in "bcdfghklmnprst" for second in "aeiou"]
    words = ["".join(rng.choice(syllables, size=rng.integers(1, 5))) for _ in range(20_000)]
    often = 1 / np.arange(1, len(words) + 1)  # as in natural language
    captions = rng.choice(words, size=(600_000, 10), p=often / often.sum())
    started = time.process_time()
    tokenizer = Tokenizer.train(map(" ".join, captions), vocab_size=8000)
    assert len(tokenizer) == 8000
    assert time.process_time() - started < 60


def test_script_reads_every_format(tmp_path, capsys):
    coco = {"annotations": [{"image_id": 1, "caption": caption} for caption in CAPTIONS]}
    karpathy = {
        "images": [
            {"split": split, "sentences": [{"raw": caption}]}
            for caption in CAPTIONS
            for split in ("train", "restval", "test")
        ]
    }
    files = {
        "coco.json": json.dumps(coco).encode(),
        "karpathy.json.gz": gzip.compress(json.dumps(karpathy).encode()),
        "lines.txt": "\n".join(CAPTIONS).encode(),
        "lines.txt.gz": gzip.compress("\n".join(CAPTIONS).encode()),
    }
    counts = []
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        output = tmp_path / f"{name}.model"
        argv = ["--captions", str(tmp_path / name), "--output", str(output), "--vocab-size", "120"]
        load_script().main(argv)
        assert len(Tokenizer.load(output)) == 120
        counts.append(capsys.readouterr().out.split(" captions\n")[0].split()[-1])
    count = len(CAPTIONS)
    assert counts == [str(count), str(2 * count), str(count), str(count)]


@pytest.mark.parametrize("content", ['{"images": [{"id": 1}]}', "[]", "{", '{"annotations": []}'])
def test_script_errors_are_one_line(tmp_path, content):
    path = tmp_path / "captions.json"
    path.write_text(content)
    for captions in (path, tmp_path / "missing.json"):
        argv = ["--captions", str(captions), "--output", str(tmp_path / "t.model")]
        with pytest.raises(SystemExit, match=r"^error: [^\n]+$"):
            load_script().main(argv)
