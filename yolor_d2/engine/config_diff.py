"""What differs between the configuration of a saved run and that of today."""

from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode

# May change between two parts of a run: none of them moves what is learnt.
FREE = (
    "OUTPUT_DIR",
    "VERSION",
    "VIS_PERIOD",
    "DATALOADER.NUM_WORKERS",
    "DATALOADER.IMAGE_CACHE_MB",
    "DATALOADER.MAX_BAD_FILES",
    "DATASETS.TEST",
    "LOG.",
    "MODEL.DEVICE",
    "MODEL.WEIGHTS",
    "MODEL.YOLOR.COMPILE",
    "SOLVER.CHECKPOINT_",
    "SOLVER.NONFINITE",
    "SOLVER.MAX_SKIPPED",
    "TEST.",
    "TOKENIZER.MODEL",  # the checkpoint has the tokenizer itself
)


def config_changes(before: str, now: str) -> list[str]:
    """One line for each key that matters and differs, of two configurations as YAML."""
    return differences(_flat(CfgNode.load_cfg(before)), _flat(CfgNode.load_cfg(now)), free=FREE)


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], *, free: tuple[str, ...]
) -> list[str]:
    """One line for each name whose value differs, but for names with one of these beginnings."""
    return [
        f"{name} {old.get(name, 'absent')} -> {new.get(name, 'absent')}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name) and not name.startswith(free)
    ]


def _flat(node: CfgNode, prefix: str = "") -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, CfgNode):
            values |= _flat(value, f"{prefix}{key}.")
        else:
            values[prefix + key] = list(value) if isinstance(value, tuple) else value
    return values
