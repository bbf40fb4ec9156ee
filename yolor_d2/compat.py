"""The differences between detectron2 0.6 and its main branch, in one place."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

# Configuration keys that only the main branch has, with their defaults.
MAIN_KEYS: dict[str, Any] = {
    "DATALOADER.REPEAT_SQRT": True,
    "FLOAT32_PRECISION": "",
    "MODEL.ROI_BOX_HEAD.FED_LOSS_FREQ_WEIGHT_POWER": 0.5,
    "MODEL.ROI_BOX_HEAD.FED_LOSS_NUM_CLASSES": 50,
    "MODEL.ROI_BOX_HEAD.USE_FED_LOSS": False,
    "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE": False,
    "SOLVER.BASE_LR_END": 0.0,
    "SOLVER.NUM_DECAYS": 3,
    "SOLVER.RESCALE_INTERVAL": False,
}


def dataset_root() -> Path:
    """The folder of data sets: DETECTRON2_DATASETS, else ./datasets. 0.6 does not expand `~`."""
    return Path(os.environ.get("DETECTRON2_DATASETS", "datasets")).expanduser()


def remove_main_keys(cfg: CfgNode, known: CfgNode | None = None) -> list[str]:
    """Remove the keys of the main branch that have their defaults.

    Args:
        cfg: is modified.
        known: its keys stay; None: none.

    Returns:
        The remaining keys that `known` lacks, with their values: "FLOAT32_PRECISION highest".
    """
    unknown = []
    for node, name, key in list(_entries(cfg, known or CfgNode())):
        if key in MAIN_KEYS and node[name] == MAIN_KEYS[key]:
            del node[name]
        else:
            unknown.append(f"{key} {node[name]}")
    return unknown


def _entries(cfg: CfgNode, known: CfgNode, prefix: str = "") -> Iterator[tuple[CfgNode, str, str]]:
    """Node, name and full key of each entry that `known` lacks."""
    for name, value in cfg.items():
        if isinstance(value, CfgNode) and isinstance(known.get(name, CfgNode()), CfgNode):
            yield from _entries(value, known.get(name, CfgNode()), f"{prefix}{name}.")
        elif name not in known:
            yield cfg, name, prefix + name
