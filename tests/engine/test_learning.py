"""That it learns: long runs with expected results, on what the machine has."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*command: str, datasets: Path) -> None:
    """A command of the repository, which has to end well."""
    environment = {**os.environ, "DETECTRON2_DATASETS": str(datasets)}
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_eight_real_images_are_learnt_by_heart(shared_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "coco").symlink_to(shared_dir / "data/coco-mini")
    run("datasets/prepare_overfit.py", datasets=tmp_path)
    train("quick/overfit.yaml", tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_the_long_run_on_toy_scenes(tmp_path: Path) -> None:
    scenes = ["--train", "4000", "--val", "200", "--min-size", "32", "--max-objects", "6"]
    output = str(tmp_path / "toy_scenes")
    run("datasets/prepare_toy_scenes.py", "--output", output, *scenes, datasets=tmp_path)
    train("toy/yolor_elan_n_toy_long.yaml", tmp_path)


def train(config: str, folder: Path) -> None:
    """Ends with an error unless the results are those of TEST.EXPECTED_RESULTS."""
    options = ["--config-file", f"configs/{config}", "OUTPUT_DIR", str(folder / "output")]
    run("train_net.py", *options, datasets=folder)
