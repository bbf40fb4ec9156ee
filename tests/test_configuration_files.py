"""Files that are no configuration are one line, in all commands."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import yolor_d2_cli
from yolor_d2.model_zoo import load_config


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"MODEL:\n  A: [1, 2\nB: {x\n",
            ", line 3, column 2: is not valid YAML: expected ',' or ']', but got ':'",
        ),
        (b"A: 1\n\tB: 2\n", ", line 2, column 1: is not valid YAML: "),
        (b"A: !!python/name:os.system\n", ", line 1, column 4: is not valid YAML: could not "),
        (b"A: \x01\n", ": is not valid YAML: "),
        (b"", ": has no configuration, which is lines of KEY: VALUE"),
        (b"- a\n- b\n", ": has no configuration"),
        (b"a word\n", ": has no configuration"),
        (b"\x80\xff", ": is not a text file"),
    ],
)
def test_message(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(str(path))) as error:
        load_config(str(path))
    assert str(error.value).startswith(f"{path}{message}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("base", ["evil.yaml", "[evil.yaml]"])
def test_configurations_are_not_run(tmp_path: Path, base: str) -> None:
    """Neither a file nor its bases; detectron2 runs Python tags of bases."""
    path, trace = tmp_path / "x.yaml", tmp_path / "trace"
    (tmp_path / "evil.yaml").write_text(f"A: !!python/object/apply:os.mkdir ['{trace}']\n")
    path.write_text(f"_BASE_: {base}\n")
    for name in (path, tmp_path / "evil.yaml"):
        with pytest.raises(ValueError, match=r"yaml.*: .*is not valid YAML: could not ") as error:
            load_config(str(name))
        assert "\n" not in str(error.value)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("train", []),
        ("eval", []),
        ("predict", ["--weights", "no.pth", "--input", "a.jpg", "--output", "out"]),
        ("info", []),
    ],
)
def test_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, flags: list[str]
) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("MODEL: {A: [1, 2\n")
    assert code_of(lambda: yolor_d2_cli.main([name, "--config-file", str(path), *flags])) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    (line,) = errors.splitlines()
    assert line.startswith(f"yolor-d2 {name}: {path}, line 2, column 1: is not valid YAML: ")


def code_of(command: Callable[[], int]) -> int | str | None:
    try:
        return command()
    except SystemExit as stop:
        return stop.code
