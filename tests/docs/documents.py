"""Code blocks of documents, and how to run them."""

import re
import runpy
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import yolor_d2_cli

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "datasets/README.md"),
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")),
]
SHELL = ("bash", "sh")
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

Names = dict[str, Any]


class Block(NamedTuple):
    """A fenced block of a document."""

    language: str
    code: str
    line: int  # number of the first line of code in the document, from 1

    @property
    def file(self) -> str:
        """Name of the file that the block shows, from its first line (`# my_data.py`), or ""."""
        first = re.match(r"# ([\w./]+\.(?:py|yaml))\n", self.code)
        return first[1] if first else ""


def read_blocks(document: str) -> list[Block]:
    text = (ROOT / document).read_text()
    found = list(FENCED.finditer(text))
    assert 2 * len(found) == len(re.findall(r"^ *```", text, re.MULTILINE)), document
    return [Block(b[1], b[2], text[: b.start(2)].count("\n") + 1) for b in found]


def run_blocks(document: str, names: Names, *, overrides: Sequence[str] = ()) -> None:
    """Run the blocks of a document in order, in the current folder, as a reader would.

    Args:
        document: path in the repository. Its Python is run and its files are written.
        names: global variables of Python blocks.
        overrides: KEY VALUE ... for training commands; empty: shell commands are not run.
    """
    for block in read_blocks(document):
        if block.file:
            Path(block.file).write_text(block.code)
        elif block.language == "python":
            code = (
                "\n" * (block.line - 1) + block.code
            )  # errors then have the document's line numbers
            exec(compile(code, document, "exec"), names)
        elif block.language in SHELL and overrides:
            for line in block.code.splitlines():
                run_command(line.split(), overrides)


def run_command(words: Sequence[str], overrides: Sequence[str]) -> None:
    """Run the command line of a Python program in this process."""
    match list(words):
        case ["python", "-m", module, *arguments]:
            assert not import_module(module).main(arguments)
        case ["yolor-d2", *arguments]:
            more = overrides if arguments[0] == "train" else []
            assert not yolor_d2_cli.main([*arguments, *more])
        case ["python", script, *arguments]:
            more = [] if "--eval-only" in arguments else overrides
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(sys, "argv", [script, *arguments, *more])
                runpy.run_path(script, run_name="__main__")
        case _:
            raise AssertionError(f"unsupported command: {' '.join(words)}")
