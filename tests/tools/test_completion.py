"""Scripts for the completion of the shell."""

import shutil
import subprocess
from pathlib import Path

import pytest

import yolor_d2_cli
from yolor_d2.tools import completion

COMPLETE = """
source {script}
COMP_WORDS=({words}) COMP_CWORD={position}
{function}
echo "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def bash_script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("shtab")
    path = tmp_path_factory.mktemp("shell") / "yolor-d2"
    path.write_text(completion.script("bash", yolor_d2_cli.MODULES, yolor_d2_cli.SUMMARIES))
    return path


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("yolor-d2 pre", "predict"),
        ("yolor-d2 doc", "doctor"),
        ("yolor-d2 rep", "report"),
        ("yolor-d2 train --ep", "--epochs"),
        ("yolor-d2 export --format torchs", "torchscript"),
    ],
)
def test_bash(bash_script: Path, words: str, expected: str) -> None:
    (function,) = [
        line.split()[-2] for line in bash_script.read_text().splitlines() if " -F " in line
    ]
    code = COMPLETE.format(
        script=bash_script, words=words, position=len(words.split()) - 1, function=function
    )
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [expected]


def test_shtab_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(completion, "find_spec", lambda name: None)
    assert completion.main(["zsh"]) == 2
    assert "pip install 'yolor_d2[completion]'" in capsys.readouterr().err
