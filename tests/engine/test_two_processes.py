"""Two processes compute the same as one."""

import json
from pathlib import Path

import pytest

from yolor_d2.checkpoint.run_folder import RunFolder

from .test_interruption import finish, start

TWO = ("--num-gpus", "2", "--dist-url", "auto")


def test_evaluation_is_the_same(toy_root: Path, tmp_path: Path) -> None:
    """Five images, an unequal number for each process."""
    trained = tmp_path / "trained"
    keys = ["TEST.EVAL_PERIOD", 3, "SOLVER.BASE_LR", 3e-3, "SOLVER.WARMUP_ITERS", 0]
    code, output = finish(start(toy_root, trained, steps=3, keys=keys))
    assert code == 0, output
    weights = ["MODEL.WEIGHTS", trained / "model_final.pth"]
    together = tmp_path / "together"
    process = start(toy_root, together, "--eval-only", *TWO, steps=3, keys=weights)
    code, output = finish(process)
    assert code == 0, output
    one, two = (json.loads((f / "metrics.json").read_text()) for f in (trained, together))
    assert one.pop("reasons") == two.pop("reasons")
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert two[name] == (value if value is None else pytest.approx(value, abs=1e-9)), name
    assert one["caption/sixth_CIDEr"] > 0


@pytest.mark.slow
def test_resume_with_another_number_of_processes(toy_root: Path, tmp_path: Path) -> None:
    """From one process to two: the order of images is the same, the state is loaded."""
    folder = tmp_path / "run"
    keys = ["SOLVER.CHECKPOINT_PERIOD", 2, "TEST.LOSS_PERIOD", 4]
    code, output = finish(start(toy_root, folder, steps=2, keys=keys))
    assert code == 0, output
    more = ["--resume", "--allow-config-change", *TWO]
    code, output = finish(start(toy_root, folder, *more, steps=6, keys=keys))
    assert code == 0, output
    assert "the checkpoint is from 1 processes" in output
    assert RunFolder(folder).latest()[1]["iteration"] == 6
