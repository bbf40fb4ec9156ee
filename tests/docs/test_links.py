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


def link_targets(document: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", prose(document))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links(document: str) -> None:
    folder = (ROOT / document).parent
    for target in link_targets(document):
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


def test_every_page_is_reached_from_the_readme() -> None:
    reached: set[str] = set()
    waiting = ["README.md"]
    while waiting:
        document = waiting.pop()
        if document in reached or document not in DOCUMENTS:
            continue
        reached.add(document)
        paths = [target.partition("#")[0] for target in link_targets(document)]
        files = [((ROOT / document).parent / path).resolve() for path in paths if "://" not in path]
        waiting += [str(file.relative_to(ROOT)) for file in files]
    assert reached == set(DOCUMENTS)


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
