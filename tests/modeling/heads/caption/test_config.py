"""Caption heads from configurations."""

from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode

from yolor_d2.modeling.heads.registry import build_caption_head
from yolor_d2.tokenizer import Tokenizer

from ...factory import default_config
from .factory import BOS, EOS, PAD, SHAPES, make_head


def make_config(*overrides: Any) -> CfgNode:
    cfg = default_config()
    small = {"DIM": 16, "NUM_HEADS": 2, "FFN_DIM": 32, "IN_FEATURES": ["c5", "p5"]}
    for key, value in small.items():
        cfg.MODEL.CAPTION_HEAD[key] = value
    cfg.merge_from_list(list(overrides))
    return cfg


def test_configuration_and_constructor_build_the_same() -> None:
    cfg = make_config("TOKENIZER.VOCAB_SIZE", 23, "MODEL.CAPTION_HEAD.MAX_POSITIONS", 64)
    torch.manual_seed(0)
    ours = build_caption_head(cfg, SHAPES).eval()
    other = make_head(max_positions=64)
    assert ours.vocabulary == other.vocabulary
    assert list(ours.state_dict()) == list(other.state_dict())
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name])
    prefixes = {name.split(".")[0] for name in ours.state_dict()}
    assert prefixes == {"projections", "text", "decoder"}


@pytest.fixture(scope="module")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "words.model"
    Tokenizer.train(["a red square", "two blue circles above"], vocab_size=40).save(path)
    return path


def test_vocabulary_of_the_tokenizer(tokenizer_file) -> None:
    pieces = len(Tokenizer.load(tokenizer_file))
    model = ("TOKENIZER.MODEL", str(tokenizer_file))

    head = build_caption_head(make_config(*model), SHAPES)
    assert head.text.words.num_embeddings == pieces
    assert head.vocabulary == (PAD, BOS, EOS, pieces)

    head = build_caption_head(make_config(*model, "MODEL.CAPTION_HEAD.VOCAB_SIZE", 100), SHAPES)
    assert head.text.words.num_embeddings == 100
    assert head.vocabulary.usable == pieces

    head = build_caption_head(make_config(), SHAPES)
    assert head.text.words.num_embeddings == head.vocabulary.usable == 8000

    with pytest.raises(ValueError, match=r"CAPTION_HEAD\.VOCAB_SIZE is 9.*TOKENIZER\.MODEL has"):
        build_caption_head(make_config(*model, "MODEL.CAPTION_HEAD.VOCAB_SIZE", 9), SHAPES)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["IN_FEATURES", ["p9"]],
            "IN_FEATURES has p9; it may have p3, c5, p5",
        ),
        (["IN_FEATURES", []], "IN_FEATURES is empty"),
        (["IN_FEATURES", ["p5", "p5"]], "IN_FEATURES has a map twice"),
        (["VOCAB_SIZE", 2], "VOCAB_SIZE is 2"),
        (["VOCAB_SIZE", -1], "VOCAB_SIZE is -1"),
        (["DIM", 15], r"DIM is 15.*NUM_HEADS = 2"),
        (["DIM", 18], "DIM is 18.*multiple of 4"),
        (["DIM", 0], "DIM is 0"),
        (["NUM_HEADS", 0], "NUM_HEADS is 0"),
        (["FFN_DIM", 0], "FFN_DIM is 0"),
        (["DECODER_LAYERS", 0], "DECODER_LAYERS is 0"),
        (["ENCODER_LAYERS", -1], "ENCODER_LAYERS is -1"),
        (["DROPOUT", 1.5], "DROPOUT is 1.5"),
        (["LABEL_SMOOTHING", -0.1], "LABEL_SMOOTHING is -0.1"),
        (["LOSS_WEIGHT", float("nan")], "LOSS_WEIGHT is nan"),
        (["OUTPUT_DIMS", [8]], r"OUTPUT_DIMS is \[8\].*TIED"),
        (["OUTPUT_DIMS", [0], "TIED", False], r"OUTPUT_DIMS.*0"),
        (["TEST.BEAM_SIZE", 0], "TEST.BEAM_SIZE is 0"),
        (["TEST.LENGTH_PENALTY", -1.0], "TEST.LENGTH_PENALTY is -1"),
        (["TEST.NO_REPEAT_NGRAM", -1], "TEST.NO_REPEAT_NGRAM is -1"),
        (["TEST.MIN_TOKENS", 41], "TEST.MIN_TOKENS is 41"),
        (["TEST.TOP_P", 1.5], "TEST.TOP_P is 1.5"),
        (["TEST.TEMPERATURE", 0.0], "TEST.TEMPERATURE is 0.0"),
        (["WORD_DROPOUT", 1.5], "WORD_DROPOUT is 1.5"),
        (["SCST.SAMPLES", 1], "SCST.SAMPLES is 1"),
        (["SCST.SAMPLES", 2, "SCST.CE_WEIGHT", -1.0], "SCST.CE_WEIGHT is -1"),
        (["TEST.MAX_TOKENS", 1], "TEST.MAX_TOKENS is 1"),
        (["TEST.MAX_TOKENS", 129], "TEST.MAX_TOKENS is 129.*MAX_POSITIONS = 128"),
        (["MAX_POSITIONS", 39], "TOKENIZER.MAX_TOKENS is 40.*MAX_POSITIONS = 39"),
    ],
)
def test_invalid_values_name_their_key(overrides, message) -> None:
    keys = [
        f"MODEL.CAPTION_HEAD.{item}" if i % 2 == 0 else item for i, item in enumerate(overrides)
    ]
    with pytest.raises(ValueError, match=message):
        build_caption_head(make_config(*keys), SHAPES)
