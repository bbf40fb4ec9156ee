"""The results of a GPU as one Markdown table."""

from collections.abc import Iterator, Mapping
from typing import Any

from tabulate import tabulate

from ..printing import cell

HEADERS = ("part", "what", "result")


def markdown(results: Mapping[str, Any]) -> str:
    """A line on the machine, and a table of all tables, checks and errors."""
    machine, settings = results["machine"], results["settings"]
    versions = {"PyTorch": machine["torch"], "CUDA": results["gpu"].get("cuda")}
    facts = [
        settings["device"],
        *(f"{name} {version}" for name, version in versions.items() if version),
        f"size {settings['size']}",
        machine["date"],
    ]
    rows = [
        [part, what, text]
        for part, found in results["parts"].items()
        for what, text in _lines(found)
    ]
    table = tabulate(rows, headers=HEADERS, tablefmt="pipe", disable_numparse=True)
    return f"{', '.join(facts)}\n\n{table}\n"


def _lines(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for table in found.get("tables", []):
        for name, row in table["rows"].items():
            values = [f"{cell(column, value)} {column}" for column, value in row.items()]
            yield f"{table['title']}: {name}", ", ".join(values)
    for aim in found.get("aims", []):
        outcome = "reached" if aim["reached"] else "**missed**"
        yield aim["text"], f"{outcome} ({aim['value']:.3g})"
    for kind in ("skipped", "error"):
        if kind in found:
            yield kind, found[kind].replace("|", "/")
