"""Our configuration of a published network."""

from collections.abc import Mapping, Sequence

import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model
from torch import Tensor

from ...errors import CheckpointError
from ...model_zoo import get_config
from .network import PublishedNetwork

# Weights whose first axis is the number of classes, by configuration node.
PREDICTORS = {
    "DETECTION_HEAD": "detection_head.class_predictors.p3.weight",
    "SEM_SEG_HEAD": "semantic_head.predictor.weight",
}


COCO = "coco_2017_val"  # whose classes published networks have


def own_classes(state: Mapping[str, Tensor], names: Sequence[str]) -> list[str]:
    """The class names in a published file, if it has one for each class and they are not COCO's."""
    count = len(state[PREDICTORS["DETECTION_HEAD"]])
    is_coco = list(names) == MetadataCatalog.get(COCO).thing_classes
    return [] if is_coco or len(names) != count else list(names)


def configuration_of(
    network: PublishedNetwork, state: Mapping[str, Tensor], classes: Sequence[str] = ()
) -> CfgNode:
    """The configuration of a published network with these weights, for any number of classes.

    Its data sets are COCO's, which have the class names, unless it has other classes.

    Args:
        network: the network.
        state: its weights, under our names.
        classes: the result of `own_classes`.
    """
    cfg = get_config(network.config)
    for node, predictor in PREDICTORS.items():
        if predictor in state:
            cfg.MODEL[node].NUM_CLASSES = len(state[predictor])
    known = len(MetadataCatalog.get(COCO).thing_classes)
    if classes or known != cfg.MODEL.DETECTION_HEAD.NUM_CLASSES:
        cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ()
    return cfg


def check_shapes(cfg: CfgNode, state: Mapping[str, Tensor], *, name: str) -> None:
    """Raise a ValueError unless the weights of the published network `name` have its shapes."""
    meta = cfg.clone()
    meta.DATASETS.TRAIN = meta.DATASETS.TEST = ()
    meta.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        expected = build_model(meta).state_dict()
    for key, tensor in state.items():
        if tensor.shape != expected[key].shape:
            shapes = f"{tuple(tensor.shape)} instead of {tuple(expected[key].shape)}"
            raise CheckpointError(f"this is not {name}: {key} is {shapes}")
