"""Errors of users have a family: in the code, for errors of libraries, and across processes."""

import ast
import errno
import inspect
import os
import pickle
from pathlib import Path

import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.modeling import META_ARCH_REGISTRY
from torch.utils.data import DataLoader

from yolor_d2 import errors
from yolor_d2.errors import (
    FAMILIES,
    BadFileError,
    ConfigError,
    DamagedError,
    DataError,
    DiskError,
    FileError,
    LabelError,
    NonFiniteError,
    OutOfMemoryError,
    UserError,
    family_of,
    line_of,
    print_error,
)
from yolor_d2.tools.errors import one_line_errors

ROOT = Path(__file__).parents[1] / "yolor_d2"

# What is raised besides families, and why.
OTHERS = {
    "SystemExit": "the error is printed",
    "ArgumentTypeError": "argparse prints it with the usage",
}
# Files whose other exceptions only Python callers can cause, or that are handled inside.
CALLERS = {
    "__init__.py": "attributes of the package; detectron2 is missing, so nothing is registered",
    "data/catalog/datasets.py": "handled by its caller",
    "data/files/semantic_files.py": "an array of the wrong type",
    "engine/checkpointer.py": "a hook without a state_dict",
    "files.py": "content that is no JSON",
    "inference/media.py": "an array or object that is no image",
    "inference/prediction.py": "a method of a prediction",
    "modeling/heads/caption/grid_region_head.py": "a head that is called alone",
    "modeling/heads/detection/one_to_one.py": "a deployed network is trained",
    "modeling/layers/conv.py": "a norm that is unknown",
    "structures.py": "operations on predictions",
    "tools/doctor.py": "the answer of a check",
    "visualization/results.py": "an array that is no image",
    "web/handler.py": "handled by its caller",
}


def raised(file: Path) -> set[str]:
    """The exceptions, or functions that make them, that a file raises; not those raised again."""
    found = (node.exc for node in ast.walk(ast.parse(file.read_text())) if type(node) is ast.Raise)
    made = {ast.unparse(each.func) for each in found if isinstance(each, ast.Call)}
    return {name.rpartition(".")[2] for name in made} - OTHERS.keys()


def test_what_users_can_cause_has_a_family() -> None:
    """Errors that are no family of errors.py derive from one, or are made by a function."""
    families = {name for name, found in vars(errors).items() if inspect.isclass(found)}
    derived = {"JavaError", "BusyError", "BadUploadError", "RunnerError"}
    made = {"line_error", "unwritable", "kind", "type(error)"}
    files = {str(file.relative_to(ROOT)): file for file in ROOT.rglob("*.py")}
    others = {name: raised(file) - families - derived - made for name, file in files.items()}
    assert sum(len(raised(file) & families) for file in files.values()) > 80
    assert {name: found for name, found in others.items() if found and name not in CALLERS} == {}
    assert {name for name in CALLERS if not others[name]} == set()  # the list is short


def test_families() -> None:
    assert 12 <= len(FAMILIES) <= 15
    for code, family in FAMILIES.items():
        assert code.isupper()
        assert issubclass(family, UserError)
        assert family.hint
        assert not family.hint.endswith(".")
        assert family.__doc__


@pytest.mark.parametrize(
    ("error", "family"),
    [
        (OSError(errno.ENOSPC, "full", "a"), DiskError),
        (OSError(errno.EROFS, "read-only", "a"), DiskError),
        (PermissionError(errno.EACCES, "no", "a"), FileError),
        (FileNotFoundError(errno.ENOENT, "no", "a"), FileError),
        (MemoryError(), OutOfMemoryError),
        (torch.OutOfMemoryError("CUDA out of memory."), OutOfMemoryError),
        (DamagedError("a"), DamagedError),
        (ValueError("a"), None),
        (KeyError("a"), None),
        (OSError("a"), None),
        (SystemExit("CONFIG"), None),
        ("CONFIG", None),
    ],
)
def test_family_of(error: object, family: type[UserError] | None) -> None:
    assert family_of(error) is family


def test_unknown_names_of_detectron2() -> None:
    with pytest.raises(KeyError) as error:
        META_ARCH_REGISTRY.get("NoNetwork")
    assert family_of(error.value) is ConfigError
    assert line_of(error.value).startswith("No object named 'NoNetwork' found in 'META_ARCH' reg")
    with pytest.raises(KeyError) as error:
        DatasetCatalog.get("no_data")
    assert family_of(error.value) is DataError


@pytest.mark.parametrize(
    ("message", "has_hint"),
    [
        ("a.json: has no list of shapes", True),
        ("a is 1; it must be at least 2", False),
        ("a.csv: repair it, or raise DATALOADER.MAX_BAD_FILES", False),
        ("a.pt: is empty: copy or download it again", False),
        ("a.yaml has the key checkpoint", True),
    ],
)
def test_hints(message: str, *, has_hint: bool) -> None:
    assert line_of(LabelError(message)).startswith(f"{message}; correct" if has_hint else message)
    assert ("; correct the file [LABEL" in line_of(LabelError(message))) == has_hint


def test_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["yolor-d2 predict"])
    print_error(BadFileError("a.png", "is empty"), is_last=False)
    print_error("a text")
    print_error(ValueError("two\nlines"))
    assert capsys.readouterr().err.splitlines() == [
        "yolor-d2 predict: a.png: is empty [IMAGE]",
        "yolor-d2 predict: a text",
        "yolor-d2 predict: two lines",
    ]


@pytest.mark.parametrize(
    "error",
    [BadFileError("a.png", "is empty"), NonFiniteError("a"), LabelError("a.txt, line 1: b")],
)
def test_errors_pass_processes(error: UserError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy)) == (type(error), str(error))


class Broken(torch.utils.data.Dataset[int]):
    """A data set whose images cannot be read."""

    def __init__(self, error: UserError) -> None:
        self.error = error

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        raise self.error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            BadFileError("a.png", "is empty"),
            "a.png: is empty; check the path and the file [IMAGE: ",
        ),
        (LabelError("a.txt: is odd"), "a.txt: is odd; correct the file [LABEL: "),
    ],
)
def test_errors_of_workers(error: UserError, line: str) -> None:
    with pytest.raises(type(error)) as caught:
        list(DataLoader(Broken(error), num_workers=1))
    assert line_of(caught.value).startswith(line)


@one_line_errors
def program(error: BaseException) -> int:
    raise error


def test_errors_without_a_family() -> None:
    """Errors of values and of the system are a line as well; others are bugs."""
    assert program(torch.OutOfMemoryError("CUDA out of memory.")) == 2
    assert program(ValueError("a")) == 2
    assert program(OSError("a")) == 2
    with pytest.raises(KeyError):
        program(KeyError("a"))
    with pytest.raises(RuntimeError):
        program(RuntimeError("a"))


def test_exhausted_memory_of_a_gpu() -> None:
    """PyTorch's message goes on for some hundred words."""
    message = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79 GiB"
    line = "CUDA out of memory. Tried to allocate 2.00 GiB; use fewer or smaller images at a time"
    assert line_of(torch.OutOfMemoryError(message)).startswith(f"{line} [MEMORY: ")
    assert line_of(OutOfMemoryError("smaller; GPU 0 is full")).startswith(
        "smaller; GPU 0 is full [M"
    )


def test_file_of_a_failed_write(tmp_path: Path) -> None:
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "a"))
    line = f"{tmp_path}/a: No space left on device; free some space, or choose another folder"
    assert line_of(error) == f"{line} [DISK: docs/troubleshooting.md#disk]"
