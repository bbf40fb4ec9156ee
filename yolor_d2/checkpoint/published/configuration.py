"""Our configuration of a published network."""

from collections.abc import Mapping

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import Tensor

from ...model_zoo import get_config
from .network import PublishedNetwork

# Weights whose first axis is the number of classes, by configuration node.
PREDICTORS = {
    "DETECTION_HEAD": "detection_head.class_predictors.p3.weight",
    "SEM_SEG_HEAD": "semantic_head.predictor.weight",
}


def configuration_of(network: PublishedNetwork, state: Mapping[str, Tensor]) -> CfgNode:
    """The configuration of a published network with these weights, for any number of classes."""
    cfg = get_config(network.config)
    for node, predictor in PREDICTORS.items():
        if predictor in state:
            cfg.MODEL[node].NUM_CLASSES = len(state[predictor])
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
            raise ValueError(f"this is not {name}: {key} is {shapes}")
