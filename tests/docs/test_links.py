"""Links and file names in documents are valid."""

import re
from functools import cache

import pytest

from docs.site import hooks

from .documents import DOCUMENTS, FENCED, ROOT

FOLDERS = ("yolor_d2", "configs", "datasets", "docs", "tests")
ENDINGS = ("py", "yaml", "md", "jpg")


def prose(document: str) -> str:
    """Text of a document without fenced blocks."""
    return FENCED.sub("", (ROOT / document).read_text())


@cache
def anchors(document: str) -> set[str]:
    """Anchors of a document's headings on GitHub, and of generated keys on the site."""
    text = hooks.GENERATED.sub(lambda found: hooks.generate(found[1]), prose(document))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain} | set(re.findall(r"{ #(\S+) }", text))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links(document: str) -> None:
    folder = (ROOT / document).parent
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (folder / path).resolve() if path else ROOT / document
        assert file.exists(), f"{document}: {target}"
        if anchor:
            assert anchor in anchors(str(file.relative_to(ROOT))), f"{document}: {target}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_named_files_exist(document: str) -> None:
    pattern = rf"`((?:{'|'.join(FOLDERS)})/[\w./-]+\.(?:{'|'.join(ENDINGS)}))`"
    missing = [name for name in re.findall(pattern, prose(document)) if not (ROOT / name).exists()]
    assert missing == []


def test_every_page_is_in_the_navigation() -> None:
    pages = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    there = {document for document in DOCUMENTS if document.startswith("docs/")}
    assert sorted(f"docs/{page}" for page in pages) == sorted(there | set(hooks.OUTSIDE.values()))


def test_links_of_the_site() -> None:
    """Files outside of docs/ are pages of the site, or no links."""
    text = "[a](../../datasets/README.md#b), [c.txt](../../c.txt), [d](../model_zoo.md), [e](#f)"
    moved = hooks.relink(text, source="docs/guides/x.md", page="docs/guides/x.md")
    assert moved == "[a](datasets.md#b), `c.txt`, [d](../model_zoo.md), [e](#f)"
    moved = hooks.relink("[x](docs/faq.md)", source="CHANGELOG.md", page="docs/changelog.md")
    assert moved == "[x](faq.md)"


def test_map_of_the_code_is_complete() -> None:
    text = (ROOT / "docs/internals/architecture.md").read_text()
    block = re.search(r"^## Map of the code\n+```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert block is not None
    named = re.findall(r"^(?:yolor_d2/)(\S+)", block[1], re.MULTILINE)
    package = ROOT / "yolor_d2"
    there = {f"{p.parent.name}/" for p in package.glob("*/__init__.py")}
    there |= {p.name for p in package.glob("*.py")} - {"__init__.py"}
    assert sorted(named) == sorted(there)
    for file in re.findall(r"\b([\w/]+\.py)\b", block[1]):
        assert list(ROOT.glob(file)) or list(package.rglob(file)), file
