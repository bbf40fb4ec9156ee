"""A training run: the steps, what hangs on them, and everything that is needed to go on later."""

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import HookBase, TrainerBase
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import nn

from ..checkpoint.provenance import write_provenance
from ..checkpoint.run_folder import RunFolder
from ..checkpoint.saving import CheckpointError, load_checkpoint
from ..modeling import deploy
from ..tokenizer import Tokenizer
from .config_diff import config_changes
from .evaluation import Results
from .hooks.evaluation import Judges
from .last_checkpoint import last_checkpoint
from .launch import signals
from .optim.ema import ModelEMA
from .optim.optimizer import load_by_names, names_of
from .optim.schedule import Schedule
from .options import RunOptions
from .parallel import prepare, share_state, unwrap, wrap
from .rewards import CaptionReward
from .rng_state import random_state, set_random_state
from .step import Batch, TrainStep

logger = logging.getLogger(__name__)

Checkpoint = dict[str, Any]


class Run(TrainerBase):
    """Trains a model, and can be stopped and continued at every step as if nothing had happened.

    Args:
        model: gives a dict of losses in training.
        build_optimizer: makes the optimiser of a prepared model.
        schedule: sets its learning rates.
        build_loader: batches from an iteration on.
        options: everything else.
        reward: of sampled captions in self-critical training.
        tokenizer: kept in the checkpoints, if given.
        provenance: likewise, plain data; its "config" is the configuration as text.
        compare: says how an earlier configuration differs from that one, in lines.
        allow_changes: go on with a run although it does.
        overwrite: a new run removes what an earlier one has left in the folder.
        config_name: of the file with the configuration in the output folder.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        build_optimizer: Callable[[nn.Module], torch.optim.Optimizer],
        schedule: Schedule,
        build_loader: Callable[[int], Iterable[Batch]],
        options: RunOptions,
        reward: CaptionReward | None = None,
        tokenizer: Tokenizer | None = None,
        provenance: Checkpoint,
        compare: Callable[[str, str], list[str]] = config_changes,
        allow_changes: bool = False,
        overwrite: bool = False,
        config_name: str = "config.yaml",
    ) -> None:
        TrainerBase.__init__(self)
        self.options = options
        self.reward = reward
        self.build_loader = build_loader
        self.tokenizer = tokenizer
        self.provenance = provenance
        self.compare = compare
        self.allow_changes = allow_changes
        self.overwrite = overwrite
        self.config_name = config_name
        self.folder = RunFolder(Path(options.output_dir), keep=options.checkpoint_keep)
        self.max_iter = options.max_iter
        self.finished = 0  # steps, over all parts of the run
        self.stop_reason = ""
        self.judges = Judges([], periods=[])
        self._loader: Iterable[Batch] | None = None
        self._is_ready = False

        model = prepare(
            model,
            freeze=options.freeze,
            sync_bn=options.sync_bn,
            channels_last=options.channels_last,
            compile=options.compile,
        )
        self._trainer = TrainStep(
            model=wrap(model),
            optimizer=build_optimizer(model),
            schedule=schedule,
            accum_steps=options.accum_steps,
            precision=options.precision,
            clip=options.clip,
            nonfinite=options.nonfinite,
            max_skipped=options.max_skipped,
            task_gradient_period=options.task_gradient_period,
            folder=self.folder.path,
            stop_requested=lambda: signals.requested() is not None,
            reward=reward,
        )
        self.reset_ema()

    @property
    def model(self) -> nn.Module:
        """The model, not wrapped."""
        return unwrap(self._trainer.model)

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        return self._trainer.optimizer

    @property
    def ema(self) -> ModelEMA | None:
        return self._trainer.ema

    def autocast(self) -> AbstractContextManager:
        """The precision of the forward pass."""
        return self._trainer.autocast()

    def evaluator(self, test: Callable[[nn.Module], Results]) -> Callable[[], Results]:
        """Evaluation of the weights as they are, or of their running mean.

        It is done on a folded copy; training is not touched.
        """

        def evaluate() -> Results:
            ema = self.ema if self.options.eval_weights == "ema" else None
            with ema.applied() if ema is not None else nullcontext():
                model = deploy(self.model)
            share_state(model)
            return test(model)

        return evaluate

    def reset_ema(self) -> None:
        """Let the running mean of the weights start from the weights as they are."""
        decay, tau = self.options.ema_decay, self.options.ema_tau
        self._trainer.ema = ModelEMA(self.model, decay=decay, tau=tau) if decay else None

    def set_judges(self, hooks: Sequence[HookBase], *, periods: Sequence[int]) -> Judges:
        """Hooks that look at the weights between steps, after they have been saved."""
        self.judges = Judges(hooks, periods=periods)
        return self.judges

    def request_stop(self, reason: str) -> None:
        """Let this step be the last one; every process must ask at the same step."""
        self.stop_reason = reason

    def train(self) -> Any:
        """Train from where the run stands to its end, or until it is stopped.

        Raises:
            Interrupted: a signal asked for it; the state has been saved.
            CheckpointError: the folder cannot be used, or the last checkpoint not be written.
            NonFiniteError: a loss, a gradient or a statistic is infinite or not a number.
        """
        if not self._is_ready:
            self.make_ready()
        self._trainer.model.train()
        self.iter = self.start_iter
        with EventStorage(self.start_iter) as self.storage, signals.watching():
            self._trainer.storage = self.storage
            try:
                self.before_train()
                self._catch_up()
                self._steps()
                self.save_as("model_final")
            finally:
                self.iter = self.finished
                self.after_train()
                self.folder.unlock()
                self._is_ready = False

    def make_ready(self) -> None:
        """Take the output folder and find the data; what is wrong with them is said now.

        Raises:
            CheckpointError: the folder cannot be used, or another run uses it.
            ValueError: the data cannot be used.
        """
        if self.start_iter < self.max_iter:
            self._loader = self.build_loader(self.start_iter)
        if comm.is_main_process():
            self.folder.check_writable(2 * self._checkpoint_bytes())
            self.folder.lock()
            if self.overwrite and self.start_iter == 0:
                self.folder.clear()
            (self.folder.path / self.config_name).write_text(self.provenance["config"])
            write_provenance(self.folder.path, self.provenance)
        comm.synchronize()
        self._is_ready = True

    def _steps(self) -> None:
        logger.info("steps %d to %d", self.start_iter, self.max_iter)
        if self._loader is not None:
            self._trainer.batches = iter(self._loader)
        for iteration in range(self.start_iter, self.max_iter):
            self.iter = iteration
            if self.stop_reason:
                logger.info("stopped after %d steps: %s", self.finished, self.stop_reason)
                return
            self.before_step()
            self.run_step()
            self.after_step()
            if self._trainer.stop_agreed:
                self._interrupt()

    def run_step(self) -> None:
        self._trainer.iter = self.iter
        self._trainer.run_step()
        self.finished = self.iter + 1

    def _catch_up(self) -> None:
        """Judge what had been saved, but not yet judged, when the run was stopped."""
        if self.start_iter > self.judges.done and self.judges.is_due(self.start_iter):
            self.iter = self.storage.iter = self.start_iter - 1
            self.judges.after_step()
            self.iter = self.storage.iter = self.start_iter

    def _interrupt(self) -> None:
        self.save()
        comm.synchronize()
        logger.info("stopped by a signal after %d steps; --resume goes on", self.finished)
        raise signals.Interrupted

    def checkpoint(self) -> Checkpoint | None:
        """The whole state, on the main process; all processes take part."""
        random = comm.gather(random_state())
        if not comm.is_main_process():
            return None
        data: Checkpoint = {
            "iteration": self.finished,
            "skipped": self._trainer.skipped,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "optimizer_names": names_of(self.optimizer, self.model),
            "hooks": TrainerBase.state_dict(self).get("hooks", {}),
            "random": random,
            "provenance": self.provenance,
        }
        if self.ema is not None:
            data["ema"] = self.ema.state_dict()
        if self._trainer.scaler.is_enabled():
            data["scaler"] = self._trainer.scaler.state_dict()
        if self.tokenizer is not None:
            proto = bytearray(self.tokenizer.model_proto)
            data["tokenizer"] = torch.frombuffer(proto, dtype=torch.uint8)
        return data

    def _checkpoint_bytes(self) -> int:
        """About what a checkpoint takes: weights, two moments of each, the running mean."""
        states = self.model.state_dict().values()
        size = sum(tensor.numel() * tensor.element_size() for tensor in states)
        return size * (3 if self.ema is None else 4)

    def save(self) -> None:
        """Save the state as one of the regular checkpoints."""
        data = self.checkpoint()
        if data is not None:
            self.folder.save(data, self.finished - 1)

    def save_or_go_on(self) -> None:
        """Save; a full disk does not end a run that has its last checkpoint."""
        try:
            self.save()
        except CheckpointError as error:
            if self.finished == self.max_iter:
                raise
            logger.error("not saved, training goes on: %s", error)

    def save_as(self, name: str) -> None:
        """Likewise under another name."""
        data = self.checkpoint()
        if data is not None:
            self.folder.save_as(data, name)

    def save_best_or_go_on(self, name: str) -> None:
        """Likewise, and as forgiving."""
        try:
            self.save_as(name)
        except CheckpointError as error:
            logger.error("%s is not saved, training goes on: %s", name, error)

    def resume(self) -> bool:
        """Load the last good checkpoint of the folder, if it has one."""
        path = last_checkpoint(self.folder)
        if path is None:
            return False
        self.load(load_checkpoint(path))
        logger.info("%s: going on after %d steps", path, self.start_iter)
        return True

    def load(self, data: Checkpoint) -> None:
        """Stand where a checkpoint was made."""
        self._check_changes(data["provenance"])
        self._check_tokenizer(data)
        self.model.load_state_dict(data["model"])
        load_by_names(self.optimizer, self.model, data["optimizer"], names=data["optimizer_names"])
        if self.ema is not None and "ema" in data:
            self.ema.load_state_dict(data["ema"])
        else:
            self.reset_ema()
        if "scaler" in data:
            self._trainer.scaler.load_state_dict(data["scaler"])
        TrainerBase.load_state_dict(self, {"iteration": 0, "hooks": data["hooks"]})
        states = data["random"]
        if len(states) == comm.get_world_size():
            set_random_state(states[comm.get_rank()])
        else:
            logger.warning(
                "the checkpoint was made by %d processes: the order of the data stays, other "
                "random numbers (dropout) do not",
                len(states),
            )
        self.start_iter = self.iter = self.finished = data["iteration"]
        self._trainer.skipped = data.get("skipped", 0)  # older checkpoints do not say
        self._trainer.schedule.apply(self.optimizer, self.finished - 1)

    def _check_changes(self, before: Checkpoint) -> None:
        changes = self.compare(before["config"], self.provenance["config"])
        if changes and not self.allow_changes:
            raise ValueError(
                f"OUTPUT_DIR {self.folder.path} holds a run of another configuration: "
                f"{'; '.join(changes)}. Use another folder, or --allow-config-change"
            )
        for change in changes:
            logger.warning("changed on the way: %s", change)
        for name, files in self.provenance["data"].items():
            if before["data"].get(name, files) != files:
                logger.warning("the files of %s are not those that the run began with", name)

    def _check_tokenizer(self, data: Checkpoint) -> None:
        if self.tokenizer is None or "tokenizer" not in data:
            return
        if data["tokenizer"].numpy().tobytes() != self.tokenizer.model_proto:
            raise ValueError("TOKENIZER.MODEL is not the tokenizer of the run that shall go on")
