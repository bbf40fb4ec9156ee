"""What the configuration of captions must be like, and what follows from it."""

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec

from ....checks import check_names, check_range
from ....tokenizer import Tokenizer
from ...classes import number_of_classes
from .decoding import Decoding
from .self_critical import SelfCritical

KEY = "MODEL.CAPTION_HEAD"
MIN_TEMPERATURE = 1e-3  # below, probabilities overflow; the likeliest word is BEAM_SIZE 1


def chosen_maps(input_shape: dict[str, ShapeSpec], names: Sequence[str]) -> dict[str, ShapeSpec]:
    key = f"{KEY}.IN_FEATURES"
    check_names(key, names, input_shape)
    if len(set(names)) < len(names):
        raise ValueError(f"{key} has a map twice: {', '.join(names)}")
    return {name: input_shape[name] for name in names}


def region_map(input_shape: dict[str, ShapeSpec], name: str) -> ShapeSpec:
    check_names(f"{KEY}.REGION_FEATURE", [name], input_shape)
    return input_shape[name]


def vocabulary_arguments(cfg: CfgNode) -> dict[str, int]:
    """The tokenizer's, where there is one already."""
    vocab_size = cfg.MODEL.CAPTION_HEAD.VOCAB_SIZE
    if not cfg.TOKENIZER.MODEL:
        pieces = cfg.TOKENIZER.VOCAB_SIZE
        return {
            "vocab_size": vocab_size or pieces,
            "usable_vocab": min(vocab_size or pieces, pieces),
        }
    tokenizer = Tokenizer.load(cfg.TOKENIZER.MODEL)
    if 0 < vocab_size < len(tokenizer):
        raise ValueError(
            f"MODEL.CAPTION_HEAD.VOCAB_SIZE is {vocab_size}, but TOKENIZER.MODEL has "
            f"{len(tokenizer)} pieces; 0 takes their number"
        )
    return {
        "vocab_size": vocab_size or len(tokenizer),
        "usable_vocab": len(tokenizer),
        "pad_id": tokenizer.pad_id,
        "bos_id": tokenizer.bos_id,
        "eos_id": tokenizer.eos_id,
    }


def region_arguments(cfg: CfgNode) -> dict[str, Any]:
    """What a head has to know that is told of the objects that the detection head finds."""
    head = cfg.MODEL.CAPTION_HEAD
    if not head.REGION_FEATURE:
        return {}
    if "detection" not in cfg.MODEL.YOLOR.TASKS:
        raise ValueError(
            f"{KEY}.REGION_FEATURE is {head.REGION_FEATURE}, but nothing finds objects: "
            "MODEL.YOLOR.TASKS has no detection"
        )
    check_range(KEY, {"MAX_REGIONS": head.MAX_REGIONS}, low=1)
    if head.DIM % 8:
        raise ValueError(
            f"{KEY}.DIM is {head.DIM}; with {KEY}.REGION_FEATURE it must be a multiple of 8 (for "
            "sines and cosines of the four numbers of a box)"
        )
    return {
        "region_feature": head.REGION_FEATURE,
        "max_regions": head.MAX_REGIONS,
        "num_classes": number_of_classes(cfg, "DETECTION_HEAD", "thing_classes"),
    }


def check_layers(num_heads: int, ffn_dim: int, *, decoder: int, encoder: int) -> None:
    check_range(KEY, {"NUM_HEADS": num_heads, "FFN_DIM": ffn_dim, "DECODER_LAYERS": decoder}, low=1)
    check_range(KEY, {"ENCODER_LAYERS": encoder})


def check_learning(
    dropout: float, word_dropout: float, label_smoothing: float, *, loss_weight: float
) -> None:
    shares = {"DROPOUT": dropout, "WORD_DROPOUT": word_dropout, "LABEL_SMOOTHING": label_smoothing}
    check_range(KEY, shares, high=1)
    check_range(KEY, {"LOSS_WEIGHT": loss_weight})


def check_widths(dim: int, num_heads: int, output_dims: Sequence[int], *, tied: bool) -> None:
    if dim < 1 or dim % num_heads or dim % 4:
        raise ValueError(
            f"MODEL.CAPTION_HEAD.DIM is {dim}; it must be a multiple of 4 (for the two coordinates "
            f"of a token) and of MODEL.CAPTION_HEAD.NUM_HEADS = {num_heads}"
        )
    if min(output_dims, default=1) < 1:
        raise ValueError(f"MODEL.CAPTION_HEAD.OUTPUT_DIMS is {list(output_dims)}")
    if tied and output_dims:
        raise ValueError(
            f"MODEL.CAPTION_HEAD.OUTPUT_DIMS is {list(output_dims)}, but with "
            "MODEL.CAPTION_HEAD.TIED words are predicted with the embedding itself"
        )


def check_length(tokens: int, key: str, max_positions: int) -> None:
    if not 2 <= tokens <= max_positions:
        raise ValueError(
            f"{key} is {tokens}; begin and end are 2 tokens, and the head has positions for "
            f"MODEL.CAPTION_HEAD.MAX_POSITIONS = {max_positions}"
        )


def check_decoding(how: Decoding, max_positions: int) -> None:
    key = f"{KEY}.TEST"
    check_length(how.max_tokens, f"{key}.MAX_TOKENS", max_positions)
    check_range(key, {"BEAM_SIZE": how.beam_size}, low=1)
    check_range(key, {"LENGTH_PENALTY": how.length_penalty, "NO_REPEAT_NGRAM": how.no_repeat_ngram})
    check_range(key, {"MIN_TOKENS": how.min_tokens}, high=how.max_tokens)
    check_range(key, {"TOP_P": how.top_p}, high=1)
    check_range(key, {"TEMPERATURE": how.temperature}, low=MIN_TEMPERATURE)


def check_rewarded(how: SelfCritical | None) -> None:
    if how is None:
        return
    # A caption that is drawn alone has no others to be compared with.
    check_range(f"{KEY}.SCST", {"SAMPLES": how.samples}, low=2)
    check_range(f"{KEY}.SCST", {"CE_WEIGHT": how.ce_weight})


def decoding_options(cfg: CfgNode) -> Decoding:
    test = cfg.MODEL.CAPTION_HEAD.TEST
    return Decoding(**{name: test[name.upper()] for name in Decoding._fields})


def self_critical_options(cfg: CfgNode) -> SelfCritical | None:
    """How to learn from rewards, if that is wanted."""
    scst = cfg.MODEL.CAPTION_HEAD.SCST
    if scst.SAMPLES == 0:
        return None
    return SelfCritical(scst.SAMPLES, ce_weight=scst.CE_WEIGHT, end_token=scst.END_TOKEN)
