"""Options of the caption head in groups, each with its validation and its configuration keys.

Error messages name keys of MODEL.CAPTION_HEAD.
"""

from collections.abc import Sequence
from typing import NamedTuple

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec

from ....checks import check_names, check_range
from ....errors import ConfigError
from ....tokenizer import Tokenizer
from ...classes import number_of_classes
from .decoding import Decoding, Vocabulary
from .self_critical import SelfCritical

KEY = "MODEL.CAPTION_HEAD"


class TransformerSizes(NamedTuple):
    """Sizes of the transformer.

    Attributes:
        dim: channels of a token.
        num_heads: attention heads.
        ffn_dim: hidden channels of feed-forward layers.
        decoder_layers: at least 1.
        encoder_layers: of self-attention among visual tokens; 0: no encoder.
        max_positions: the longest text, in tokens.
    """

    dim: int = 512
    num_heads: int = 8
    ffn_dim: int = 2048
    decoder_layers: int = 3
    encoder_layers: int = 0
    max_positions: int = 128

    def check(self) -> None:
        """Raise ValueError for invalid options."""
        check_range(KEY, {"NUM_HEADS": self.num_heads, "FFN_DIM": self.ffn_dim}, low=1)
        check_range(KEY, {"DECODER_LAYERS": self.decoder_layers}, low=1)
        check_range(KEY, {"ENCODER_LAYERS": self.encoder_layers})
        if self.dim < 1 or self.dim % self.num_heads or self.dim % 4:
            raise ConfigError(
                f"{KEY}.DIM is {self.dim}; it must be a multiple of 4 (for the two coordinates "
                f"of a token) and of {KEY}.NUM_HEADS = {self.num_heads}"
            )

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "TransformerSizes":
        head = cfg.MODEL.CAPTION_HEAD
        return cls(**{name: head[name.upper()] for name in cls._fields})

    def check_length(self, key: str, tokens: int) -> None:
        """Raise ValueError for an invalid maximum number of tokens."""
        if not 2 <= tokens <= self.max_positions:
            raise ConfigError(
                f"{key} is {tokens}; begin and end are 2 tokens, and the head has positions for "
                f"{KEY}.MAX_POSITIONS = {self.max_positions}"
            )


class VocabularyOptions(NamedTuple):
    """The vocabulary and the layers that predict its tokens.

    Attributes:
        vocab_size: tokens that have an embedding and a logit.
        usable_vocab: ids from here on are never generated; None: all are usable.
        pad_id, bos_id, eos_id: the tokenizer's ids of padding, begin and end.
        tied: use the embedding matrix as the output layer.
        output_dims: hidden sizes of the output layers if they are not tied.
    """

    vocab_size: int
    usable_vocab: int | None = None
    pad_id: int = 0
    bos_id: int = 1
    eos_id: int = 2
    tied: bool = True
    output_dims: Sequence[int] = ()

    def check(self) -> None:
        """Raise ValueError for invalid options."""
        special = max(self.pad_id, self.bos_id, self.eos_id)
        check_range(KEY, {"VOCAB_SIZE": self.vocab_size}, low=special + 1)
        if min(self.output_dims, default=1) < 1:
            raise ConfigError(
                f"{KEY}.OUTPUT_DIMS is {list(self.output_dims)}; sizes are at least 1"
            )
        if self.tied and self.output_dims:
            raise ConfigError(
                f"{KEY}.OUTPUT_DIMS is {list(self.output_dims)}, but with {KEY}.TIED the embedding "
                "matrix is the output layer"
            )

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "VocabularyOptions":
        """Sizes and ids are those of TOKENIZER.MODEL if it is set."""
        head = cfg.MODEL.CAPTION_HEAD
        output = {"tied": head.TIED, "output_dims": head.OUTPUT_DIMS}
        if not cfg.TOKENIZER.MODEL:
            pieces = cfg.TOKENIZER.VOCAB_SIZE
            size = head.VOCAB_SIZE or pieces
            ids = tuple(head.SPECIAL_IDS)
            if len(set(ids)) != 3 or min(ids) < 0:
                raise ConfigError(f"{KEY}.SPECIAL_IDS needs 3 different ids, got {list(ids)}")
            return cls(size, min(size, pieces), *ids, **output)
        tokenizer = Tokenizer.load(cfg.TOKENIZER.MODEL)
        pieces = len(tokenizer)
        if 0 < head.VOCAB_SIZE < pieces:
            raise ConfigError(
                f"{KEY}.VOCAB_SIZE is {head.VOCAB_SIZE}, but TOKENIZER.MODEL has {pieces} pieces; "
                "0 uses their number"
            )
        return cls(
            head.VOCAB_SIZE or pieces,
            usable_vocab=pieces,
            pad_id=tokenizer.pad_id,
            bos_id=tokenizer.bos_id,
            eos_id=tokenizer.eos_id,
            **output,
        )

    def for_decoding(self) -> Vocabulary:
        """The ids that decoding uses."""
        usable = self.usable_vocab or self.vocab_size
        return Vocabulary(self.pad_id, self.bos_id, self.eos_id, usable)


class RegionOptions(NamedTuple):
    """Detected objects as visual tokens.

    Attributes:
        region_feature: the map from which objects are cropped; None: objects are not tokens.
        max_regions: objects of an image, at most.
        num_classes: of the objects.
        position_scale: factor of the position encodings that are added after the encoder; 0: none.
    """

    region_feature: str | None = None
    max_regions: int = 20
    num_classes: int = 0
    position_scale: float = 0.0

    def check(self, dim: int) -> None:
        """Raise ValueError for invalid options of a head of width `dim`."""
        check_range(KEY, {"MAX_REGIONS": self.max_regions}, low=1)
        check_range(KEY, {"REGION_POSITION_SCALE": self.position_scale})
        if self.region_feature and dim % 8:
            raise ConfigError(
                f"{KEY}.DIM is {dim}; with {KEY}.REGION_FEATURE it must be a multiple of 8 (for "
                "sines and cosines of the four numbers of a box)"
            )

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "RegionOptions":
        head = cfg.MODEL.CAPTION_HEAD
        if not head.REGION_FEATURE:
            return cls()
        if "detection" not in cfg.MODEL.YOLOR.TASKS:
            raise ConfigError(
                f"{KEY}.REGION_FEATURE is {head.REGION_FEATURE}, but no objects are detected: "
                "MODEL.YOLOR.TASKS has no detection"
            )
        return cls(
            region_feature=head.REGION_FEATURE,
            max_regions=head.MAX_REGIONS,
            num_classes=number_of_classes(cfg, "DETECTION_HEAD", "thing_classes"),
            position_scale=head.REGION_POSITION_SCALE,
        )


class PointOptions(NamedTuple):
    """Visual tokens at points that other heads choose.

    Attributes:
        features: the detection head's maps.
        semantic_channels: of the map that the semantic head shares.
        max_points: points with the best class scores, at most.
    """

    features: Sequence[str]
    semantic_channels: int
    max_points: int = 300

    def check(self) -> None:
        """Raise ValueError for invalid options."""
        check_range(KEY, {"MAX_REGIONS": self.max_points}, low=1)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> "PointOptions":
        missing = sorted({"detection", "semantic"} - set(cfg.MODEL.YOLOR.TASKS))
        if missing:
            raise ConfigError(
                f"{KEY}.NAME is {cfg.MODEL.CAPTION_HEAD.NAME}, which reads the outputs of other "
                f"heads: MODEL.YOLOR.TASKS has no {' and no '.join(missing)}"
            )
        semantic = cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES[0]
        return cls(
            features=cfg.MODEL.DETECTION_HEAD.IN_FEATURES,
            semantic_channels=input_shape[semantic].channels,
            max_points=cfg.MODEL.CAPTION_HEAD.MAX_REGIONS,
        )


class CaptionTraining(NamedTuple):
    """Regularization and weight of the loss.

    Attributes:
        dropout: of the transformer.
        word_dropout: share of the decoder's input tokens that are replaced with padding.
        label_smoothing: share of the target probability that is spread over the vocabulary.
        loss_weight: a factor.
    """

    dropout: float = 0.1
    word_dropout: float = 0.0
    label_smoothing: float = 0.0
    loss_weight: float = 1.0

    def check(self) -> None:
        """Raise ValueError for invalid options."""
        shares = {"DROPOUT": self.dropout, "WORD_DROPOUT": self.word_dropout}
        check_range(KEY, shares | {"LABEL_SMOOTHING": self.label_smoothing}, high=1)
        check_range(KEY, {"LOSS_WEIGHT": self.loss_weight})

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "CaptionTraining":
        head = cfg.MODEL.CAPTION_HEAD
        return cls(**{name: head[name.upper()] for name in cls._fields})


def decoding_from_config(cfg: CfgNode) -> Decoding:
    test = cfg.MODEL.CAPTION_HEAD.TEST
    return Decoding(**{name: test[name.upper()] for name in Decoding._fields})


def self_critical_from_config(cfg: CfgNode) -> SelfCritical | None:
    """None: SCST.SAMPLES is 0."""
    scst = cfg.MODEL.CAPTION_HEAD.SCST
    if scst.SAMPLES == 0:
        return None
    return SelfCritical(scst.SAMPLES, ce_weight=scst.CE_WEIGHT, end_token=scst.END_TOKEN)


def select_maps(input_shape: dict[str, ShapeSpec], names: Sequence[str]) -> dict[str, ShapeSpec]:
    """The maps of IN_FEATURES, in that order."""
    key = f"{KEY}.IN_FEATURES"
    check_names(key, names, input_shape)
    if len(set(names)) < len(names):
        raise ConfigError(f"{key} has a map twice: {', '.join(names)}")
    return {name: input_shape[name] for name in names}


def select_region_map(input_shape: dict[str, ShapeSpec], name: str) -> ShapeSpec:
    """The map of REGION_FEATURE."""
    check_names(f"{KEY}.REGION_FEATURE", [name], input_shape)
    return input_shape[name]
