"""Integers stand for floats, in files and in overrides; other types must match."""

from pathlib import Path

import pytest

from yolor_d2.errors import ConfigError
from yolor_d2.model_zoo import load_config, naming_source

TOY = "toy/yolor_elan_n_toy.yaml"


def test_integers_in_overrides() -> None:
    cfg = load_config(TOY, ["SOLVER.MAX_MINUTES", "5", "SOLVER.MAX_ITER", "7"])
    assert (cfg.SOLVER.MAX_MINUTES, type(cfg.SOLVER.MAX_MINUTES)) == (5.0, float)
    assert type(cfg.SOLVER.MAX_ITER) is int


def test_integers_in_files(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(f"_BASE_: {TOY}\nSOLVER: {{EMA: {{TAU: 300}}, MAX_ITER: 7}}\n")
    cfg = load_config(str(file))
    assert (cfg.SOLVER.EMA.TAU, type(cfg.SOLVER.EMA.TAU)) == (300.0, float)
    assert type(cfg.SOLVER.MAX_ITER) is int


@pytest.mark.parametrize(
    ("key", "value"),
    [("SOLVER.MAX_ITER", "7.5"), ("SOLVER.MAX_MINUTES", "True"), ("SOLVER.MAX_MINUTE", "5")],
)
def test_other_values_are_refused(key: str, value: str) -> None:
    with pytest.raises(ValueError, match=key):
        load_config(TOY, [key, value])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("SOLVER: {MAX_ITER: many}", "SOLVER.MAX_ITER is many; it must be an integer"),
        ("SOLVER: {NESTEROV: 1.5}", "SOLVER.NESTEROV is 1.5; it must be True or False"),
        ("SOLVER: 5", "SOLVER is 5; it must be a group of keys"),
        (
            "SOLVER: {MAX_ITRE: 7}",
            "Non-existent config key: SOLVER.MAX_ITRE; did you mean SOLVER.MAX_ITER?",
        ),
        (
            "SOLVR: {MAX_ITER: 7}",
            "Non-existent config key: SOLVR; did you mean SOLVER?",
        ),
        ("XYZ: 1", "Non-existent config key: XYZ"),
        ("_BASE_: toy/nothing.yaml", "_BASE_: no configuration toy/nothing.yaml; did you mean "),
    ],
)
def test_errors_name_their_file(tmp_path: Path, content: str, problem: str) -> None:
    """Whether the file is loaded or the _BASE_ of another, and with a _BASE_ of its own or not."""
    base = "" if "_BASE_" in content else f"_BASE_: {TOY}\n"
    (tmp_path / "wrong.yaml").write_text(f"{base}{content}\n")
    (tmp_path / "bare.yaml").write_text(f"{content}\n")
    for wrong in ("wrong.yaml", "bare.yaml"):
        (tmp_path / "own.yaml").write_text(f"_BASE_: {wrong}\nSEED: 1\n")
        for name in (wrong, "own.yaml"):
            with pytest.raises(ConfigError) as error:
                load_config(str(tmp_path / name))
            assert str(error.value).startswith(f"{tmp_path / wrong}: {problem}")


def test_errors_name_the_command_line() -> None:
    with pytest.raises(ConfigError) as error:
        load_config(TOY, ["SOLVR.MAX_ITER", "7"])
    problem = "Non-existent key: SOLVR.MAX_ITER; did you mean SOLVER.MAX_ITER?"
    assert str(error.value) == f"on the command line: {problem}"


def test_several_bases_are_merged_in_order(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("SOLVER: {MAX_ITER: 7, MAX_MINUTES: 5}\n")
    (tmp_path / "b.yaml").write_text("SOLVER: {MAX_ITER: 8}\nSEED: 3\n")
    own = tmp_path / "own.yaml"
    own.write_text("_BASE_: [a.yaml, b.yaml]\nSEED: 4\n")
    cfg = load_config(str(own))
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.MAX_MINUTES, cfg.SEED) == (8, 5.0, 4)


def test_cycles_are_one_line(tmp_path: Path) -> None:
    names = [tmp_path / name for name in ("a.yaml", "b.yaml", "c.yaml")]
    for path, base in zip(names, [*names[1:], names[1]], strict=True):
        path.write_text(f"_BASE_: {base.name}\n")
    a, b, c = names
    with pytest.raises(ConfigError) as error:
        load_config(str(a))
    assert str(error.value) == f"{a}: its _BASE_ files must not be a cycle: {a} > {b} > {c} > {b}"
    a.write_text("_BASE_: ./a.yaml\n")
    with pytest.raises(ConfigError, match="must not be a cycle"):
        load_config(str(a))


@pytest.mark.parametrize(
    ("key", "overrides", "source"),
    [
        ("SOLVER.MAX_ITER", [], "base.yaml: "),
        ("SOLVER.BASE_LR", [], "own.yaml: "),
        ("SOLVER.GAMMA", [], ""),  # a default
        ("SOLVER.BASE_LR", ["SOLVER.BASE_LR", "2"], "on the command line: "),
        ("no key", [], ""),
    ],
)
def test_values_that_are_refused_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, overrides: list[str], source: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("base.yaml").write_text(f"_BASE_: {TOY}\nSOLVER: {{MAX_ITER: 7, BASE_LR: 3}}\n")
    Path("own.yaml").write_text("_BASE_: base.yaml\nSOLVER: {BASE_LR: 4}\n")
    with pytest.raises(ConfigError) as error, naming_source("own.yaml", overrides):
        raise ConfigError(f"{key} is wrong")
    assert str(error.value) == f"{source}{key} is wrong"


ALIASES = "A: &a0 {x: 1}\n" + "".join(
    f"A{k + 1}: &a{k + 1} {{{', '.join(f'k{n}: *a{k}' for n in range(9))}}}\n" for k in range(9)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ALIASES, "its aliases expand to more than 100,000 values"),
        ("A: &a {b: *a}", "its aliases expand to more than 100,000 values"),
        ("A: " + "[" * 20_000, "nested too deeply"),
        ("_BASE_: [5]", "its _BASE_ is not the name of a file"),
        ("_BASE_: [own.yaml]", "its _BASE_ files must not be a cycle"),
        ("5: 6", "has no configuration, which is lines of KEY: VALUE"),
        ("SOLVER: {5: 6}", "has no configuration, which is lines of KEY: VALUE"),
    ],
)
def test_files_that_are_no_configurations(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        load_config(str(file))
    assert str(error.value).startswith(str(file))


@pytest.mark.parametrize(
    "words",
    [["SOLVER.MAX_ITER"], ["SOLVER.MAX_ITER.X", "5"], ["SOLVER.MAX_ITER", "(" * 3000]],
    ids=["alone", "below a number", "deep"],
)
def test_overrides_that_cannot_be_merged(words: list[str]) -> None:
    with pytest.raises(ValueError, match="on the command line: "):
        load_config(TOY, words)
