"""Training in two processes: equal weights, after a resume and after a failed step in one."""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.utils import comm

from yolor_d2.engine.trainer import Trainer
from yolor_d2.errors import NonFiniteError

from ..processes import in_two_processes
from ..small_runs import register, small_config
from .test_nonfinite import Poison
from .test_resume import assert_equal, run

KEYS = ("MODEL.YOLOR.TASKS", ["detection", "caption"], "SOLVER.MAX_ITER", 4)
KILL_AFTER, SPOILED = 2, 2  # steps; the number of a step
# Losses spoil the gradients of both processes; of statistics, each has its own.
KINDS = {"stop": "loss", "skip": "statistic"}


class Outcome(NamedTuple):
    """Outcome of a run with a non-finite step in one process, in each process."""

    finished: int
    complaint: str
    images: list[Any]  # of that step
    state: dict[str, Any]


def train_all(toy_root: Path, folder: Path) -> None:
    """Several runs in sequence, because starting processes takes longest."""
    torch.set_num_threads(1)
    sets = register(toy_root)

    def configure(name: str, *more: Any) -> CfgNode:
        return small_config(sets, folder / name, *KEYS, *more)

    straight, losses = run(configure("straight"))
    cfg = configure("parts", "SOLVER.CHECKPOINT_PERIOD", 1)
    _, first = run(cfg, kill_after=KILL_AFTER)
    resumed, second = run(cfg, resume=True)
    states = [straight.checkpoint(), resumed.checkpoint()]
    spoiled = {
        what: tuple(spoil(configure(what, "SOLVER.NONFINITE", what))) for what in ("stop", "skip")
    }
    torch.save([losses, first, second, states, spoiled], folder / f"{comm.get_rank()}.pt")
    critical, _ = run(configure("critical", "MODEL.CAPTION_HEAD.SCST.SAMPLES", 3))
    rewards = [value for value, _ in critical.storage.history("caption_reward").values()]
    weights = dict(critical.model.named_parameters())
    torch.save([weights, rewards], folder / f"critical{comm.get_rank()}.pt")
    teacher = str(folder / "straight" / "model_final.pth")
    taught, _ = run(configure("taught", "SOLVER.TEACHER.WEIGHTS", teacher))
    logged = {n for n in taught.storage.latest() if n.endswith("_teacher")}
    torch.save(
        [dict(taught.model.named_parameters()), logged], folder / f"taught{comm.get_rank()}.pt"
    )


def spoil(cfg: CfgNode) -> Outcome:
    """A run with a non-finite value in one step of the second process."""
    cfg.SOLVER.CHECKPOINT_PERIOD = 1
    trainer = Trainer(cfg)
    if comm.get_rank() == 1:
        trainer.register_hooks(
            [Poison(KINDS[cfg.SOLVER.NONFINITE], steps=range(SPOILED, SPOILED + 1))]
        )
    complaint = ""
    try:
        trainer.train()
    except NonFiniteError as error:
        complaint = str(error)
    images = [sample["image_id"] for sample in next(iter(trainer.parts.data.train_loader(SPOILED)))]
    updates = {"updates": trainer.ema.updates}
    return Outcome(
        trainer.finished, complaint, images, updates | dict(trainer.model.named_parameters())
    )


@pytest.fixture(scope="module")
def folder(toy_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("two")
    in_two_processes(train_all, toy_root, path)
    return path


@pytest.fixture(scope="module")
def results(folder: Path) -> list[Any]:
    """Outcomes of each process."""
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


def test_captions_learn_from_rewards_together(folder: Path) -> None:
    """Each process samples and rewards its own captions; weights stay equal."""
    (mine, rewards), (other, others) = (torch.load(folder / f"critical{r}.pt") for r in range(2))
    assert_equal(mine, other)
    assert len(rewards) == len(others) == 4


def test_a_teacher_in_each_process(folder: Path) -> None:
    """Weights stay equal."""
    (mine, names), (other, _) = (
        torch.load(folder / f"taught{r}.pt", weights_only=False) for r in range(2)
    )
    assert_equal(mine, other)
    assert names == {f"loss_{name}_teacher" for name in ("cls", "box", "dfl", "caption")}


def test_exact_resume(results: list[Any]) -> None:
    """Each process restores its own random generators."""
    for losses, first, second, _, _ in results:
        assert list(first) == list(range(KILL_AFTER))
        assert first | second == losses
    (straight, resumed), (nothing, _) = (states for *_, states, _ in results)
    for part in ("iteration", "model", "ema", "optimizer", "random"):
        assert_equal(resumed[part], straight[part], part)
    assert nothing is None
    assert not torch.equal(straight["random"][0]["torch"], straight["random"][1]["torch"])


@pytest.mark.parametrize("what", KINDS)
def test_nonfinite_values_in_one_process(folder: Path, results: list[Any], what: str) -> None:
    """Both processes take the same action at the same step, and the report has the right images."""
    outcomes = [Outcome(*spoiled[what]) for *_, spoiled in results]
    stops = what == "stop"
    for outcome in outcomes:
        assert outcome.finished == (SPOILED if stops else 4)
        assert ("rank1.json" in outcome.complaint) == stops
        assert "rank0.json" not in outcome.complaint  # its images were fine
        assert outcome.state["updates"] == (SPOILED if stops else 3)
        assert all(torch.isfinite(torch.as_tensor(v)).all() for v in outcome.state.values())
    assert_equal(outcomes[0].state, outcomes[1].state)
    checkpoints = {"stop": [0, 1], "skip": [2, 3]}[what]
    names = sorted(path.name for path in (folder / what).glob("model_0*.pth"))
    assert names == [f"model_{iteration:07d}.pth" for iteration in checkpoints]

    assert set(outcomes[0].images).isdisjoint(outcomes[1].images)
    for rank, outcome in enumerate(outcomes):
        path = folder / what / f"nonfinite_{SPOILED:07d}_rank{rank}.json"
        report = json.loads(path.read_text())
        assert [image["image_id"] for image in report["images"]] == outcome.images
        spoiled = {"stop": "loss_cls", "skip": "buffers"}[what]
        assert math.isnan(float(report["own"][spoiled])) == (rank == 1)
        assert math.isnan(float(report["measured"][spoiled]))
