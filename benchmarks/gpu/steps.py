"""Training steps of the run's own loop on synthetic samples."""

import copy
from itertools import cycle
from typing import Any

from detectron2.utils.events import EventStorage

from yolor_d2.engine.optim.optimizer import make_optimizer
from yolor_d2.engine.options import RunOptions
from yolor_d2.engine.parallel import parallelize, prepare_for_training
from yolor_d2.engine.step import TrainStep

from ..model_inputs import training_samples
from ..model_setting import Setting


def run_options(setting: Setting, **options: Any) -> RunOptions:
    """Options of a run like those of configs/Base-YOLOR.yaml; on a CPU in single precision."""
    base: dict[str, Any] = {
        "output_dir": "",
        "max_iter": 2**31,
        "precision": "bf16",
        "clip_type": "norm",
        "clip_value": 10.0,
        "ema_decay": 0.9999,
        "channels_last": True,
    }
    return RunOptions(**(base | options)).on(setting.device.type)


def make_step(
    setting: Setting, *, batch: int, optimizer: str = "AdamW", **options: Any
) -> TrainStep:
    """A step with the same samples each time, of a copy of the network."""
    run = run_options(setting, **options)
    model = prepare_for_training(
        copy.deepcopy(setting.model).train(),
        sync_bn=run.sync_bn,
        channels_last=run.channels_last,
        activation_checkpointing=run.activation_checkpointing,
        compile=run.compile,
        compile_mode=run.compile_mode,
    )
    step = TrainStep(
        model=parallelize(model),
        optimizer=make_optimizer(model, name=optimizer, lr=1e-4, weight_decay=0.05),
        schedule=None,
        options=run,
    )
    step.batches = cycle([training_samples(setting, batch)])
    step.iter = 0
    step.storage = EventStorage(0)
    return step
