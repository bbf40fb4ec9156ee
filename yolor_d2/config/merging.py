"""Merging values into a configuration, where integers can be given for floats."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from detectron2.config import CfgNode

from ..errors import ConfigError

INTEGER = re.compile(r"[+-]?\d+")


def merge_overrides(cfg: CfgNode, overrides: Sequence[Any]) -> None:
    """Merge KEY, VALUE, ... into a configuration.

    Raises:
        ConfigError: a key is unknown, or a value has the wrong type.
    """
    words = list(overrides)
    for place in range(1, len(words), 2):
        if INTEGER.fullmatch(str(words[place])) and isinstance(_read(cfg, words[place - 1]), float):
            words[place] = float(words[place])
    with errors_from("on the command line"):
        cfg.merge_from_list(words)


@contextmanager
def errors_from(source: str) -> Iterator[None]:
    """Turn the errors of yacs into a ConfigError that names where the keys and values are from."""
    try:
        yield
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{source}: {' '.join(str(error.args[0]).split())}") from None


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
