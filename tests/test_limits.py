"""The limits of CONTRIBUTING.md that no tool checks."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("yolor_d2", "benchmarks", "tests", "datasets")
FILES = [*ROOT.glob("*.py"), *(file for name in FOLDERS for file in (ROOT / name).rglob("*.py"))]


def test_files_have_at_most_350_lines() -> None:
    lengths = {str(f.relative_to(ROOT)): len(f.read_text().splitlines()) for f in FILES}
    assert len(lengths) > 50
    assert {name: length for name, length in lengths.items() if length > 350} == {}


def test_functions_have_at_most_60_lines() -> None:
    nodes = [(file, node) for file in FILES for node in ast.walk(ast.parse(file.read_text()))]
    functions = [(f, n) for f, n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert len(functions) > 300
    lengths = {f"{f.name}:{n.name}": n.end_lineno - n.lineno + 1 for f, n in functions}
    assert {name: length for name, length in lengths.items() if length > 60} == {}
