"""Links and file names in documents are valid."""

import re

import pytest

from .documents import DOCUMENTS, FENCED, ROOT

FOLDERS = ("yolor_d2", "configs", "datasets", "docs", "tests")
ENDINGS = ("py", "yaml", "md", "jpg")


def prose(document: str) -> str:
    """Text of a document without fenced blocks."""
    return FENCED.sub("", (ROOT / document).read_text())


def anchors(document: str) -> set[str]:
    """Anchors of a document's headings on GitHub."""
    headings = re.findall(r"^#+ (.+)$", prose(document), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


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


def test_readme_links_every_page() -> None:
    linked = set(re.findall(r"\]\((docs/[\w/]+\.md)", prose("README.md")))
    assert linked == {document for document in DOCUMENTS if document.startswith("docs/")}


def test_map_of_the_code_is_complete() -> None:
    text = (ROOT / "README.md").read_text()
    block = re.search(r"^## Map of the code\n+```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert block is not None
    named = re.findall(r"^(?:yolor_d2/)(\S+)", block[1], re.MULTILINE)
    package = ROOT / "yolor_d2"
    there = {f"{p.parent.name}/" for p in package.glob("*/__init__.py")}
    there |= {p.name for p in package.glob("*.py")} - {"__init__.py"}
    assert sorted(named) == sorted(there)
    for file in re.findall(r"\b([\w/]+\.py)\b", block[1]):
        assert list(ROOT.glob(file)) or list(package.rglob(file)), file
