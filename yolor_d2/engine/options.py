"""The options of a run, each with the configuration key that sets it."""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from functools import reduce
from typing import Any

from detectron2.config import CfgNode
from torch import Tensor, nn

from ..checks import check_choice
from ..errors import ConfigError
from .cpu_setting import CHOICES, multiplies_bf16
from .optim.optimizer import clip_gradients

PRECISIONS = ("bf16", "fp16")
COMPILE_MODES = ("default", "reduce-overhead", "max-autotune")


def option(
    key: str, default: Any = dataclasses.MISSING, *, switch: str = "", may_change: bool = False
) -> Any:
    """A field of RunOptions.

    Args:
        key: in yolor_d2/config/, where a comment explains it.
        default: of LazyConfigs; 0 and "" are off.
        switch: a key that must be true for the value to be used.
        may_change: whether a resumed run can have another value; True where training is the same.
    """
    return field(default=default, metadata={"key": key, "switch": switch, "may_change": may_change})


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options of a run; a LazyConfig sets them as run.<field>, a *.yaml by their keys."""

    output_dir: str = option("OUTPUT_DIR", may_change=True)
    max_iter: int = option("SOLVER.MAX_ITER")
    max_minutes: float = option("SOLVER.MAX_MINUTES", 0.0, may_change=True)
    accum_steps: int = option("SOLVER.ACCUM_STEPS", 1)
    precision: str = option("SOLVER.AMP.DTYPE", "", switch="SOLVER.AMP.ENABLED")
    clip_type: str = option(
        "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "", switch="SOLVER.CLIP_GRADIENTS.ENABLED"
    )
    clip_value: float = option("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", 0.0)
    clip_norm_type: float = option("SOLVER.CLIP_GRADIENTS.NORM_TYPE", 2.0)
    clip_full_model: bool = option("SOLVER.CLIP_GRADIENTS.FULL_MODEL", True)
    ema_decay: float = option("SOLVER.EMA.DECAY", 0.0, switch="SOLVER.EMA.ENABLED")
    ema_tau: float = option("SOLVER.EMA.TAU", 2000.0)
    loss_factors: Sequence[Sequence[Any]] = option("SOLVER.LOSS_FACTORS", ())
    gradient_shares: Sequence[Sequence[Any]] = option("SOLVER.GRADIENT_SHARES", ())
    freeze: Sequence[str] = option("SOLVER.FREEZE", ())
    teacher_weights: str = option("SOLVER.TEACHER.WEIGHTS", "", may_change=True)  # has a checksum
    teacher_tasks: Sequence[str] = option("SOLVER.TEACHER.TASKS", ())
    teacher_score_thresh: float = option("SOLVER.TEACHER.SCORE_THRESH", 0.3)
    nonfinite: str = option("SOLVER.NONFINITE", "stop", may_change=True)
    max_skipped: int = option("SOLVER.MAX_SKIPPED", 10, may_change=True)
    cpu: str = option("SOLVER.CPU", "processor")
    channels_last: bool = option("MODEL.YOLOR.CHANNELS_LAST", False)
    activation_checkpointing: bool = option(
        "MODEL.YOLOR.ACTIVATION_CHECKPOINTING", False, may_change=True
    )
    compile: bool = option("MODEL.YOLOR.COMPILE", False, may_change=True)
    compile_mode: str = option("MODEL.YOLOR.COMPILE_MODE", "default", may_change=True)
    sync_bn: bool = option("MODEL.YOLOR.SYNC_BN", False)
    checkpoint_period: int = option("SOLVER.CHECKPOINT_PERIOD", 5000, may_change=True)
    checkpoint_keep: int = option("SOLVER.CHECKPOINT_KEEP", 2, may_change=True)
    eval_period: int = option("TEST.EVAL_PERIOD", 0, may_change=True)
    eval_weights: str = option("TEST.WEIGHTS", "ema", may_change=True)
    expected_results: Sequence[Sequence[Any]] = option("TEST.EXPECTED_RESULTS", (), may_change=True)
    loss_period: int = option("TEST.LOSS_PERIOD", 0, may_change=True)
    loss_images: int = option("TEST.LOSS_IMAGES", 0, may_change=True)
    best_metric: str = option("TEST.BEST.METRIC", "", may_change=True)
    best_mode: str = option("TEST.BEST.MODE", "max", may_change=True)
    stop_metric: str = option("TEST.EARLY_STOP.METRIC", "", may_change=True)
    stop_mode: str = option("TEST.EARLY_STOP.MODE", "max", may_change=True)
    stop_patience: int = option("TEST.EARLY_STOP.PATIENCE", 5, may_change=True)
    log_period: int = option("LOG.PERIOD", 20, may_change=True)
    task_gradient_period: int = option("LOG.TASK_GRADIENTS", 0, may_change=True)
    pictures: int = option("LOG.PICTURES", 0, may_change=True)
    curves: bool = option("LOG.CURVES", True, may_change=True)
    wandb: bool = option("LOG.WANDB", False, may_change=True)
    max_data_wait: float = option("LOG.MAX_DATA_WAIT", 0.1, may_change=True)

    def __post_init__(self) -> None:
        choices = {
            "nonfinite": ("stop", "skip"),
            "eval_weights": ("ema", "raw"),
            "compile_mode": COMPILE_MODES,
            "cpu": CHOICES,
        }
        if self.precision:
            choices["precision"] = PRECISIONS
        if self.clip_type:
            choices["clip_type"] = ("norm", "value")
        for name, allowed in choices.items():
            check_choice(self.key(name), getattr(self, name), allowed)
        if self.clip_type and self.clip_value <= 0:
            name = self.key("clip_value")
            raise ConfigError(f"{name} is {self.clip_value}; it must be positive")
        if self.activation_checkpointing and self.compile:
            raise ConfigError(
                f"{self.key('activation_checkpointing')} and {self.key('compile')} exclude each "
                "other: compiled code chooses itself what to compute again"
            )
        for name in ("accum_steps", "checkpoint_period", "log_period"):
            value = getattr(self, name)
            if value < 1:
                raise ConfigError(f"{self.key(name)} is {value}; it must be at least 1")
        if self.max_minutes < 0:
            name = self.key("max_minutes")
            raise ConfigError(f"{name} is {self.max_minutes}; it must not be negative")
        if not 0 <= self.teacher_score_thresh <= 1:
            name = self.key("teacher_score_thresh")
            raise ConfigError(f"{name} is {self.teacher_score_thresh}; it must be between 0 and 1")

    def key(self, name: str) -> str:
        """The configuration key of a field, for messages."""
        return f"run.{name}"

    def on(self, device: str) -> "RunOptions":
        """The same options on a device: on a CPU, SOLVER.CPU sets precision and layout."""
        if device != "cpu":
            return self
        obeys_keys = self.cpu == "keys"
        is_half = self.precision == "bf16" and (obeys_keys or multiplies_bf16())
        return dataclasses.replace(
            self,
            precision="bf16" if is_half else "",
            channels_last=self.channels_last or not obeys_keys,
        )

    def clip(self, parameters: Iterable[nn.Parameter]) -> Tensor:
        """Clip gradients in place; return their norm before clipping."""
        return clip_gradients(
            parameters,
            kind=self.clip_type or None,
            value=self.clip_value,
            norm_type=self.clip_norm_type,
            full_model=self.clip_full_model,
        )

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "RunOptions":
        # Checked even if AMP is off: the same configuration may be used on a GPU.
        check_choice("SOLVER.AMP.DTYPE", cfg.SOLVER.AMP.DTYPE, PRECISIONS)
        values = {
            each.name: read_key(cfg, each.metadata["key"])
            for each in fields(cls)
            if not each.metadata["switch"] or read_key(cfg, each.metadata["switch"])
        }
        return YacsRunOptions(**values).on(cfg.MODEL.DEVICE)


class YacsRunOptions(RunOptions):
    """Options from a *.yaml, which messages name by its keys."""

    def key(self, name: str) -> str:
        return KEYS[name]


# The key of each field.
KEYS: dict[str, str] = {each.name: each.metadata["key"] for each in fields(RunOptions)}
# Fields whose values can differ when a run is resumed.
MAY_CHANGE = [each.name for each in fields(RunOptions) if each.metadata["may_change"]]


def read_key(cfg: CfgNode, key: str) -> Any:
    """The value of a key such as "SOLVER.MAX_ITER"."""
    return reduce(getattr, key.split("."), cfg)


def run_options(**values: Any) -> RunOptions:
    """RunOptions for a LazyConfig, which cannot write down calls of dataclasses."""
    return RunOptions(**values)
