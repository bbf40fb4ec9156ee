"""Advice when memory runs out."""

import re

import pytest
import torch

from yolor_d2.engine import lazy, trainer
from yolor_d2.engine.batch_size import is_out_of_memory
from yolor_d2.engine.hooks import explain_out_of_memory
from yolor_d2.engine.parts import MemorySettings

ERROR = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has ...")


def advice(
    *,
    batch: int = 16,
    accum: int = 1,
    canvas: int = 640,
    amp: bool = False,
    checkpointing: bool = True,
    processes: int = 1,
    settings: MemorySettings = trainer.MEMORY_SETTINGS,
) -> str:
    return explain_out_of_memory(
        ERROR,
        batch=batch,
        accum=accum,
        canvas=canvas,
        amp=amp,
        checkpointing=checkpointing,
        processes=processes,
        settings=settings,
    )


def test_advice_is_one_paragraph_with_the_reason() -> None:
    text = advice()
    assert "\n" not in text
    assert "16 images of 640 px" in text
    assert "Tried to allocate 2.00 GiB)" in text
    assert "SOLVER.AMP.ENABLED True" in text
    assert "INPUT.STRONG.SIZE 480 INPUT.WEAK.SIZE 480, for 56% of the memory" in text


def test_activation_checkpointing_is_advised_where_it_is_off() -> None:
    assert "MODEL.YOLOR.ACTIVATION_CHECKPOINTING True, which" in advice(checkpointing=False)
    text = advice(checkpointing=False, settings=lazy.MEMORY_SETTINGS)
    assert "run.activation_checkpointing=True, which" in text
    assert "CHECKPOINTING" not in advice()


def test_advice_for_a_lazy_config_has_its_names() -> None:
    text = advice(settings=lazy.MEMORY_SETTINGS)
    assert "data.batch_size=8 with run.accum_steps=2, for" in text
    assert "run.precision=bf16, which" in text
    assert "train_mapper.strong.size=480 train_mapper.weak_size=480, for 56%" in text
    assert not re.search(r"SOLVER|INPUT", text)


@pytest.mark.parametrize(
    ("batch", "accum", "processes", "expected"),
    [
        (16, 1, 1, (8, 2)),
        (16, 2, 4, (8, 4)),
        (9, 1, 1, (3, 3)),
        (5, 1, 1, (1, 5)),
        (12, 1, 4, (4, 3)),  # three images per process
    ],
)
def test_advice_keeps_images_per_step(
    batch: int, accum: int, processes: int, expected: tuple[int, int]
) -> None:
    text = advice(batch=batch, accum=accum, processes=processes)
    found = re.search(r"IMS_PER_BATCH (\d+) with SOLVER.ACCUM_STEPS (\d+)", text)
    assert found is not None
    assert (int(found[1]), int(found[2])) == expected
    assert expected[0] * expected[1] == batch * accum
    assert expected[0] % processes == 0


def test_advice_without_effect_is_omitted() -> None:
    text = advice(batch=4, processes=4, amp=True)
    assert "IMS_PER_BATCH" not in text
    assert "AMP" not in text
    assert "INPUT.STRONG.SIZE" in text


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ERROR, True),
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ..."), True),
        (RuntimeError("shapes do not fit"), False),
        (ValueError("can't allocate memory"), False),
    ],
)
def test_out_of_memory_errors(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected
