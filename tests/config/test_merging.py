"""Integers stand for floats, in files and in overrides; other types must match."""

from pathlib import Path

import pytest

from yolor_d2.model_zoo import load_config

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
