"""A network as a *.yaml describes it, in a file or in a checkpoint."""

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import yaml
from detectron2.config import CfgNode, get_cfg
from detectron2.data import Metadata
from detectron2.modeling import META_ARCH_REGISTRY, build_model

from ..checkpoint.release import StoredWeights
from ..config import add_yolor_config
from ..modeling import YOLOR
from ..tokenizer import Tokenizer


class YamlRecipe:
    """What there is to know of a configuration to predict with its network.

    Args:
        cfg: becomes this object's own.
        device: of the network.
        score_threshold: objects below are left out, unless `opts` say otherwise.
        opts: KEY, VALUE, ...

    Attributes:
        tasks: that the network has been trained for.
        is_told_of_objects: whether captions need the detection head.
        weights: the file that the configuration names, "" for none.
        kind: "ema" or "raw", which of a checkpoint's weights are meant.
        data_sets: that have the network's classes.
        class_counts: how many there are, by "thing_classes" and "stuff_classes".
        test_size: long side of the images that the network is fed.
        image_format: "RGB" or "BGR", of these.
    """

    def __init__(
        self, cfg: CfgNode, *, device: str, score_threshold: float = 0.0, opts: Sequence[Any] = ()
    ) -> None:
        cfg.defrost()
        test = cfg.MODEL.DETECTION_HEAD.TEST
        test.SCORE_THRESH = max(test.SCORE_THRESH, score_threshold)
        # A hundred objects of a large photo are gigabytes otherwise.
        cfg.MODEL.MASK_HEAD.MASK_FORMAT = "rle"
        try:
            cfg.merge_from_list(list(opts))
        except (AssertionError, KeyError) as error:  # yacs's ways of saying so
            raise ValueError(f"configuration: {error.args[0]}") from None
        cfg.MODEL.DEVICE = device
        _check(cfg)
        self.cfg = cfg
        self.tasks: list[str] = list(cfg.MODEL.YOLOR.TASKS)
        self.is_told_of_objects = bool(cfg.MODEL.CAPTION_HEAD.REGION_FEATURE)
        self.weights: str = cfg.MODEL.WEIGHTS
        self.kind: str = cfg.TEST.WEIGHTS
        self.data_sets: list[str] = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]
        self.class_counts: dict[str, int] = {
            "thing_classes": cfg.MODEL.DETECTION_HEAD.NUM_CLASSES,
            "stuff_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
        }
        self.test_size: int = cfg.INPUT.TEST_SIZE
        self.image_format: str = cfg.INPUT.FORMAT

    def build(self, tasks: Sequence[str], stored: StoredWeights, metadata: Metadata) -> YOLOR:
        """The network with the heads of some tasks, and none of its weights.

        Args:
            tasks: with all that they need.
            stored: what their file says of classes and words counts, not what is on this machine.
            metadata: of the classes, registered.
        """
        cfg = self.cfg
        cfg.MODEL.YOLOR.TASKS = list(tasks)
        classes = stored.provenance.get("classes") or {}
        if classes or metadata.name not in cfg.DATASETS.TRAIN:
            cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (metadata.name,), ()
        if classes and not any(name.startswith("panoptic.") for name in stored.tensors):
            cfg.MODEL.PANOPTIC_FPN.COMBINE.ENABLED = False  # as it was in training
        with ExitStack() as stack:
            if stored.tokenizer is not None:
                folder = stack.enter_context(tempfile.TemporaryDirectory())
                cfg.TOKENIZER.MODEL = f"{folder}/tokenizer.model"
                Tokenizer(stored.tokenizer).save(cfg.TOKENIZER.MODEL)
            return build_model(cfg)


def parse_yaml(text: str) -> CfgNode | None:
    """The configuration of a checkpoint; what was added since then has its default.

    None: it is no *.yaml of this project, or one of another version.
    """
    cfg = get_cfg()
    add_yolor_config(cfg)
    try:
        cfg.merge_from_other_cfg(CfgNode.load_cfg(text))
    except (AssertionError, AttributeError, KeyError, ValueError, yaml.YAMLError):
        return None
    cfg.TOKENIZER.MODEL = ""  # a path of the machine that it was trained on
    return cfg


def _check(cfg: CfgNode) -> None:
    """Refuse what predicts otherwise."""
    name = cfg.MODEL.META_ARCHITECTURE
    kind = META_ARCH_REGISTRY.get(name) if name in META_ARCH_REGISTRY else None
    if not (isinstance(kind, type) and issubclass(kind, YOLOR)):
        raise ValueError(f"MODEL.META_ARCHITECTURE is {name}; it must be YOLOR")
    if cfg.INPUT.DATASET_MAPPER_NAME != "multitask":
        raise ValueError("INPUT.DATASET_MAPPER_NAME must be multitask: others resize otherwise")
