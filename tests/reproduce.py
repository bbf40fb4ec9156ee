"""Numbers of a short deterministic run, to compare two commits on one machine.

python -m tests.reproduce [--checkout DIR] [--views two]

Trains the toy configuration for 30 steps at 64 px, evaluates, and prints the loss of each logged
step, a digest of the final weights, and metrics.json. Two commits that compute the same numbers
print the same text. `--checkout` runs the train_net.py of another checkout.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
SETTINGS = [
    *("SOLVER.MAX_ITER", "30", "LOG.PERIOD", "5", "LOG.PICTURES", "0", "TEST.EVAL_PERIOD", "30"),
    *("INPUT.STRONG.SIZE", "64", "INPUT.WEAK.SIZE", "64", "INPUT.TEST_SIZE", "64"),
]
# Strong and weak view in passes of their own, with accumulation and a self-critical caption loss.
TWO_VIEWS = [
    *("INPUT.WEAK_VIEW_TASKS", "['caption']", "INPUT.WEAK.SIZE", "96", "SOLVER.ACCUM_STEPS", "2"),
    *("MODEL.CAPTION_HEAD.SCST.SAMPLES", "2", "MODEL.CAPTION_HEAD.SCST.CE_WEIGHT", "0.5"),
    *("MODEL.CAPTION_HEAD.TEST.MAX_TOKENS", "12", "SOLVER.MAX_ITER", "8", "LOG.PERIOD", "1"),
    *("SOLVER.IMS_PER_BATCH", "8", "TEST.EVAL_PERIOD", "8", "INPUT.CLOSE_MOSAIC_ITERS", "2"),
]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkout", type=Path, default=ROOT, metavar="DIR")
    parser.add_argument("--views", choices=("one", "two"), default="one")
    args = parser.parse_args(arguments)
    settings = [*SETTINGS, *(TWO_VIEWS if args.views == "two" else [])]
    with tempfile.TemporaryDirectory() as folder:
        run_toy(args.checkout.resolve(), Path(folder), settings)
        sys.stdout.write(describe(Path(folder) / "run") + "\n")


def run_toy(checkout: Path, folder: Path, settings: list[str]) -> None:
    """Make 48 + 8 toy scenes, train on them and evaluate, with the code of a checkout."""
    environment = {
        **os.environ,
        "DETECTRON2_DATASETS": str(folder),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(checkout),
    }
    scenes = ["--output", str(folder / "toy_scenes"), "--train", "48", "--val", "8"]
    for arguments in (
        ["datasets/prepare_toy_scenes.py", *scenes, "--min-size", "32", "--workers", "0"],
        [
            *("train_net.py", "--config-file", "configs/toy/yolor_elan_n_toy.yaml"),
            *("--deterministic", "OUTPUT_DIR", str(folder / "run"), *settings),
        ],
    ):
        command = [sys.executable, "-W", "ignore", *arguments]
        subprocess.run(command, cwd=checkout, env=environment, check=True, stdout=sys.stderr)


def describe(run: Path) -> str:
    """Loss lines, digest of the weights, metrics."""
    lines = [json.loads(line) for line in (run / "training.jsonl").read_text().splitlines()]
    losses = [{key: value for key, value in each.items() if "loss" in key} for each in lines]
    content = torch.load(run / "model_final.pth", weights_only=True)
    state = content["model"]
    digests = {
        "weights and statistics": digest({k: v for k, v in state.items() if not is_counter(k)}),
        "batch counters of norms": digest({k: v for k, v in state.items() if is_counter(k)}),
    }
    metrics = json.loads((run / "metrics.json").read_text())
    return "\n".join(
        [
            *(json.dumps(each) for each in losses if each),
            *(f"{name}: {value}" for name, value in digests.items()),
            json.dumps(metrics),
        ]
    )


def is_counter(key: str) -> bool:
    return key.endswith("num_batches_tracked")


def digest(state: dict[str, torch.Tensor]) -> str:
    """SHA-256 of names and bytes."""
    sha = hashlib.sha256()
    for name in sorted(state):
        sha.update(name.encode())
        sha.update(state[name].contiguous().numpy().tobytes())
    return sha.hexdigest()


if __name__ == "__main__":
    main()
