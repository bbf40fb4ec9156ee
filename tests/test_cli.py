"""The console script: fast help, flags, errors and exit codes of the programs."""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

import yolor_d2
import yolor_d2_cli
from yolor_d2.errors import CheckpointError, OptionError, line_of
from yolor_d2.tools import benchmark, model_info

from .saved_networks import Saved

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """The script replaces sys.argv."""
    monkeypatch.setattr(sys, "argv", ["yolor-d2"])


def test_help_imports_no_torch() -> None:
    start = time.perf_counter()
    command = [sys.executable, "-X", "importtime", str(ROOT / "yolor_d2_cli.py"), "--help"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert time.perf_counter() - start < 2
    assert "torch" not in result.stderr
    for name in yolor_d2_cli.SUMMARIES:
        assert f"\n  {name} " in result.stdout
        assert f"\n              yolor-d2 {name}" in result.stdout  # an example


def test_tables_of_commands_agree() -> None:
    tables = (yolor_d2_cli.SUMMARIES, yolor_d2_cli.EXAMPLES, yolor_d2_cli.MODULES)
    assert len({tuple(table) for table in tables}) == 1


def test_setup_installs_the_script() -> None:
    setup = (ROOT / "setup.py").read_text()
    assert '"yolor-d2=yolor_d2_cli:main"' in setup
    assert 'py_modules=["yolor_d2_cli"]' in setup


def test_version_imports_no_torch() -> None:
    command = [sys.executable, "-X", "importtime", str(ROOT / "yolor_d2_cli.py"), "--version"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout == f"yolor-d2 {yolor_d2.__version__}\n"
    assert "torch" not in result.stderr


def test_unknown_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert yolor_d2_cli.main(["predikt"]) == 2
    error = capsys.readouterr().err
    assert error == "yolor-d2: unknown command predikt; did you mean predict?\n"
    assert yolor_d2_cli.main([]) == 2


@pytest.mark.parametrize("name", yolor_d2_cli.SUMMARIES)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = yolor_d2_cli.main([name, "--help"])
    except SystemExit as error:
        code = error.code
    assert code == 0
    assert f"usage: yolor-d2 {name}" in capsys.readouterr().out


def test_commands_have_the_flags_of_their_modules(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--config-file", str(ROOT / "configs/toy/yolor_elan_n_toy.yaml"), "--size", "64"]
    flags += ["DATASETS.TRAIN", "('toy_scenes_train',)"]
    assert yolor_d2_cli.main(["info", *flags]) == 0
    ours = capsys.readouterr().out
    model_info.main(flags)
    assert ours == capsys.readouterr().out
    assert yolor_d2_cli.main(["info", "--config-file", "nothing.yaml"]) == 2


def test_prediction_and_its_exit_codes(
    saved: Saved, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--weights", str(saved.path), "--device", "cpu", "--output", str(tmp_path)]
    assert yolor_d2_cli.main(["predict", "--input", str(saved.images[0]), *flags]) == 0
    assert (tmp_path / "predictions.jsonl").is_file()
    assert yolor_d2_cli.main(["predict", "--input", str(tmp_path / "no.jpg"), *flags]) == 1
    capsys.readouterr()


def test_errors_begin_with_the_command_as_typed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--weights", "no.pth", "--input", "a.jpg", "--output", str(tmp_path)]
    assert yolor_d2_cli.main(["predict", *flags]) == 2
    assert capsys.readouterr().err.startswith("yolor-d2 predict: no.pth: ")
    command = [sys.executable, "-W", "ignore", "-m", "yolor_d2.tools.predict", *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr[:26]) == (2, "yolor-d2 predict: no.pth: ")


@pytest.mark.parametrize(
    "name", sorted(set(yolor_d2_cli.SUMMARIES) - {"demo", "doctor", "report", "completion"})
)
def test_every_command_imports_modules_of_the_current_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = f"imported_by_{name.replace('-', '_')}"
    (tmp_path / f"{module}.py").write_text("raise ValueError('the module is imported')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", ".")])
    more = {
        "train": ["--data", "nowhere"],
        "eval": ["--weights", "no.pth"],
        "predict": ["--weights", "no.pth", "--input", "a.jpg", "--output", "out"],
        "label": ["a.jpg", "--weights", "no.pth", "--output", "out"],
        "export": ["--weights", "no.pth", "--output", "out", "--format", "torchscript"],
        "check-data": ["nowhere"],
        "info": ["--weights", "no.pth"],
        "benchmark": ["data"],
        "web": ["--weights", "no.pth"],
    }
    assert code_of([name, *more[name], "--import", module]) == 2
    assert capsys.readouterr().err == f"yolor-d2 {name}: the module is imported\n"
    assert code_of([name, *more[name], "--import", "no_such_module"]) == 2
    reason = OptionError("--import no_such_module: No module named 'no_such_module'")
    assert capsys.readouterr().err == f"yolor-d2 {name}: {line_of(reason)}\n"


def test_other_modules_of_the_current_folder_are_not_imported(tmp_path: Path) -> None:
    """Without --import, files beside downloaded data are not run."""
    for name in ("yolor_d2", "torch", "json"):
        (tmp_path / f"{name}.py").write_text("open('trace', 'w')\n")
    command = [sys.executable, "-W", "ignore", str(ROOT / "yolor_d2_cli.py"), "doctor", "--quick"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert f"{yolor_d2.__version__}, {ROOT / 'yolor_d2'}" in done.stdout, done.stderr
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("name", ["train", "eval"])
def test_train_net_imports_modules(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "imported_first.py").write_text("raise ValueError('the module is imported')\n")
    monkeypatch.chdir(tmp_path)
    arguments = ["--config-file", "toy/yolor_elan_n_toy.yaml", "--import", "imported_first"]
    assert code_of([name, *arguments]) == 2
    assert capsys.readouterr().err == f"yolor-d2 {name}: the module is imported\n"


def code_of(arguments: Sequence[str]) -> int:
    """The exit code of a command."""
    try:
        return yolor_d2_cli.main(arguments)
    except SystemExit as stop:
        return stop.code


@pytest.mark.parametrize("name", ["train", "eval", "predict", "label", "export", "info", "web"])
def test_configurations_by_name_from_any_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also as a _BASE_; the error is about what is read after the configuration."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("_BASE_: toy/yolor_elan_n_toy.yaml\nSEED: 3\n")
    weights = ["--weights", "no.pth"]
    more = {
        "train": ["MODEL.WEIGHTS", "no.pth"],
        "eval": ["MODEL.WEIGHTS", "no.pth"],
        "predict": [*weights, "--input", "a.jpg", "--output", "out"],
        "label": ["a.jpg", *weights, "--output", "out"],
        "export": [*weights, "--output", "out", "--format", "torchscript"],
        "info": ["--size", "31"],
        "web": weights,
    }
    for config in ("toy/yolor_elan_n_toy.yaml", "mine.yaml"):
        assert code_of([name, "--config-file", config, *more[name]]) == 2
        error = capsys.readouterr().err
        expected = "--size must be" if name == "info" else "no.pth: there is no such file"
        assert error.startswith(f"yolor-d2 {name}: {expected}")


def test_errors_of_scripts_begin_with_their_name(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", str(ROOT / "train_net.py")]
    flags = ["--config-file", "toy/yolor_elan_n_toy.yaml", "OUTPUT_DIR", str(tmp_path / "out")]
    flags += ["MODEL.WEIGHTS", "no.pth"]
    done = subprocess.run([*command, *flags], capture_output=True, text=True, check=False)
    line = line_of(CheckpointError("no.pth: there is no such file"))
    assert (done.returncode, done.stderr) == (2, f"train_net.py: {line}\n")
    assert "no.pth" not in done.stdout
    assert f"ERROR: {line}" in (tmp_path / "out/log.txt").read_text()


def test_benchmarks_of_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr("benchmarks.__main__.main", calls.append)
    assert yolor_d2_cli.main(["benchmark", "data", "--repeats", "1"]) == 0
    assert calls == [["data", "--repeats", "1"]]


def test_benchmarks_are_not_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark, "CHECKOUT", tmp_path)
    assert yolor_d2_cli.main(["benchmark", "data"]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("yolor-d2 benchmark: ")
    assert "python -m benchmarks" in error


def test_evaluation_is_train_net_with_a_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    launched = []
    monkeypatch.setattr(
        "yolor_d2.engine.launch.processes.launch", lambda main, args: launched.append(args)
    )
    for name in ("train", "eval"):
        assert yolor_d2_cli.main([name, "--config-file", "x.yaml", "SEED", "3"]) == 0
    assert [args.eval_only for args in launched] == [False, True]
    assert launched[1].opts == ["SEED", "3"]
