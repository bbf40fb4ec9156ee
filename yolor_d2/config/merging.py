"""Merging values into a configuration, where integers can be given for floats."""

import re
from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode

INTEGER = re.compile(r"[+-]?\d+")


def merge_overrides(cfg: CfgNode, overrides: Sequence[Any]) -> None:
    """Merge KEY, VALUE, ... into a configuration.

    Raises:
        ValueError: a key is unknown, or a value has the wrong type.
    """
    words = list(overrides)
    for place in range(1, len(words), 2):
        if INTEGER.fullmatch(str(words[place])) and isinstance(_read(cfg, words[place - 1]), float):
            words[place] = float(words[place])
    try:
        cfg.merge_from_list(words)
    except (AssertionError, KeyError) as error:  # raised by yacs
        raise ValueError(f"configuration: {error.args[0]}") from None


def integers_to_floats(content: CfgNode, defaults: CfgNode) -> None:
    """Replace the integers in a file's content whose defaults are floats."""
    for name, value in content.items():
        default = defaults.get(name)
        if isinstance(value, CfgNode) and isinstance(default, CfgNode):
            integers_to_floats(value, default)
        elif type(value) is int and isinstance(default, float):
            content[name] = float(value)


def _read(cfg: CfgNode, key: str) -> Any:
    """The value of a key; None if there is no such key."""
    node: Any = cfg
    for name in key.split("."):
        node = node.get(name) if isinstance(node, CfgNode) else None
    return node
