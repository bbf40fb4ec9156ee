"""Best checkpoint and early stopping in a run that is killed and resumed."""

from functools import partial
from typing import Any

import torch

from yolor_d2.engine.trainer import Trainer
from yolor_d2.engine.writers import read_csv

from ...small_runs import Configure
from ..test_resume import assert_equal, run

#         step 1   2   3   4   5   6   7   8   9
VALUES = (10., 30., 20., 25., 40., 35., 30., 20., 50.)  # fmt: skip
KEYS = [
    *("TEST.EVAL_PERIOD", 1, "SOLVER.MAX_ITER", len(VALUES), "SOLVER.IMS_PER_BATCH", 2),
    *("TEST.BEST.METRIC", "bbox/AP", "TEST.EARLY_STOP.METRIC", "bbox/AP"),
    *("TEST.EARLY_STOP.PATIENCE", 3, "MODEL.YOLOR.TASKS", ["detection"]),
]


class Scripted(Trainer):
    """Its evaluations return the scripted values."""

    def evaluate(self) -> dict[str, Any]:
        return {"bbox": {"AP": VALUES[self.finished - 1]}}


def best(trainer: Trainer) -> dict[str, Any]:
    return torch.load(trainer.folder.path / "model_best.pth", weights_only=True)


def test_kills_do_not_change_best_and_early_stop(configure: Configure) -> None:
    """Kills happen while patience is counted and before the last evaluation is saved."""
    straight, _ = run(configure("straight", *KEYS), make=Scripted)
    assert straight.finished == 8  # three evaluations after the best one, at step 5
    assert "been best, 40, at step 5; not improved for 3 evaluations" in straight.stop_reason

    part = partial(run, configure("parts", *KEYS), make=Scripted)
    killed, _ = part(kill_after=3)
    assert best(killed)["iteration"] == 2
    killed, _ = part(resume=True, kill_after=4)
    assert killed.start_iter == 3
    assert best(killed)["iteration"] == 2  # 25 is the best value of this part, but worse than 30
    killed, _ = part(resume=True, kill_after=6)
    assert best(killed)["iteration"] == 5
    resumed, _ = part(resume=True)

    assert (resumed.start_iter, resumed.finished) == (6, 8)
    assert resumed.stop_reason == straight.stop_reason
    for key in ("iteration", "model", "ema", "optimizer", "hooks"):
        assert_equal(best(resumed)[key], best(straight)[key], key)
    assert_equal(resumed.checkpoint()["hooks"], straight.checkpoint()["hooks"])
    # All evaluations are in the log, which is written every 25 steps.
    rows = read_csv(resumed.folder.path / "metrics.csv")
    assert {i + 1: row["bbox/AP"] for i, row in rows.items()} == dict(enumerate(VALUES[:8], 1))


def test_early_stop_is_kept_when_resumed(configure: Configure) -> None:
    """A job that is started again makes no steps."""
    cfg = configure("run", *KEYS)
    first, _ = run(cfg, make=Scripted)
    again, losses = run(cfg, resume=True, make=Scripted)
    assert losses == {}
    assert again.finished == first.finished == 8
    assert best(again)["iteration"] == 5
