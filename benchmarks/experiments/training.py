"""The process of one run: train, or continue, and write its result.

    python -m benchmarks.experiments.training OUTPUT_DIR RESULT_FILE

OUTPUT_DIR contains experiment.json, which describes the variant, and its configuration,
experiment.yaml.
"""

import argparse
import hashlib
import json
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase

from yolor_d2.checkpoint.run_folder import RunFolder
from yolor_d2.checkpoint.saving import sidecar_path
from yolor_d2.data.catalog.records import reading_once
from yolor_d2.data.catalog.registered import require_registered
from yolor_d2.data.formats.registration import ensure_registered
from yolor_d2.engine.launch.arguments import argument_parser, import_modules
from yolor_d2.engine.launch.processes import signal_at_death_of_parent
from yolor_d2.engine.setup import log_and_seed, logged_errors, set_up_logging
from yolor_d2.engine.starting_point import find_starting_point
from yolor_d2.engine.trainer import Trainer
from yolor_d2.files import write_text
from yolor_d2.model_zoo import load_config

from ..timing import machine_facts
from .bench import Experiment, settings

SPECIFICATION, CONFIGURATION = "experiment.json", "experiment.yaml"
BOXES = ("AP", "AP50", "AP75", "APs", "APm", "APl")
KEPT = {  # metrics of each evaluation
    *(f"{task}/{name}" for task in ("bbox", "segm") for name in BOXES),
    *(f"sem_seg/{name}" for name in ("mIoU", "fwIoU", "stuff_mIoU", "stuff_fwIoU")),
    *(f"panoptic_seg/{name}" for name in ("PQ", "SQ", "RQ", "PQ_th", "PQ_st")),
    *(f"caption/{name}" for name in ("Bleu_4", "ROUGE_L", "METEOR", "CIDEr", "truthful")),
}
MACHINE = ("cpu", "cores")


class TrainingTime(HookBase):
    """Adds up the time of training steps, and that of the whole run, over all resumes.

    Attributes:
        wall: seconds of steps.
        cpu: CPU seconds of steps in this process; loader workers are not included.
    """

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0
        self._total, self._started = 0.0, time.perf_counter()

    @property
    def total(self) -> float:
        """Seconds of the run: start, steps, evaluations."""
        return self._total + time.perf_counter() - self._started

    def before_step(self) -> None:
        self._step = time.perf_counter(), time.process_time()

    def after_step(self) -> None:
        self.wall += time.perf_counter() - self._step[0]
        self.cpu += time.process_time() - self._step[1]

    def state_dict(self) -> dict[str, Any]:
        return {"wall": self.wall, "cpu": self.cpu, "total": self.total}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.wall, self.cpu, self._total = state["wall"], state["cpu"], state["total"]


class TimedTrainer(Trainer):
    """A trainer that measures its time; `timing` has it."""

    def build_hooks(self) -> list[HookBase]:
        self.timing = TrainingTime()
        return [self.timing, *super().build_hooks()]  # before those that save or evaluate


def write_specification(experiment: Experiment, *, workers: int, modules: Sequence[str]) -> None:
    """Write what the process of a run reads.

    Args:
        experiment: the run.
        workers: processes that load its data.
        modules: to import, which register data sets or heads.
    """
    cfg = experiment.config()
    learned = settings(cfg)
    cfg.DATALOADER.NUM_WORKERS = workers
    content = {
        "variant": experiment.variant.name,
        "overrides": dict(experiment.variant.overrides),
        "settings": learned,
        "modules": list(modules),
    }
    write_text(experiment.folder / CONFIGURATION, cfg.dump())
    write_text(experiment.folder / SPECIFICATION, json.dumps(content, indent=1) + "\n")


def read_specification(folder: Path) -> dict[str, Any] | None:
    """The content of the file; None if there is none."""
    path = folder / SPECIFICATION
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output_dir", type=Path)
    parser.add_argument("result_file", type=Path)
    args = parser.parse_args(arguments)
    signal_at_death_of_parent(signal.SIGTERM)  # then it saves and ends
    specification = read_specification(args.output_dir)
    if specification is None:
        parser.error(f"{args.output_dir / SPECIFICATION} is missing")
    # It can lack keys that were added since this command was started.
    cfg = load_config(str(args.output_dir / CONFIGURATION))
    trainer = train(cfg, specification["modules"])
    result = describe(trainer, specification)
    write_text(args.result_file, json.dumps(result, indent=1, allow_nan=False) + "\n")
    for path in RunFolder(args.output_dir).regular():  # model_final.pth is kept
        path.unlink()
        sidecar_path(path).unlink(missing_ok=True)


def train(cfg: CfgNode, modules: Sequence[str]) -> TimedTrainer:
    """Train from the last checkpoint, or from random weights."""
    import_modules(modules)
    cv2.setNumThreads(0)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    with logged_errors(), reading_once():
        set_up_logging(cfg.OUTPUT_DIR)
        log_and_seed(argument_parser().parse_args([]), config_text=cfg.dump(), seed=cfg.SEED)
        ensure_registered(cfg)
        require_registered([*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST])
        start = find_starting_point(cfg.OUTPUT_DIR, weights=cfg.MODEL.WEIGHTS, resume=True)
        TimedTrainer.complete(cfg, start)
        trainer = TimedTrainer(cfg)
        trainer.start_from(start)
    trainer.train()
    return trainer


def describe(trainer: TimedTrainer, specification: dict[str, Any]) -> dict[str, Any]:
    """The result of a run, without anything that identifies the machine's user or its paths."""
    provenance = trainer.provenance
    timing = trainer.timing
    return {
        "variant": specification["variant"],
        "overrides": specification["overrides"],
        "seed": trainer.cfg.SEED,
        "steps": trainer.max_iter,
        "batch": trainer.cfg.SOLVER.IMS_PER_BATCH,
        "parameters": sum(parameter.numel() for parameter in trainer.model.parameters()),
        "evaluations": evaluations(Path(trainer.cfg.OUTPUT_DIR)),
        "seconds": {
            "training": round(timing.wall, 1),
            "training_cpu": round(timing.cpu, 1),
            "run": round(timing.total, 1),
        },
        "machine": {
            **{key: value for key, value in machine_facts().items() if key in MACHINE},
            "device": trainer.cfg.MODEL.DEVICE,
            "threads": torch.get_num_threads(),
        },
        "commit": provenance["commit"],
        "versions": provenance["versions"],
        "data": {name: _digest(files) for name, files in provenance["data"].items()},
        "settings": specification["settings"],
    }


def evaluations(folder: Path) -> list[dict[str, Any]]:
    """The main metrics of each evaluation of a run, with the finished steps."""
    found = []
    for line in (folder / "training.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        known = {key: row[key] for key in row if key in KEPT and row[key] is not None}
        metrics = {key: round(value, 4) for key, value in known.items()}
        if metrics:
            found.append({"step": row["iteration"] + 1, **metrics})
    return found


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


if __name__ == "__main__":
    main()
