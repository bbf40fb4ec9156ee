"""detectron2's main branch is run, and checkpoints move between it and the installed version."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from detectron2.config import CfgNode, get_cfg

from yolor_d2.compat import MAIN_KEYS, remove_main_keys
from yolor_d2.engine.config_diff import yacs_changes
from yolor_d2.inference.yaml_recipe import parse_yaml
from yolor_d2.model_zoo import get_config

from . import program

ROOT = Path(__file__).parents[2]
RESULTS = ["bbox", "caption", "panoptic_seg", "segm", "sem_seg"]


def run(main: Path, *arguments: Any) -> str:
    """The output of a Python module, with the main branch first on the path."""
    path = os.pathsep.join([str(main), str(ROOT)])
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


def run_program(main: Path, toys: Path, folder: Path) -> dict[str, Any]:
    facts = json.loads(run(main, "tests.compat.program", toys, folder).splitlines()[-1])
    assert facts["detectron2"] == str(main)
    assert facts["finite"]
    return facts


def test_its_transformers_fit_below_our_neck(detectron2_main: Path) -> None:
    expected = {"p3": (1, 32, 8, 12), "p4": (1, 64, 4, 6), "p5": (1, 128, 2, 3)}
    assert run(detectron2_main, "tests.compat.backbones").splitlines() == [str(expected)] * 2


def test_runs_begun_under_main_continue_here(
    detectron2_main: Path, toy_root: Path, tmp_path: Path
) -> None:
    facts = run_program(detectron2_main, toy_root, tmp_path / "run")
    assert facts["finished"] == 2
    assert facts["results"] == RESULTS
    ours = program.keys(get_cfg())
    more = {key: value for key, value in facts["keys"].items() if key not in ours}
    assert more == MAIN_KEYS or ours.keys() >= MAIN_KEYS.keys()
    assert program.predict(toy_root, tmp_path / "run") == facts["predicted"]
    trainer = program.train(toy_root, tmp_path / "run")
    assert (trainer.start_iter, trainer.finished) == (2, 3)


def test_runs_begun_here_continue_under_main(
    detectron2_main: Path, toy_root: Path, tmp_path: Path
) -> None:
    program.train(toy_root, tmp_path / "run")
    facts = run_program(detectron2_main, toy_root, tmp_path / "run")
    assert (facts["start"], facts["finished"]) == (2, 3)
    assert facts["predicted before"] == facts["predicted"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["test_overrides.py", "test_projects.py", "test_tools.py"])
def test_tests_under_main(detectron2_main: Path, name: str) -> None:
    """Overrides of detectron2's documentation, its projects and its tools."""
    file = Path(__file__).with_name(name)
    output = run(detectron2_main, "pytest", "-q", "-p", "no:xdist", "-o", "addopts=", file)
    assert " passed" in output


def other_version(**values: Any) -> CfgNode:
    """A configuration with the keys of the main branch, of which some differ from the defaults."""
    cfg = get_config("toy/yolor_elan_n_toy.yaml")
    for key, value in {**MAIN_KEYS, **values}.items():
        *path, name = key.split(".")
        node = cfg
        for part in path:
            node = node[part]
        node[name] = value
    return cfg


def test_keys_of_main_are_left_out_at_their_defaults() -> None:
    parsed = parse_yaml(other_version().dump())
    assert parsed is not None
    assert program.keys(parsed).keys() == program.keys(get_config("Base-YOLOR.yaml")).keys()
    plain = get_config("toy/yolor_elan_n_toy.yaml").dump()
    assert yacs_changes(other_version().dump(), plain) == []
    assert yacs_changes(plain, other_version().dump()) == []


def test_other_values_of_unknown_keys_are_named() -> None:
    cfg = other_version(FLOAT32_PRECISION="high", NEW="x")
    changes = yacs_changes(cfg.dump(), get_config("toy/yolor_elan_n_toy.yaml").dump())
    assert changes == ["FLOAT32_PRECISION high -> absent", "NEW x -> absent"]
    known = get_config("toy/yolor_elan_n_toy.yaml")
    assert (
        remove_main_keys(cfg, known) == ["NEW x"]
        if "FLOAT32_PRECISION" in known
        else [
            "NEW x",
            "FLOAT32_PRECISION high",
        ]
    )
    with pytest.raises(ValueError, match=r"keys that are unknown here \(.*NEW x"):
        parse_yaml(cfg.dump())
