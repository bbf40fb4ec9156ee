"""Command lines of documents are accepted by the programs' parsers and by the configuration.

Commands are not run. A wrong flag, key, value, file or target fails.
"""

import argparse
import importlib.util
import inspect
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import NoReturn

import pytest
from detectron2.config import LazyConfig
from torch.distributed.run import get_args_parser

import yolor_d2_cli
from yolor_d2.engine.launch.arguments import argument_parser
from yolor_d2.model_zoo import load_config

from .documents import DOCUMENTS, FENCED, ROOT, SHELL, read_blocks

PROGRAMS = ("python", "python3", "yolor-d2", "make", "torchrun", "srun", "pip", "pytest")
# First words of lines that are not checked.
FOREIGN = (
    *("cd", "cp", "curl", "export", "for", "done", "mkdir", "npm", "tar", "tensorboard"),
    ".venv/bin/pre-commit",
)
CHECKOUT = "/path/to/yolor_d2/"  # the repository in documents
ELSEWHERE = {  # files that documents or commands create, and similar files of the repository
    "exported/runner.py": "yolor_d2/export/runner/runner.py",
    "my_config.yaml": "configs/Base-YOLOR.yaml",
    "output/shapes/training.yaml": "configs/Base-YOLOR.yaml",
    "output/mine/training.yaml": "configs/Base-YOLOR.yaml",
}


class Parsed(Exception):
    """A parser has accepted a command line."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments


def commands(document: str) -> Iterator[str]:
    """Command lines in shell blocks, in blocks without a language, and in code in the text.

    A program's name alone, in the text, becomes its --help.
    """
    values: dict[str, str] = {}
    for block in read_blocks(document):
        if block.language in ("", *SHELL):
            yield from shell_lines(block.code, values, everything=block.language in SHELL)
    prose = FENCED.sub("", (ROOT / document).read_text())
    indented = "\n".join(re.findall(r"^ {4,}(\S.*)$", prose, re.MULTILINE))
    yield from shell_lines(indented, values, everything=False)
    for line in re.findall(r"`([^`\n]+)`", prose):
        if line.split()[0] in PROGRAMS:
            is_name = re.fullmatch(r"yolor-d2|python (-m )?\S+", line)
            yield f"{line} --help" if is_name else line


def shell_lines(code: str, values: dict[str, str], *, everything: bool) -> Iterator[str]:
    """Command lines with their shell variables replaced.

    Args:
        code: lines of a block.
        values: values of variables by name; assignments in the code are added.
        everything: include lines whose first word is not in PROGRAMS.
    """
    for line in code.replace("\\\n", " ").splitlines():
        if set_here := re.match(r"(?:for )?(\w+)(?:=| in )\"?([^\"#;]*)", line):
            name, value = set_here.groups()
            values[name] = value.split()[0] if line.startswith("for ") else value.strip()
            continue
        for name, value in values.items():
            line = line.replace(f"${name}", value)
        program = line.partition(" ")[0]
        if program in PROGRAMS or (everything and program and not line.startswith("#")):
            yield line


def check(line: str) -> None:
    """Check one command line."""
    program, *arguments = shlex.split(line, comments=True)
    if program == "srun":
        program, *arguments = arguments
    if program not in FOREIGN:
        assert program in PROGRAMS, f"unknown program: {line}"
        CHECKS[program](arguments)


def check_python(arguments: Sequence[str]) -> None:
    match arguments:
        case ["-m", "venv", *_] | ["-c", *_]:
            pass
        case ["-m", module, *rest]:
            folder = module.replace(".", "/")
            name = f"{module}.__main__" if (ROOT / folder / "__main__.py").is_file() else module
            check_configuration(parsed(import_module(name).main, rest))
        case [script, *rest]:
            check_script(script, rest)


def check_script(script: str, arguments: Sequence[str]) -> None:
    """Check the arguments of `python FILE ...`."""
    path = ROOT / ELSEWHERE.get(script, script.removeprefix(CHECKOUT))
    assert path.is_file(), script
    if path.name == "train_net.py":
        check_configuration(argument_parser().parse_args(arguments))
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", [script, *arguments])
        patch.syspath_prepend(path.parent)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        if path.parent.name == "examples":  # without flags
            inspect.signature(module.main).bind(*arguments)
            return
        check_configuration(parsed(lambda _: module.main(), arguments))


def parsed(run: Callable[[list[str]], object], arguments: Sequence[str]) -> argparse.Namespace:
    """Run a program until its arguments are parsed, and return them."""
    original = argparse.ArgumentParser.parse_args

    def parse(parser: argparse.ArgumentParser, *args: object, **kwargs: object) -> NoReturn:
        raise Parsed(original(parser, *args, **kwargs))  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse)
        with pytest.raises(Parsed) as stop:
            run(list(arguments))
    return stop.value.arguments


def check_configuration(found: argparse.Namespace) -> None:
    """Check that the configuration exists and accepts the overrides.

    Programs that start a script pass these arguments to it. Without a configuration file, overrides
    are for the configuration in a checkpoint.
    """
    if hasattr(found, "script"):
        check_script(str(found.script), found.arguments)
    file = getattr(found, "config_file", None) or "configs/Base-YOLOR.yaml"
    path = ROOT / ELSEWHERE.get(file, file)
    assert path.is_file(), file
    overrides = list(getattr(found, "opts", getattr(found, "overrides", None)) or [])
    if path.suffix == ".py":
        lazy = LazyConfig.load(str(path))
        assert all(word.partition("=")[0].split(".")[0] in lazy for word in overrides)
        LazyConfig.apply_overrides(lazy, overrides)
    else:
        load_config(str(path), overrides)


def check_console(arguments: Sequence[str]) -> None:
    """Check the arguments of `yolor-d2 COMMAND ...`."""
    command, *rest = arguments
    if command in ("--help", "--version"):
        return
    assert command in yolor_d2_cli.SUMMARIES
    if yolor_d2_cli.has_configuration(command, rest):
        check_configuration(argument_parser().parse_args(rest))
    else:
        check_configuration(parsed(yolor_d2_cli.main, arguments if rest else [command, "--help"]))


def check_torchrun(arguments: Sequence[str]) -> None:
    found = get_args_parser().parse_args(arguments)
    check_python([found.training_script, *found.training_script_args])


def check_make(words: Sequence[str]) -> None:
    """Check targets, and the names in NAME=VALUE."""
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^([\w-]+):", makefile, re.MULTILINE)
    variables = re.findall(r"\$\((\w+)\)", makefile)
    for word in words:
        name, is_variable, _ = word.partition("=")
        assert name in (variables if is_variable else targets)


def check_pip(arguments: Sequence[str]) -> None:
    """Check that extras of yolor_d2 exist."""
    setup = (ROOT / "setup.py").read_text()
    for group in re.findall(r"\[([\w,]+)\]", " ".join(arguments)):
        assert all(f'"{extra}": ' in setup for extra in group.split(","))


def check_pytest(arguments: Sequence[str]) -> None:
    assert all((ROOT / word).exists() for word in arguments if word.startswith("tests/"))


CHECKS = {
    "python": check_python,
    "python3": check_python,
    "yolor-d2": check_console,
    "torchrun": check_torchrun,
    "make": check_make,
    "pip": check_pip,
    "pytest": check_pytest,
}


@pytest.fixture(autouse=True)
def current_folder_is_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["yolor-d2"])  # changed by the console script
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands(document: str) -> None:
    for line in commands(document):
        try:
            check(line)
        except SystemExit as stop:
            if stop.code:
                pytest.fail(f"{document}: {line}: exit code {stop.code}")
        except Exception as error:
            error.add_note(f"{document}: {line}")
            raise


def test_commands_are_found() -> None:
    found = {document: list(commands(document)) for document in DOCUMENTS}
    assert "make demo   # set up" in " ".join(found["README.md"])
    assert "torchrun --standalone" in " ".join(found["docs/guides/multi_gpu.md"])
    runner = "python exported/runner.py image.jpg --output result.json"
    assert runner in found["docs/guides/deploy.md"]
    assert "python -m yolor_d2.tools.predict --help" in found["docs/guides/predict.md"]
    assert sum(map(len, found.values())) > 60


@pytest.mark.parametrize(
    "line",
    [
        "make nothing",
        "make demo NOTHING=5",
        "pip install 'yolor_d2[nothing]'",
        "pytest tests/nothing.py",
        "python nothing.py",
        "python -m yolor_d2.tools.nothing",
        "python -m yolor_d2.tools.check_data --nothing",
        "python -m yolor_d2.tools.model_info --config-file configs/nothing.yaml",
        "python train_net.py --config-file configs/COCO/yolor_elan_mtl.yaml SOLVER.NOTHING 3",
        "srun python train_net.py --config-file configs/COCO/yolor_elan_mtl.yaml SOLVER.MAX_ITER x",
        "python train_net.py --config-file configs/lazy/yolor_elan_mtl.py nothing.max_iter=3",
        "torchrun --nothing train_net.py",
        "python -m yolor_d2.tools.slurm_train --nodes 2 train_net.py --nothing",
        "yolor-d2 nothing",
        "yolor-d2 predict --weights model.pth",
        "nothing",
    ],
)
def test_wrong_commands_fail(line: str) -> None:
    with pytest.raises((AssertionError, ImportError, SystemExit, ValueError)) as stop:
        check(line)
    assert not isinstance(stop.value, SystemExit) or stop.value.code == 2
