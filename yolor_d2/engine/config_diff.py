"""Differences between the configuration of a saved run and the current one."""

from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode, get_cfg

from ..compat import remove_main_keys
from ..config import add_yolor_config
from .optim.schedule import COSINE
from .options import KEYS, MAY_CHANGE

# Prefixes of keys that can differ when a run is resumed: training is the same.
MAY_DIFFER = (
    *(KEYS[name] for name in MAY_CHANGE),
    "VERSION",
    "VIS_PERIOD",
    "DATALOADER.NUM_WORKERS",
    "DATALOADER.IMAGE_CACHE_MB",
    "DATALOADER.MAX_BAD_FILES",
    "DATASETS.TEST",
    "LOG.",
    "MODEL.DEVICE",
    "MODEL.WEIGHTS",
    "TEST.",
    "TOKENIZER.MODEL",  # the checkpoint has the tokenizer itself
)

# Values of keys that were added, in runs of earlier versions, where they are not the defaults.
EARLIER = {"SOLVER.CLIP_GRADIENTS.FULL_MODEL": True}


def yacs_changes(before: str, now: str) -> list[str]:
    """One line for each relevant key that differs between two configurations in YAML."""
    old, new, defaults = CfgNode.load_cfg(before), CfgNode.load_cfg(now), get_cfg()
    add_yolor_config(defaults)
    for cfg in (old, new):  # the other version of detectron2 may lack them
        remove_main_keys(cfg)
    values = flatten(new)
    # A run of an earlier version lacks keys; their defaults keep its behavior.
    earlier = {k: v for k, v in (flatten(defaults) | EARLIER).items() if k in values}
    return differences(_one_curve(earlier | flatten(old)), _one_curve(values), ignore=MAY_DIFFER)


def _one_curve(values: dict[str, Any]) -> dict[str, Any]:
    """Values with the curve as the name of the schedule, as in earlier versions."""
    curve = values.pop("SOLVER.LR_CURVE", "")
    if curve and values.get("SOLVER.LR_SCHEDULER_NAME") == COSINE:
        values["SOLVER.LR_SCHEDULER_NAME"] = curve
    return values


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], *, ignore: tuple[str, ...]
) -> list[str]:
    """One line for each name whose value differs, except names that start with one of `ignore`."""
    return [
        f"{name} {old.get(name, 'absent')} -> {new.get(name, 'absent')}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name) and not name.startswith(ignore)
    ]


def flatten(node: CfgNode, prefix: str = "") -> dict[str, Any]:
    """Values by complete key."""
    values: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, CfgNode):
            values |= flatten(value, f"{prefix}{key}.")
        else:
            values[prefix + key] = list(value) if isinstance(value, tuple) else value
    return values
