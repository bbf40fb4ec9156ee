"""Calls of methods whose overrides may have detectron2's signatures, without our own arguments."""

from collections.abc import Callable
from inspect import signature
from typing import Any


def accepts(method: Callable[..., Any], name: str) -> bool:
    """Whether a method can be called with an argument of this name."""
    parameters = signature(method).parameters.values()
    return any(each.name == name or each.kind is each.VAR_KEYWORD for each in parameters)


def call(method: Callable[..., Any], *arguments: Any, **own: Any) -> Any:
    """Call a method with detectron2's arguments and those of our own that it accepts."""
    accepted = {name: value for name, value in own.items() if accepts(method, name)}
    return method(*arguments, **accepted)
