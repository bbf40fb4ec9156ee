"""The command: training, evaluation, error messages."""

import errno
import json
import logging
import math
import os
import re
import shutil
from argparse import Namespace
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from torch import Tensor

from yolor_d2.checkpoint.run_folder import RunFolder
from yolor_d2.engine.launch.arguments import argument_parser
from yolor_d2.engine.launch.processes import WRONG_USE
from yolor_d2.engine.main import main
from yolor_d2.engine.run import Run
from yolor_d2.engine.starting_point import StartingPoint
from yolor_d2.engine.trainer import Trainer, read_yacs
from yolor_d2.errors import DataError, line_of
from yolor_d2.modeling.meta_arch import YOLOR
from yolor_d2.toy_scenes.builtin import register_toy_scenes

from ..small_runs import Configure


def arguments(cfg: CfgNode, path: Path, *more: str) -> Namespace:
    path.write_text(cfg.dump())
    return argument_parser().parse_args(["--config-file", str(path), *more])


def complaint(caplog: pytest.LogCaptureFixture, args: Namespace, *, code: int = WRONG_USE) -> str:
    """The error message of a command that fails."""
    caplog.clear()
    # detectron2's loggers do not propagate, some after the first run in a process.
    logger = logging.getLogger("yolor_d2")
    logger.addHandler(caplog.handler)
    try:
        with pytest.raises(SystemExit) as stop:
            main(args)
    finally:
        logger.removeHandler(caplog.handler)
    assert stop.value.code == code
    (message,) = {r.getMessage() for r in caplog.records if r.levelno == logging.ERROR}
    assert "\n" not in message
    return message


def test_train_then_evaluate(configure: Configure, tmp_path: Path) -> None:
    """Evaluating the final weights returns the results at the end of the run."""
    overrides = ("SOLVER.MAX_ITER", 2, "TEST.EVAL_PERIOD", 2, "LOG.PICTURES", 2, "LOG.CURVES", True)
    cfg = configure("run", *overrides)
    results = main(arguments(cfg, tmp_path / "c.yaml"))

    folder = Path(cfg.OUTPUT_DIR)
    metrics = json.loads((folder / "metrics.json").read_text())
    wanted = {"bbox/AP", "segm/AP", "sem_seg/mIoU", "panoptic_seg/PQ", "caption/Bleu_4"}
    wanted |= {"caption/CIDEr", "caption/sixth_CIDEr"}
    assert wanted <= metrics.keys()
    files = {path.name for path in folder.iterdir()}
    assert {"config.yaml", "log.txt", "model_final.pth", "model_final.pth.sha256"} <= files
    assert {"metrics.csv", "training.jsonl", "curves.png", "tokenizer.model"} <= files
    assert {"provenance.json", "samples", "inference"} <= files

    weights = folder / "model_final.pth"
    again = arguments(
        configure("evaluation"), tmp_path / "d.yaml", "--eval-only", "MODEL.WEIGHTS", str(weights)
    )
    assert main(again).keys() == results.keys()
    evaluated = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())
    assert evaluated == metrics


@pytest.mark.parametrize(
    ("keys", "evaluations"),
    [((0, "DATASETS.TEST", ("engine_val",)), 1), ((0, "DATASETS.TEST", ()), 0), ((-1,), 0)],
)
def test_period_zero_evaluates_at_the_end(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, keys: tuple[Any, ...], evaluations: int
) -> None:
    """As in detectron2, and without test sets there is nothing to do."""
    finished = []

    def evaluate(run: Run) -> dict[str, Any]:
        finished.append(run.finished)
        return {"bbox": {"AP": 1.0}}

    monkeypatch.setattr(Run, "evaluate", evaluate)
    trainer = Trainer(configure("run", "SOLVER.MAX_ITER", 2, "TEST.EVAL_PERIOD", *keys))
    trainer.train()
    assert finished == [2] * evaluations


def test_missing_gpu_is_one_warning(
    configure: Configure,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for device, expected in (("cuda", 1), ("cpu", 0)):
        overrides = ("SOLVER.MAX_ITER", 0, "MODEL.DEVICE", device)
        args = arguments(configure(device, *overrides), tmp_path / "c.yaml")
        start = StartingPoint()
        logging.getLogger("yolor_d2").addHandler(caplog.handler)
        try:
            caplog.clear()
            read_yacs(args).parts(start)
        finally:
            logging.getLogger("yolor_d2").removeHandler(caplog.handler)
        warnings = [m for m in caplog.messages if "there is no GPU: the CPU is used" in m]
        assert len(set(warnings)) == expected


def test_numbers_of_evaluators_and_data_sets_must_be_equal(configure: Configure) -> None:
    cfg = configure("run")
    with pytest.raises(ValueError, match=r"DATASETS\.TEST has 1 data sets, but there are 2 eval"):
        Trainer.test(cfg, torch.nn.Linear(1, 1), [DatasetEvaluator(), DatasetEvaluator()])
    with pytest.raises(ValueError, match="there are 0 evaluators"):
        Trainer.test(cfg, torch.nn.Linear(1, 1), [])


def test_refusals(configure: Configure, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "c.yaml"
    cfg = configure("run", "SOLVER.MAX_ITER", 1)

    def refusal(*more: str, cfg: CfgNode = cfg) -> str:
        return complaint(caplog, arguments(cfg, file, *more))

    assert "SOLVER.BASE_RL" in refusal("SOLVER.BASE_RL", "1")
    misspelt = "there is no data set engine_trian; did you mean engine_train?"
    assert refusal("DATASETS.TRAIN", "('engine_trian',)") == line_of(DataError(misspelt))
    assert "no data set engine_vla; did" in refusal(
        "--eval-only", "DATASETS.TEST", "('engine_vla',)"
    )
    assert "no_such.pth" in refusal("MODEL.WEIGHTS", str(tmp_path / "no_such.pth"))
    assert "no_such.pth" in refusal("--eval-only", "MODEL.WEIGHTS", str(tmp_path / "no_such.pth"))
    assert "MODEL.WEIGHTS is empty" in refusal("--eval-only")
    assert "MODEL.DETECTION_HEAD.NUM_CLASSES is 3" in refusal(
        "MODEL.DETECTION_HEAD.NUM_CLASSES", "3"
    )
    (tmp_path / "foreign.pth").write_text("<html>")
    assert "foreign.pth" in refusal("MODEL.WEIGHTS", str(tmp_path / "foreign.pth"))
    (tmp_path / "taken").write_text("a file")
    assert "taken" in refusal("OUTPUT_DIR", str(tmp_path / "taken"))


def test_existing_run_is_not_overwritten(
    configure: Configure, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = configure("run", "SOLVER.MAX_ITER", 1)
    file = tmp_path / "c.yaml"
    main(arguments(cfg, file))
    assert "has a run already" in complaint(caplog, arguments(cfg, file))
    slower = ("--resume", "SOLVER.BASE_LR", "0.5")
    message = complaint(caplog, arguments(cfg, file, *slower))
    assert "has a run of another configuration: SOLVER.BASE_LR 0.001 -> 0.5" in message
    main(arguments(cfg, file, "--resume", "DATALOADER.NUM_WORKERS", "0"))  # nothing left to do
    inside = ("--overwrite", "MODEL.WEIGHTS", str(Path(cfg.OUTPUT_DIR) / "model_final.pth"))
    assert "which --overwrite empties" in complaint(caplog, arguments(cfg, file, *inside))
    main(arguments(cfg, file, "--overwrite"))
    main(arguments(cfg, file, "--allow-config-change", *slower))


def test_other_classes(configure: Configure, tmp_path: Path, caplog: Any) -> None:
    """Weights of another number of classes: mismatches are logged, other weights are loaded."""
    first = configure("first", "SOLVER.MAX_ITER", 1)
    main(arguments(first, tmp_path / "a.yaml"))
    weights = str(Path(first.OUTPUT_DIR) / "model_final.pth")
    more = ("MODEL.DETECTION_HEAD.NUM_CLASSES", "12", "MODEL.WEIGHTS", weights)
    second = configure("second", "SOLVER.MAX_ITER", 1)
    main(arguments(second, tmp_path / "b.yaml", *more))
    log = (Path(second.OUTPUT_DIR) / "log.txt").read_text()
    assert "detection_head.class_predictors" in log
    message = complaint(
        caplog, arguments(configure("third"), tmp_path / "c.yaml", "--eval-only", *more)
    )
    assert "MODEL.DETECTION_HEAD.NUM_CLASSES" in message


def test_determinism_is_switched_on(configure: Configure, tmp_path: Path) -> None:
    try:
        cfg = configure("run", "SOLVER.MAX_ITER", 1)
        main(arguments(cfg, tmp_path / "c.yaml", "--deterministic"))
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("workers", [0, 2])
def test_too_many_broken_images(
    toy_root: Path,
    configure: Configure,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    workers: int,
) -> None:
    """One line; the samples that are drawn first add none."""
    (tmp_path / "toys/train").mkdir(parents=True)
    (tmp_path / "toys/annotations").symlink_to(toy_root / "toy_scenes/annotations")
    register_toy_scenes("no_images", tmp_path / "toys", "train")
    try:
        cfg = configure("run", "DATALOADER.NUM_WORKERS", workers, "LOG.PICTURES", 2)
        args = arguments(cfg, tmp_path / "c.yaml", "DATASETS.TRAIN", "('no_images',)")
        message = complaint(caplog, args)
    finally:
        for name in ("no_images", "no_images_panoptic"):
            DatasetCatalog.pop(name, None)
            MetadataCatalog.pop(name, None)
    listed = f"{tmp_path / 'run/bad_files.txt'} lists them"
    assert re.match(rf"\d of 14 images cannot be used, more than 5%, such as .*{listed}: ", message)
    output = "".join(capfd.readouterr())
    assert "Traceback" not in output
    assert output.count("cannot be used, more than") == 1
    assert "Traceback" in (tmp_path / "run/log.txt").read_text()


def test_a_log_file_on_a_full_disk(
    configure: Configure, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A line on the terminal, not one for each record."""
    cfg = configure("run", "SOLVER.MAX_ITER", 2)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/log.txt").symlink_to("/dev/full")
    main(arguments(cfg, tmp_path / "c.yaml"))
    assert (tmp_path / "run/model_final.pth").is_file()
    output, errors = capfd.readouterr()
    assert errors.count("No space left on device") == 1
    assert "Logging error" not in errors
    assert "step 1 of 2" in output


def test_results_on_a_full_disk(
    configure: Configure,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    main(arguments(configure("run", "SOLVER.MAX_ITER", 1), tmp_path / "c.yaml"))
    weights = str(tmp_path / "run/model_final.pth")
    args = arguments(
        configure("full"), tmp_path / "d.yaml", "--eval-only", "MODEL.WEIGHTS", weights
    )

    def fill_disk(source: Path, target: Path) -> None:
        if target.name == "metrics.json":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rename(source, target)

    rename = os.replace
    monkeypatch.setattr(os, "replace", fill_disk)
    message = complaint(caplog, args, code=1)
    assert re.match(rf"{tmp_path}/full/\S+: No space left on device; free some space", message)
    assert message.endswith(" [DISK: docs/troubleshooting.md#disk]")


def poison(monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Tensor], Tensor]) -> None:
    """Apply a function to the losses from the second step on."""
    compute = YOLOR.training_losses
    calls = count()

    def spoiled(model: YOLOR, *arguments: Any) -> dict[str, Tensor]:
        losses = compute(model, *arguments)
        return losses if next(calls) < 1 else {n: spoil(loss) for n, loss in losses.items()}

    monkeypatch.setattr(YOLOR, "training_losses", spoiled)


def run_out_of_memory(loss: Tensor) -> Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has ...")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (run_out_of_memory, ("Tried to allocate 2.00 GiB)", "IMS_PER_BATCH 2 with", "STEPS 2")),
        (lambda loss: loss * math.nan, ("step 1 is not finite", "nonfinite_0000001_rank0.json")),
    ],
    ids=["memory", "not finite"],
)
def test_fatal_error_is_logged_once(
    configure: Configure,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    spoil: Callable[[Tensor], Tensor],
    words: tuple[str, ...],
) -> None:
    """One line, with the traceback in the log file, and a folder that can be resumed from."""
    poison(monkeypatch, spoil)
    cfg = configure("run", "SOLVER.CHECKPOINT_PERIOD", 1)
    message = complaint(caplog, arguments(cfg, tmp_path / "c.yaml"), code=1)
    for word in words:
        assert word in message
    folder = Path(cfg.OUTPUT_DIR)
    log = (folder / "log.txt").read_text()
    assert log.count(f"ERROR: {message}") == 1
    assert "Traceback" in log
    assert "Traceback" not in "".join(capfd.readouterr())
    assert [path.name for path in folder.glob("*.pth")] == ["model_0000000.pth"]


def test_evaluate_the_last_checkpoint(
    configure: Configure, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of the run in OUTPUT_DIR with its own tokenizer; MODEL.WEIGHTS if there is no run."""
    cfg = configure("run", "SOLVER.MAX_ITER", 2, "TEST.EVAL_PERIOD", 2)
    folder, file = Path(cfg.OUTPUT_DIR), tmp_path / "c.yaml"
    nothing = ("--eval-only", "--resume")
    assert "MODEL.WEIGHTS is empty" in complaint(caplog, arguments(cfg, file, *nothing))
    main(arguments(cfg, file))
    wanted = json.loads((folder / "metrics.json").read_text())
    assert any(name.startswith("caption/") for name in wanted)
    final = shutil.copy(folder / "model_final.pth", tmp_path / "weights.pth")
    (folder / "model_final.pth").write_text("no checkpoint")
    for name in ("metrics.json", "tokenizer.model"):
        (folder / name).unlink()

    others = ("MODEL.WEIGHTS", str(tmp_path / "not_there.pth"), "TOKENIZER.VOCAB_SIZE", "45")
    main(arguments(cfg, file, *nothing, *others))
    assert json.loads((folder / "metrics.json").read_text()) == wanted
    assert "evaluating" in (folder / "log.txt").read_text()
    assert RunFolder(folder).latest()[1]["iteration"] == 2

    empty = configure("empty")
    main(arguments(empty, file, *nothing, "MODEL.WEIGHTS", str(final)))
    assert json.loads((tmp_path / "empty/metrics.json").read_text()) == wanted
