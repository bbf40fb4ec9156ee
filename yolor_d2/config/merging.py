"""Merging values into a configuration, where integers can be given for floats."""

import difflib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import yaml
from detectron2.config import CfgNode

from ..errors import ConfigError

COMMAND_LINE = "on the command line"
INTEGER = re.compile(r"[+-]?\d+")
# Messages of yacs.
UNKNOWN_KEY = re.compile(r"Non-existent (?:config )?key: (\S+)")
MISMATCH = re.compile(
    r"Type mismatch \(<class '(?:.*\.)?(\w+)'> vs. .+ vs\. (.+)\) for config key: (\S+)"
)
KINDS = {
    "CfgNode": "a group of keys",
    "bool": "True or False",
    "int": "an integer",
    "float": "a number",
    "str": "a text",
}
# What yacs raises; the last two for values with thousands of brackets.
MERGE_ERRORS = (
    *(AssertionError, AttributeError, KeyError, TypeError, ValueError),
    *(RecursionError, MemoryError),
)
MAX_VALUES = 100_000  # of a configuration; ours have about a thousand


def parse_config(text: str) -> CfgNode:
    """Return the content of a *.yaml.

    Raises:
        YAMLError: it is not YAML.
        ConfigError: its aliases expand to too many values.
    """
    if "*" in text:  # of an alias
        root = yaml.compose(text, yaml.SafeLoader)
        if root is not None and _expanded(root, {}) > MAX_VALUES:
            raise ConfigError(f"its aliases expand to more than {MAX_VALUES:,} values")
    return CfgNode.load_cfg(text)


def _expanded(node: yaml.Node, known: dict[int, float]) -> float:
    """The number of values below a node, whose aliases count each time; infinite in a cycle."""
    if id(node) not in known:
        known[id(node)] = float("inf")
        values = node.value if isinstance(node, yaml.CollectionNode) else []
        below = [part for each in values for part in (each if isinstance(each, tuple) else (each,))]
        known[id(node)] = 1 + sum(_expanded(each, known) for each in below)
    return known[id(node)]


def merge_overrides(cfg: CfgNode, overrides: Sequence[Any]) -> None:
    """Merge KEY, VALUE, ... into a configuration.

    Raises:
        ConfigError: a key is unknown, or a value has the wrong type.
    """
    words = list(overrides)
    for place in range(1, len(words), 2):
        if INTEGER.fullmatch(str(words[place])) and isinstance(
            read_key(cfg, words[place - 1]), float
        ):
            words[place] = float(words[place])
    with errors_from(COMMAND_LINE, cfg):
        cfg.merge_from_list(words)


@contextmanager
def errors_from(source: str, cfg: CfgNode) -> Iterator[None]:
    """Turn errors of yacs into a ConfigError.

    Args:
        source: of the keys and values, for the message.
        cfg: configuration that they are merged into.
    """
    try:
        yield
    except MERGE_ERRORS as error:
        problem = " ".join(str((error.args or [type(error).__name__])[0]).split())
        if unknown := UNKNOWN_KEY.match(problem):
            problem += _similar_key(cfg, unknown[1].split("."))
        elif mismatch := MISMATCH.match(problem):
            kind, value, key = mismatch.groups()
            problem = f"{key} is {value}; it must be {KINDS.get(kind, kind)}"
        raise ConfigError(f"{source}: {problem}") from None


def _similar_key(cfg: CfgNode, names: Sequence[str]) -> str:
    """The end of a message about an unknown key."""
    node: Any = cfg
    for place, name in enumerate(names):
        known = node if isinstance(node, CfgNode) else ()
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            similar = ".".join([*names[:place], *near, *names[place + 1 :]])
            return f"; did you mean {similar}?" if near else ""
        node = node[name]
    return ""


def integers_to_floats(content: CfgNode, defaults: CfgNode) -> None:
    """Replace the integers in a file's content whose defaults are floats."""
    for name, value in content.items():
        default = defaults.get(name)
        if isinstance(value, CfgNode) and isinstance(default, CfgNode):
            integers_to_floats(value, default)
        elif type(value) is int and isinstance(default, float):
            content[name] = float(value)


def read_key(cfg: CfgNode, key: str) -> Any:
    """The value of a key; None if there is no such key."""
    node: Any = cfg
    for name in key.split("."):
        node = node.get(name) if isinstance(node, CfgNode) else None
    return node
