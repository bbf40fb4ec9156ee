"""Long runs with expected results."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*command: object, datasets: Path) -> None:
    """Run a command of the repository, which must succeed."""
    environment = {**os.environ, "DETECTRON2_DATASETS": str(datasets)}
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_overfits_eight_real_images(shared_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "coco").symlink_to(shared_dir / "data/coco-mini")
    run("datasets/prepare_overfit.py", datasets=tmp_path)
    train("quick/overfit.yaml", tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_long_run_on_toy_scenes(tmp_path: Path) -> None:
    make_scenes(tmp_path, train=4000, val=200)
    train("toy/yolor_elan_n_toy_long.yaml", tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_captions_learn_from_cider(tmp_path: Path) -> None:
    """Rewards rise within 50 steps; after 300, the gain in CIDEr exceeds that of other seeds."""
    make_scenes(tmp_path, train=2000, val=200)
    train("toy/yolor_elan_n_toy.yaml", tmp_path, "SOLVER.MAX_ITER", 600)
    weights = tmp_path / "output/model_final.pth"
    found = []
    for seed in (1, 2):
        options = ["MODEL.WEIGHTS", weights, "SEED", seed, "LOG.PERIOD", 1]
        train("toy/yolor_elan_n_toy_scst.yaml", tmp_path, *options, output=f"scst_{seed}")
        lines = (tmp_path / f"scst_{seed}/training.jsonl").read_text().splitlines()
        rewards = [json.loads(line).get("caption_reward") for line in lines[:50]]
        assert sum(rewards[40:]) / 10 > sum(rewards[:10]) / 10
        found.append(cider(tmp_path / f"scst_{seed}"))
    assert min(found) - cider(tmp_path / "output") > abs(found[0] - found[1])


def cider(folder: Path) -> float:
    return json.loads((folder / "metrics.json").read_text())["caption/CIDEr"]


def make_scenes(folder: Path, *, train: int, val: int) -> None:
    number = ["--train", train, "--val", val, "--min-size", 32, "--max-objects", 6]
    output = folder / "toy_scenes"
    run("datasets/prepare_toy_scenes.py", "--output", output, *number, datasets=folder)


def train(config: str, folder: Path, *overrides: object, output: str = "output") -> None:
    """Train; the command fails unless results are those of TEST.EXPECTED_RESULTS."""
    options = ["--config-file", f"configs/{config}", "OUTPUT_DIR", folder / output, *overrides]
    run("train_net.py", *options, datasets=folder)
