"""Hooks of MkDocs: generated references, and pages from files outside of docs/."""

import importlib
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
GENERATED = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")
# Files of the repository that are pages of the site, and their paths in it.
OUTSIDE = {
    "CHANGELOG.md": "docs/changelog.md",
    "CONTRIBUTING.md": "docs/internals/contributing.md",
    "SECURITY.md": "docs/internals/security.md",
    "datasets/README.md": "docs/guides/datasets.md",
}


def on_files(files: Any, config: Any) -> Any:
    from mkdocs.structure.files import File  # tests read the rest without MkDocs

    for source, page in OUTSIDE.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        content = relink(text, source=source, page=page)
        files.append(File.generated(config, page.removeprefix("docs/"), content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    path = f"docs/{page.file.src_uri}"
    if path not in OUTSIDE.values():
        markdown = relink(markdown, source=path, page=path)
    return GENERATED.sub(lambda found: generate(found[1]), markdown)


def generate(name: str) -> str:
    """The text of docs/site/<name>.py."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    return str(importlib.import_module(f"docs.site.{name}").reference())


def relink(text: str, *, source: str, page: str) -> str:
    """Let links of a file lead to pages of the site; those to other files become their text.

    Args:
        text: Markdown.
        source: path of the file in the repository, which its links are relative to.
        page: path of the page, from which they have to lead.
    """

    def replace(link: re.Match[str]) -> str:
        label, target = link.groups()
        path, hash_sign, anchor = target.partition("#")
        if not path or "://" in target or target.startswith("mailto:"):
            return link[0]
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        file = OUTSIDE.get(file, file)
        if not file.startswith("docs/"):
            return f"`{label}`" if re.fullmatch(r"[\w./-]+", label) else label
        relative = posixpath.relpath(file, posixpath.dirname(page))
        return f"[{label}]({relative}{hash_sign}{anchor})"

    return LINK.sub(replace, text)
