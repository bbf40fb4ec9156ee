"""The promises of SECURITY.md name tests that exist."""

import ast
import re
from functools import cache

from .documents import ROOT

NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
ROW = re.compile(r"^\|(?! promise|---)(.*)\|$", re.MULTILINE)


@cache
def functions_of(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_promise_has_tests_that_exist() -> None:
    text = (ROOT / "SECURITY.md").read_text()
    tables = [part for part in text.split("\n\n") if part.startswith("| promise")]
    assert len(tables) == 6
    for promise in (row for table in tables for row in ROW.findall(table)):
        named = NAMED.findall(promise)
        assert named, promise
        for file, test in named:
            assert test in functions_of(file), f"{file}::{test}"


def test_code_is_called_code() -> None:
    """The page says plainly that LazyConfig files run code."""
    assert "**LazyConfig files are code**" in (ROOT / "SECURITY.md").read_text()
