"""A part of each target's cases, the same in every run; and the fuzzer notices what it must."""

from pathlib import Path
from random import Random
from typing import Any

import pytest

from .campaign import replay, run_campaign
from .cases import ACCEPTED, GIVEN, REFUSED, Case, Target, generator, load_case, save_case
from .targets import TARGETS

SEED = 1
# Cases of each target, about three seconds.
CASES = {
    "annotations": 150,
    "images": 400,
    "maps": 400,
    "zips": 200,
    "weights": 150,
    "checkpoints": 500,
    "configs": 80,
    "exported": 100,
    "videos": 100,
    "web": 400,
}


@pytest.mark.parametrize("name", TARGETS)
def test_no_findings(name: str, tmp_path: Path) -> None:
    if name == "exported":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnx")
    tally = run_campaign(name, TARGETS[name], seed=SEED, cases=CASES[name], folder=tmp_path)
    assert {key: outcome for key, (_, outcome) in tally.findings.items()} == {}
    assert tally.counts.total() == CASES[name]
    assert tally.counts[ACCEPTED] > 0
    assert tally.counts[REFUSED] > 0


@pytest.mark.parametrize("name", TARGETS)
def test_cases_are_the_same_each_time(name: str) -> None:
    if name == "exported":
        pytest.importorskip("onnx")
    target, state = TARGETS[name], TARGETS[name].prepare()
    first, second = (
        [target.mutate(generator(name, SEED, k), k, state) for k in range(5)] for _ in range(2)
    )
    assert first == second
    assert len({str(case) for case in first}) > 1


def planted(run: Any, **limits: Any) -> Target:
    """Return a target whose reader is `run`."""

    def mutate(rng: Random, index: int, state: None) -> Case:
        return Case({"a.txt": b"x"}, index, "planted")

    return Target(about="", prepare=lambda: None, mutate=mutate, run=run, **limits)


def raise_type(state: None, case: Case) -> None:
    raise TypeError("two\nlines")


def raise_value(state: None, case: Case) -> None:
    raise ValueError(f"{GIVEN}/a.txt: is wrong")


def raise_vague(state: None, case: Case) -> None:
    raise ValueError("is wrong")


def be_wrong(state: None, case: Case) -> None:
    raise AssertionError("1 is not 2")


def write_outside(state: None, case: Case) -> None:
    Path("executed").write_text("x")


def write_elsewhere(state: None, case: Case) -> None:
    Path(__file__).open("a").close()


def change_given(state: None, case: Case) -> None:
    import os

    os.truncate(f"{GIVEN}/a.txt", 0)


def start_program(state: None, case: Case) -> None:
    import subprocess

    subprocess.run(["true"], check=True)


def leave_half(state: None, case: Case) -> None:
    Path("out/.a.tmp").write_text("x")


def crash(state: None, case: Case) -> None:
    import ctypes

    ctypes.string_at(0)


def spin(state: None, case: Case) -> None:
    while True:
        pass


def take_memory(state: None, case: Case) -> None:
    assert len(b"x" * (60 * 2**20)) > 0


@pytest.mark.parametrize(
    ("run", "kind"),
    [
        (raise_value, REFUSED),
        (raise_type, "traceback"),
        (raise_vague, "unclear"),
        (be_wrong, "wrong"),
        (write_outside, "escape"),
        (write_elsewhere, "escape"),
        (change_given, "escape"),
        (start_program, "escape"),
        (leave_half, "left"),
        (crash, "crash"),
        (spin, "hang"),
        (take_memory, "memory"),
    ],
)
def test_planted_faults_are_found(run: Any, kind: str) -> None:
    target = planted(run, seconds=0.1, megabytes=20)
    tally = run_campaign("planted", target, seed=0, cases=2)
    assert tally.counts == {kind: 2}
    assert len(tally.findings) == (kind != REFUSED)


def test_findings_are_files_that_reproduce_them(tmp_path: Path) -> None:
    target = planted(raise_type)
    run_campaign("planted", target, seed=3, cases=1, folder=tmp_path)
    name, case = load_case(tmp_path / "planted-3-0.json")
    assert (name, case.files, case.what) == ("planted", {"a.txt": b"x"}, "planted")
    outcome = replay(target, case)
    assert outcome.kind == "traceback"
    assert outcome.detail.startswith("TypeError: two")
    save_case(tmp_path / "again.json", name, case, outcome)
    assert load_case(tmp_path / "again.json") == (name, case)
