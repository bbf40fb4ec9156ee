"""Limits of CONTRIBUTING.md that no tool checks."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("yolor_d2", "benchmarks", "tests", "datasets")
FILES = [*ROOT.glob("*.py"), *(file for name in FOLDERS for file in (ROOT / name).rglob("*.py"))]
LIBRARY = ("yolor_d2", "benchmarks")


def test_files_have_at_most_400_lines() -> None:
    """350 lines is where to ask whether a name is missing. A file is not split to stay below."""
    lengths = {str(f.relative_to(ROOT)): len(f.read_text().splitlines()) for f in FILES}
    assert len(lengths) > 50
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def test_functions_have_at_most_60_lines() -> None:
    nodes = [(file, node) for file in FILES for node in ast.walk(ast.parse(file.read_text()))]
    functions = [(f, n) for f, n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert len(functions) > 300
    lengths = {f"{f.name}:{n.name}": n.end_lineno - n.lineno + 1 for f, n in functions}
    assert {name: length for name, length in lengths.items() if length > 60} == {}


def test_constructors_have_at_most_12_arguments() -> None:
    """Only `__init__` counts: a dataclass of options has a field for each option."""
    classes = [
        (file, node)
        for name in LIBRARY
        for file in (ROOT / name).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ClassDef)
    ]
    counts = {
        f"{file.name}:{node.name}": number_of_arguments(item)
        for file, node in classes
        for item in node.body
        if isinstance(item, ast.FunctionDef) and item.name == "__init__"
    }
    assert len(counts) > 50
    long = {name: count for name, count in counts.items() if count > 12}
    assert long == {}


def number_of_arguments(method: ast.FunctionDef) -> int:
    """Number of arguments besides self."""
    args = method.args
    return len([*args.posonlyargs, *args.args, *args.kwonlyargs]) - 1
