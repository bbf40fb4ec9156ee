"""A network described by a YAML configuration, from a file or a checkpoint."""

import tempfile
from collections.abc import Sequence
from typing import Any

import yaml
from detectron2.config import CfgNode, get_cfg
from detectron2.data import Metadata
from detectron2.modeling import META_ARCH_REGISTRY, build_model

from ..checkpoint.release import StoredWeights
from ..compat import remove_main_keys
from ..config import add_yolor_config
from ..config.merging import merge_overrides, parse_config
from ..errors import CheckpointError, ConfigError
from ..modeling import YOLOR
from ..modeling.heads import read_by_caption_head
from ..tokenizer import Tokenizer

# What reading and merging a text raise that is not a configuration of this project.
NOT_OURS = (
    *(AssertionError, AttributeError, KeyError, TypeError, ValueError, RecursionError),
    yaml.YAMLError,
)


class YamlRecipe:
    """The parts of a configuration that inference needs.

    Args:
        cfg: the configuration; it is modified.
        device: device of the network.
        score_threshold: of objects; `opts` take precedence.
        opts: KEY, VALUE, ... that override the configuration.

    Attributes:
        tasks: tasks that the network was trained for.
        caption_needs: tasks whose heads captions need.
        weights: MODEL.WEIGHTS; "" for none.
        kind: weights of a checkpoint to use, "ema" or "raw".
        datasets: names of data sets with the network's classes.
        test_datasets: names of the data sets to evaluate on.
        class_counts: number of classes by "thing_classes" and "stuff_classes".
        test_size: long side of the network's input images.
        image_format: channel order of the network's input images, "RGB" or "BGR".
    """

    def __init__(
        self, cfg: CfgNode, *, device: str, score_threshold: float = 0.0, opts: Sequence[Any] = ()
    ) -> None:
        cfg.defrost()
        test = cfg.MODEL.DETECTION_HEAD.TEST
        test.SCORE_THRESH = max(test.SCORE_THRESH, score_threshold)
        # Dense masks of a hundred objects in a large photo take gigabytes.
        cfg.MODEL.MASK_HEAD.MASK_FORMAT = "rle"
        merge_overrides(cfg, opts)
        cfg.MODEL.DEVICE = device
        _check(cfg)
        self.cfg = cfg
        self.tasks: list[str] = list(cfg.MODEL.YOLOR.TASKS)
        self.caption_needs = read_by_caption_head(cfg.MODEL.CAPTION_HEAD.NAME)
        if cfg.MODEL.CAPTION_HEAD.REGION_FEATURE:
            self.caption_needs |= {"detection"}
        self.weights: str = cfg.MODEL.WEIGHTS
        self.kind: str = cfg.TEST.WEIGHTS
        self.datasets: list[str] = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]
        self.test_datasets: list[str] = list(cfg.DATASETS.TEST)
        self.class_counts: dict[str, int] = {
            "thing_classes": cfg.MODEL.DETECTION_HEAD.NUM_CLASSES,
            "stuff_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
        }
        self.test_size: int = cfg.INPUT.TEST_SIZE
        self.image_format: str = cfg.INPUT.FORMAT

    def build(self, tasks: Sequence[str], stored: StoredWeights, metadata: Metadata) -> YOLOR:
        """Build the network, without its weights.

        Args:
            tasks: tasks of the heads to build, including heads that other heads need.
            stored: the weights; their classes and tokenizer are used, not those on this machine.
            metadata: registered metadata of the classes.
        """
        cfg = self.cfg
        cfg.MODEL.YOLOR.TASKS = list(tasks)
        classes = stored.provenance.get("classes") or {}
        if classes or metadata.name not in cfg.DATASETS.TRAIN:
            cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (metadata.name,), ()
        if classes and not any(name.startswith("panoptic.") for name in stored.tensors):
            cfg.MODEL.PANOPTIC_FPN.COMBINE.ENABLED = False  # as in training
        if stored.tokenizer is None:
            return build_model(cfg)
        with tempfile.TemporaryDirectory() as folder:
            temporary = cfg.clone()
            temporary.TOKENIZER.MODEL = f"{folder}/tokenizer.model"
            Tokenizer(stored.tokenizer).save(temporary.TOKENIZER.MODEL)
            return build_model(temporary)


def parse_yaml(text: str) -> CfgNode | None:
    """Parse the configuration of a checkpoint; keys added since then have their defaults.

    Keys that only another version of detectron2 has are left out if they have their defaults.

    Returns:
        The configuration; None if the text is not YAML of this project.

    Raises:
        ValueError: the configuration has other keys that are unknown here.
    """
    cfg = get_cfg()
    add_yolor_config(cfg)
    try:
        stored = parse_config(text)
        unknown = remove_main_keys(stored, cfg) if "MODEL" in stored else []
        if not unknown:
            cfg.merge_from_other_cfg(stored)
    except NOT_OURS:
        return None
    if unknown:
        raise CheckpointError(
            f"its configuration has keys that are unknown here ({', '.join(unknown)}): pass a "
            "configuration"
        )
    cfg.TOKENIZER.MODEL = ""  # a path on the machine of the training
    return cfg


def _check(cfg: CfgNode) -> None:
    """Raise a ValueError for networks or inputs that `Predictor` does not support."""
    name = cfg.MODEL.META_ARCHITECTURE
    kind = META_ARCH_REGISTRY.get(name) if name in META_ARCH_REGISTRY else None
    if not (isinstance(kind, type) and issubclass(kind, YOLOR)):
        raise ConfigError(f"MODEL.META_ARCHITECTURE is {name}; it must be YOLOR")
    if cfg.INPUT.DATASET_MAPPER_NAME != "multitask":
        raise ConfigError("INPUT.DATASET_MAPPER_NAME must be multitask: others resize differently")
