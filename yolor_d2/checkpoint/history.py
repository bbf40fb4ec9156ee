"""What weights were trained with, and how well, as a page of text."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tabulate import tabulate

from .release import StoredWeights

# Columns of the learning curve; the last evaluation is listed with all its metrics.
MAIN_METRICS = ("AP", "mIoU", "PQ", "Bleu_4", "CIDEr")
MAX_ROWS = 12  # of the learning curve
DIGEST_LENGTH = 12
PUBLISHED = ("network", "repository", "license", "file", "sha256", "published_results")


def weights_page(stored: StoredWeights, path: Path) -> str:
    """A page of Markdown: origin, classes, data, learning curve and last metrics.

    Args:
        stored: content of the file.
        path: of the file.
    """
    kind = {"ema": "averaged weights (EMA)", "raw": "raw weights"}.get(stored.kind, "weights")
    steps = stored.provenance.get("steps")
    after = f" after {steps:,} steps" if steps else ""
    facts = [f"{name}: {value}" for name, value in _facts(stored.provenance) if value]
    lines = [f"{kind}{after}: {len(stored.tensors)} tensors", *(facts or ["of unknown origin"])]
    items = "\n".join(f"- {line}" for line in lines)
    return "\n\n".join([f"# {path.name}", items, *_tables(stored.provenance)])


def _facts(provenance: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and values; a value can be empty."""
    for key in PUBLISHED:
        yield key.replace("_", " "), _in_one_line(provenance.get(key, ""))
    yield "arguments", " ".join(provenance.get("argv") or [])
    yield "commit", provenance.get("commit") or ""
    yield "versions", _in_one_line(provenance.get("versions", {}))
    for key, names in (provenance.get("classes") or {}).items():
        yield f"{key.replace('_', ' ')} ({len(names)})", _shortened(names)
    for name, files in (provenance.get("data") or {}).items():
        yield f"data {name}", _digests(files)


def _tables(provenance: Mapping[str, Any]) -> Iterator[str]:
    history = provenance.get("history") or []
    if not history:
        return
    last = history[-1]
    main = [name for name in last if name.rpartition("/")[2] in MAIN_METRICS]
    stride = -(-len(history) // MAX_ROWS)
    shown = history[::-1][::stride][::-1]  # with the last one
    rows = [[each["steps"], *(_number(each.get(name)) for name in main)] for each in shown]
    yield _table(["steps", *main], rows)
    metrics = [[name, _number(value)] for name, value in last.items() if name != "steps"]
    yield _table([f"after {last['steps']} steps", ""], metrics)


def _table(headers: list[str], rows: list[list[Any]]) -> str:
    alignment = ["left"] + ["right"] * (len(headers) - 1)
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True, colalign=alignment)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _in_one_line(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {each}" for name, each in value.items() if each)
    return str(value)


def _digests(files: Mapping[str, Any]) -> str:
    parts = []
    for name, value in files.items():
        digest = value["sha256"] if isinstance(value, Mapping) else value
        count = f", {value['files']:,} files" if isinstance(value, Mapping) else ""
        parts.append(f"{name} {digest[:DIGEST_LENGTH]}{count}")
    return "; ".join(parts) or "no files found"


def _shortened(names: list[str], limit: int = 6) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
