"""The batch size that fits into memory, found by trial steps."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.utils import comm

from yolor_d2.data.loading.sets import TrainingSet
from yolor_d2.engine import batch_size
from yolor_d2.engine.batch_size import TrialStep, largest_batch, largest_size
from yolor_d2.engine.main import main
from yolor_d2.engine.optim.optimizer import make_optimizer
from yolor_d2.engine.options import RunOptions
from yolor_d2.engine.rng_state import random_state
from yolor_d2.engine.trainer import Trainer
from yolor_d2.modeling.objects import TeacherOutputs
from yolor_d2.modeling.views import View

from ..modeling.factory import random_batch, tiny_model
from ..small_runs import Configure
from .test_interruption import final_state
from .test_lazy import run_lazy
from .test_main import arguments, complaint
from .test_resume import assert_equal

SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
FITS = 3  # images, on the pretended GPU below
ERROR = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.fixture
def small_gpu(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Pretends that the device has memory for FITS images; the list gets the sizes of all steps."""
    sizes: list[int] = []
    step = TrialStep.step

    def limited_step(trial: TrialStep, batch: Any) -> None:
        sizes.append(len(batch))
        if len(batch) > FITS:
            raise ERROR
        step(trial, batch)

    monkeypatch.setattr(TrialStep, "step", limited_step)
    monkeypatch.setattr(batch_size, "has_own_memory", lambda device: True)
    monkeypatch.setattr(batch_size, "leaves_margin", lambda device: True)
    return sizes


@pytest.mark.parametrize("memory", range(35))
@pytest.mark.parametrize("limit", [1, 7, 24, 1000])
def test_largest_size(memory: int, limit: int) -> None:
    tried: list[int] = []

    def fits(size: int) -> bool:
        tried.append(size)
        return size <= memory

    possible = [size for size in SIZES if size <= min(memory, limit)]
    assert largest_size(fits, limit=limit) == max(possible, default=0)
    assert max(tried) <= min(max(2 * memory, 1), limit)
    assert len(tried) <= 8


def test_time_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """A size is not tried after 60 seconds, which end while 8 images are tried."""
    clock = itertools.count(step=14.0)
    monkeypatch.setattr(batch_size.time, "monotonic", lambda: next(clock))
    assert largest_size(lambda size: True, limit=1000) == 8


def trial_of(model: torch.nn.Module, **options: Any) -> TrialStep:
    return TrialStep(
        model,
        lambda prepared: make_optimizer(prepared, name="AdamW", lr=1.0, weight_decay=0.1),
        RunOptions(output_dir="", max_iter=1, **options),
        random_batch(),
    )


def test_a_trial_leaves_weights_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """The optimizer's state and gradients are those of a real step all the same."""
    monkeypatch.setattr(batch_size, "leaves_margin", lambda device: True)
    model = tiny_model(("detection", "caption"))
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    trial = trial_of(model, accum_steps=2, ema_decay=0.9, clip_type="norm", clip_value=1.0)
    assert trial(3)
    assert_equal(dict(model.named_parameters()), before)
    assert any(state["exp_avg"].any() for state in trial.optimizer.state.values())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_trial_includes_the_teacher(small_gpu: list[int]) -> None:
    """Its forward pass takes memory as well."""
    model, views = tiny_model(("detection",)), []

    def teacher(view: View) -> TeacherOutputs:
        views.append(view)
        return TeacherOutputs()

    size = largest_batch(
        model=lambda: model,
        optimizer=lambda prepared: make_optimizer(prepared, lr=1.0, weight_decay=0.1),
        options=RunOptions(output_dir="", max_iter=1),
        loader=lambda: [random_batch()],
        device="cpu",
        teacher=lambda taught: teacher if taught is model else None,
    )
    assert size == FITS
    assert {len(view.images) for view in views} == set(range(1, FITS + 1))


def test_a_size_without_a_margin_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    for free, fits in ((9, False), (10, True)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 100))
        assert trial_of(tiny_model(("detection",)))(1) is fits


def test_errors_other_than_memory_are_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = trial_of(tiny_model(("detection",)))
    for error, is_raised in ((ERROR, False), (RuntimeError("shape"), True)):
        monkeypatch.setattr(trial, "model", lambda batch, error=error: throw(error))
        if is_raised:
            with pytest.raises(RuntimeError, match="shape"):
                trial(1)
        else:
            assert trial(1) is False


def throw(error: Exception) -> None:
    raise error


def test_processes_try_on_their_own_and_take_the_smallest(
    configure: Configure, small_gpu: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No process group exists here, so that any exchange between processes would fail."""
    parts = Trainer.parts_of(Trainer(configure("run")).cfg)
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(comm, "all_gather", lambda value: [value, 2 if value == FITS else value])
    found = largest_batch(
        model=parts.model,
        optimizer=parts.optimizer,
        options=parts.options,
        loader=lambda: parts.data.train_loader(0),
        device="cpu",
    )
    assert found == 2 * 2
    assert set(small_gpu) == {1, 2, 3, 4}


def test_the_state_of_random_generators_is_kept(configure: Configure, small_gpu: list[int]) -> None:
    parts = Trainer.parts_of(Trainer(configure("run")).cfg)
    before = random_state()
    assert parts.largest_batch(device="cpu") == FITS
    assert_equal(random_state(), before)


def test_images_with_the_most_objects_are_tried(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = Trainer(configure("run")).data_loader.dataset
    assert isinstance(dataset, TrainingSet)
    counts = [len(record["annotations"]) for record in dataset.records]
    hardest = dataset.hardest(3)
    numbers = {
        record["image_id"]: count for record, count in zip(dataset.records, counts, strict=True)
    }
    assert [numbers[s["image_id"]] for s in hardest] == sorted(counts, reverse=True)[:3]


def test_run_equals_that_of_the_number_found(
    configure: Configure, small_gpu: list[int], tmp_path: Path
) -> None:
    """Bit for bit; the number is saved, and a resumed run keeps it without trials."""
    for name, number in (("auto", 0), ("given", FITS)):
        cfg = configure(name, "SOLVER.IMS_PER_BATCH", number, "SOLVER.MAX_ITER", 2, "SEED", 3)
        main(arguments(cfg, tmp_path / f"{name}.yaml"))
    assert_equal(final_state(tmp_path / "auto"), final_state(tmp_path / "given"))
    texts = [(tmp_path / name / "config.yaml").read_text() for name in ("auto", "given")]
    assert texts[0].replace("/auto", "/given") == texts[1]

    small_gpu.clear()
    main(
        arguments(
            configure("auto", "SOLVER.IMS_PER_BATCH", 0, "SOLVER.MAX_ITER", 2, "SEED", 3),
            tmp_path / "auto.yaml",
            "--resume",
        )
    )
    assert not small_gpu


def test_evaluation_needs_no_batch(
    configure: Configure, small_gpu: list[int], tmp_path: Path
) -> None:
    cfg = configure("run", "SOLVER.MAX_ITER", 1)
    main(arguments(cfg, tmp_path / "c.yaml"))
    cfg = configure("other", "SOLVER.IMS_PER_BATCH", 0)
    weights = ("--eval-only", "MODEL.WEIGHTS", str(tmp_path / "run/model_final.pth"))
    assert main(arguments(cfg, tmp_path / "d.yaml", *weights))
    assert not small_gpu


def test_no_room_for_a_single_image(
    configure: Configure,
    small_gpu: list[int],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batch_size, "leaves_margin", lambda device: False)
    args = arguments(configure("run", "SOLVER.IMS_PER_BATCH", 0), tmp_path / "c.yaml")
    assert "a single image does not fit into memory" in complaint(caplog, args)


def test_lazy_run(toy_sets: tuple[str, str], tmp_path: Path, small_gpu: list[int]) -> None:
    for name, number in (("auto", 0), ("given", FITS)):
        run_lazy(toy_sets, tmp_path / name, "pan", "run.max_iter=1", f"data.batch_size={number}")
    assert_equal(final_state(tmp_path / "auto"), final_state(tmp_path / "given"))
    small_gpu.clear()
    options = ("run.max_iter=1", "data.batch_size=0")
    run_lazy(toy_sets, tmp_path / "auto", "pan", *options, flags=["--resume"])
    assert not small_gpu


def test_constant_on_a_cpu(configure: Configure) -> None:
    """Also for Trainer, from a frozen configuration, which it leaves as it is."""
    cfg = configure("run", "SOLVER.IMS_PER_BATCH", 0, "MODEL.YOLOR.TASKS", ["detection"])
    cfg.freeze()
    trainer = Trainer(cfg)
    assert (trainer.cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.IMS_PER_BATCH) == (8, 0)
    assert len(next(iter(trainer.data_loader))) == 8


def test_loaders_of_other_projects(small_gpu: list[int]) -> None:
    """Their first batch is tried."""

    def batches() -> Iterator[Any]:
        yield random_batch()

    found = largest_batch(
        model=lambda: tiny_model(("detection",)),
        optimizer=lambda prepared: make_optimizer(prepared, name="AdamW", lr=1.0, weight_decay=0.0),
        options=RunOptions(output_dir="", max_iter=1),
        loader=batches,
        device="cpu",
        most=2,
    )
    assert found == 2
