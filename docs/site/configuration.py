"""Tables of all configuration keys: the comments of yolor_d2/config/, the defaults of the keys."""

import ast
import dataclasses
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

from detectron2.config import CfgNode, get_cfg

from yolor_d2.config import add_yolor_config
from yolor_d2.engine.options import KEYS, read_key
from yolor_d2.model_zoo import get_config

FOLDER = Path(__file__).parents[2] / "yolor_d2/config"
FILES = ("model.py", "training.py", "evaluation.py")
BASE = "Base-YOLOR.yaml"
LAZY = {key: f"run.{field}" for field, key in KEYS.items()}


@dataclasses.dataclass
class Group:
    """Keys with one comment."""

    comment: str
    keys: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Section:
    """The keys of one node, such as SOLVER, or of one part of MODEL."""

    name: str
    text: list[str] = dataclasses.field(default_factory=list)
    groups: list[Group] = dataclasses.field(default_factory=list)


def read_sections() -> list[Section]:
    """All keys of yolor_d2/config/, in the order of the files."""
    sections: dict[str, Section] = {}
    for file in FILES:
        for text, groups in read_functions((FOLDER / file).read_text(encoding="utf-8")):
            for group in groups:
                name = section_name(group.keys[0])
                section = sections.setdefault(name, Section(name))
                section.groups.append(group)
            if groups:
                sections[section_name(groups[0].keys[0])].text.append(text)
    return list(sections.values())


def section_name(key: str) -> str:
    parts = key.split(".")
    return ".".join(parts[: 2 if parts[0] == "MODEL" else 1])


def read_functions(code: str) -> Iterator[tuple[str, list[Group]]]:
    """The text and the groups of keys of each function of a file.

    The text is the docstring, and comments with an empty line below. The comment above a key, or
    above a node, is also that of the next keys without one.
    """
    comments = read_comments(code)
    for function in ast.parse(code).body:
        if isinstance(function, ast.FunctionDef):
            groups: list[Group] = []
            for statement in function.body:
                if isinstance(statement, ast.Assign):
                    add_statement(groups, statement, comments)
            first, last = function.lineno, function.end_lineno or 0
            text = [comments.pop(line) for line in range(first, last) if line in comments]
            yield f"{ast.get_docstring(function) or ''}\n\n{' '.join(text)}".strip(), groups


def read_comments(code: str) -> dict[int, str]:
    """The comments of a file by their lines."""
    return {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(code).readline)
        if token.type == tokenize.COMMENT
    }


def add_statement(groups: list[Group], statement: ast.Assign, comments: dict[int, str]) -> None:
    """Add `cfg.KEY = value` to the last group, or to a new one if it has a comment.

    Its comments are taken from `comments`.
    """
    above: list[str] = []
    while (line := statement.lineno - 1 - len(above)) in comments:
        above.insert(0, comments.pop(line))
    is_node = isinstance(statement.value, ast.Call)
    if groups and not groups[-1].keys:
        groups[-1].comment = " ".join([groups[-1].comment, *above]).strip()
    elif above or is_node or not groups:
        groups.append(Group(" ".join(above)))
    if not is_node:
        key = ast.unparse(statement.targets[0]).removeprefix("cfg.")
        groups[-1].keys.append(key)
        if beside := comments.pop(statement.lineno, ""):
            groups[-1].comment += f" `{key}`: {beside}."


def reference() -> str:
    """The Markdown of docs/reference/configuration.md below its introduction."""
    cfg = get_cfg()
    add_yolor_config(cfg)
    lines: list[str] = []
    for section in read_sections():
        lines += ["", f"## {section.name}", "", *section.text, "", *TABLE]
        lines += [row(group, cfg) for group in section.groups]
    return "\n".join([*lines, "", *detectron2_keys(cfg)])


TABLE = ("| key | default | meaning |", "|---|---|---|")


def row(group: Group, cfg: CfgNode) -> str:
    keys = "<br>".join(f"`{key}`{{ #{anchor(key)} }}" for key in group.keys)
    defaults = "<br>".join(f"`{read_key(cfg, key)!r}`" for key in group.keys)
    lazy = ", ".join(f"`{LAZY[key]}`" for key in group.keys if key in LAZY)
    meaning = group.comment + (f" LazyConfig: {lazy}." if lazy else "")
    return f"| {keys} | {defaults} | {escape(meaning)} |"


def anchor(key: str) -> str:
    """The anchor of a key in docs/reference/configuration.md: solver-ema-decay."""
    return key.lower().replace(".", "-")


def escape(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def detectron2_keys(cfg: CfgNode) -> list[str]:
    """The keys of detectron2 to which configs/Base-YOLOR.yaml gives other values."""
    ours = {key for section in read_sections() for group in section.groups for key in group.keys}
    base = get_config(BASE)
    rows = [
        f"| `{key}` | `{read_key(cfg, key)!r}` | `{read_key(base, key)!r}` |"
        for key in flat_keys(base)
        if key not in ours and read_key(cfg, key) != read_key(base, key)
    ]
    return ["## Keys of detectron2", "", TEXT, "", *HEADER, *rows, ""]


TEXT = (
    "All of [detectron2's keys](https://detectron2.readthedocs.io/en/latest/modules/config.html) "
    f"exist as well. `configs/{BASE}`, on which all configurations are based, changes these:"
)
HEADER = (f"| key | detectron2's default | `{BASE}` |", "|---|---|---|")


def flat_keys(node: CfgNode, prefix: str = "") -> Iterator[str]:
    for name, value in node.items():
        key = f"{prefix}{name}"
        if isinstance(value, CfgNode):
            yield from flat_keys(value, f"{key}.")
        else:
            yield key
