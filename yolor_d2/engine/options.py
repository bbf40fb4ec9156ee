"""What a run is told besides its model, its data and its optimiser."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from detectron2.config import CfgNode
from torch import Tensor, nn

from ..checks import check_choice, check_range
from .optim.optimizer import clip_gradients
from .step import PRECISIONS


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """As the keys of the same names in yolor_d2/config.py explain; 0 and "" are off."""

    output_dir: str
    max_iter: int
    accum_steps: int = 1
    precision: str = ""  # "", "bf16", "fp16"
    clip_type: str = ""  # "", "norm" of all gradients together, "value"
    clip_value: float = 0.0
    clip_norm_type: float = 2.0
    ema_decay: float = 0.0  # 0: no running mean of the weights
    ema_tau: float = 2000.0
    freeze: Sequence[str] = ()
    nonfinite: str = "stop"
    max_skipped: int = 10
    channels_last: bool = False
    compile: bool = False
    sync_bn: bool = False
    checkpoint_period: int = 5000
    checkpoint_keep: int = 2
    eval_period: int = 0
    eval_weights: str = "ema"
    loss_period: int = 0
    loss_images: int = 0
    best_metric: str = ""
    best_mode: str = "max"
    stop_metric: str = ""
    stop_mode: str = "max"
    stop_patience: int = 5
    log_period: int = 20
    task_gradient_period: int = 0
    pictures: int = 0
    curves: bool = True
    wandb: bool = False
    max_data_wait: float = 0.1

    def __post_init__(self) -> None:
        if self.clip_type:
            check_choice("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", self.clip_type, ("norm", "value"))
        check_choice("TEST.WEIGHTS", self.eval_weights, ("ema", "raw"))
        check_range("SOLVER", {"CHECKPOINT_PERIOD": self.checkpoint_period}, low=1)
        check_range("LOG", {"PERIOD": self.log_period}, low=1)

    def clip(self, parameters: Iterable[nn.Parameter]) -> Tensor:
        """Clip gradients in place; their norm before."""
        return clip_gradients(
            parameters,
            kind=self.clip_type or None,
            value=self.clip_value,
            norm_type=self.clip_norm_type,
        )

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "RunOptions":
        solver, test, log, model = cfg.SOLVER, cfg.TEST, cfg.LOG, cfg.MODEL.YOLOR
        clip = solver.CLIP_GRADIENTS
        on_cpu = cfg.MODEL.DEVICE == "cpu"
        # Also where it has no effect: the same configuration may go to a GPU.
        check_choice("SOLVER.AMP.DTYPE", solver.AMP.DTYPE, [name for name in PRECISIONS if name])
        values: dict[str, Any] = {
            "output_dir": cfg.OUTPUT_DIR,
            "max_iter": solver.MAX_ITER,
            "accum_steps": solver.ACCUM_STEPS,
            # CPUs are faster without.
            "precision": solver.AMP.DTYPE if solver.AMP.ENABLED and not on_cpu else "",
            "clip_type": clip.CLIP_TYPE if clip.ENABLED else "",
            "clip_value": clip.CLIP_VALUE,
            "clip_norm_type": clip.NORM_TYPE,
            "ema_decay": solver.EMA.DECAY if solver.EMA.ENABLED else 0.0,
            "ema_tau": solver.EMA.TAU,
            "freeze": solver.FREEZE,
            "nonfinite": solver.NONFINITE,
            "max_skipped": solver.MAX_SKIPPED,
            "channels_last": model.CHANNELS_LAST,
            "compile": model.COMPILE,
            "sync_bn": model.SYNC_BN,
            "checkpoint_period": solver.CHECKPOINT_PERIOD,
            "checkpoint_keep": solver.CHECKPOINT_KEEP,
        }
        values |= {
            "eval_period": test.EVAL_PERIOD,
            "eval_weights": test.WEIGHTS,
            "loss_period": test.LOSS_PERIOD,
            "loss_images": test.LOSS_IMAGES,
            "best_metric": test.BEST.METRIC,
            "best_mode": test.BEST.MODE,
            "stop_metric": test.EARLY_STOP.METRIC,
            "stop_mode": test.EARLY_STOP.MODE,
            "stop_patience": test.EARLY_STOP.PATIENCE,
            "log_period": log.PERIOD,
            "task_gradient_period": log.TASK_GRADIENTS,
            "pictures": log.PICTURES,
            "curves": log.CURVES,
            "wandb": log.WANDB,
            "max_data_wait": log.MAX_DATA_WAIT,
        }
        return cls(**values)


def run_options(**values: Any) -> RunOptions:
    """RunOptions for a LazyConfig, which cannot write down calls of dataclasses."""
    return RunOptions(**values)
