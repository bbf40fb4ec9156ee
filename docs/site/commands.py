"""Usage and options of all programs, from their parsers."""

import argparse
import html
import importlib
import re
import textwrap
from collections.abc import Iterator

import yolor_d2_cli
from yolor_d2.engine.launch.arguments import argument_parser

OTHER_TOOLS = (
    "convert_weights",
    "release_weights",
    "draw_predictions",
    "visualize_data",
    "visualize_results",
    "slurm_train",
)
WIDTH = 88


def reference() -> str:
    """The Markdown of docs/reference/commands.md below its introduction."""
    return "\n".join(line for name, parser in parsers() for line in describe(name, parser))


def parsers() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """All programs, as they are typed, and their parsers."""
    for name, module in yolor_d2_cli.MODULES.items():
        tool = importlib.import_module(f"yolor_d2.tools.{module}")
        if hasattr(tool, "make_parser"):
            yield f"yolor-d2 {name}", tool.make_parser()
    yield "python train_net.py", argument_parser()
    for module in OTHER_TOOLS:
        tool = importlib.import_module(f"yolor_d2.tools.{module}")
        yield f"python -m yolor_d2.tools.{module}", tool.make_parser()


def describe(name: str, parser: argparse.ArgumentParser) -> list[str]:
    parser.prog = name
    parser.formatter_class = NarrowFormatter
    text = list(paragraphs(parser.description or ""))
    if not any(paragraph.startswith("```") for paragraph in text):
        usage = parser.format_usage().removeprefix("usage: ").replace("\n       ", "\n")
        text.append(f"```text\n{usage}```\n")
    lines = ["", f"## {name}", "", *text, *TABLE]
    lines += [row(action) for action in parser._actions if action.dest != "help"]
    return lines


def paragraphs(description: str) -> Iterator[str]:
    """The text of a program's help: its example as code, the pages that it names as links."""
    for text in description.strip().split("\n\n"):
        if text.strip().startswith(("python ", "yolor-d2 ")):
            yield f"```text\n{textwrap.dedent(text)}\n```\n"
        else:
            yield re.sub(r"docs/([\w/]+\.md)", r"[docs/\1](../\1)", text) + "\n"


TABLE = ("| argument | meaning |", "|---|---|")


class NarrowFormatter(argparse.RawDescriptionHelpFormatter):
    """Lines do not depend on the terminal."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=WIDTH)


def row(action: argparse.Action) -> str:
    if action.option_strings:
        value = action.metavar or ("" if action.nargs == 0 else action.dest.upper())
        if action.choices:
            value = "{" + ",".join(map(str, action.choices)) + "}"
        name = f"{', '.join(action.option_strings)} {value}".strip()
    else:
        name = str(action.metavar or action.dest)
    help_text = (action.help or "").replace("%%", "%")
    needed = " (required)" if action.required and action.option_strings else ""
    return f"| <code>{escape(name)}</code> | {escape(help_text)}{needed} |"


def escape(text: str) -> str:
    return html.escape(" ".join(text.split()), quote=False).replace("|", "&#124;")
