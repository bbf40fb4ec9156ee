"""A training run: steps, hooks, and the whole state that is needed to resume it."""

import logging
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from detectron2.engine import TrainerBase
from detectron2.utils import comm
from detectron2.utils.events import EventWriter
from torch import nn

from ..checkpoint.provenance import write_provenance
from ..checkpoint.run_folder import RunFolder
from ..checkpoint.saving import Content
from ..errors import CheckpointError, ConfigError, OutputError
from ..modeling import deploy
from .cpu_setting import CPUSetting
from .evaluation import Results, scalars, verify
from .launch import signals
from .optim.ema import ModelEMA
from .optim.schedule import Schedule
from .parallel import parallelize, prepare_for_training, share_state, unwrap
from .parts import RunParts
from .provenance import build_provenance
from .rewards import build_reward
from .rng_state import random_state, set_random_state
from .starting_point import StartingPoint
from .step import Batch, TrainStep
from .storage import RunStorage
from .teacher import TEACHER, teacher_changes
from .timed_steps import choose_by_time
from .writers import build_writers

logger = logging.getLogger(__name__)

# Class names that earlier checkpoints have as keys of hook states, and the current names.
RENAMED_HOOKS = {"Judges": "EvaluationHooks"}


class Run(TrainerBase):
    """Trains a model; it can be stopped after every step and resumed with the same results.

    Args:
        parts: of the run.
        allow_changes: resume although the configuration differs.
        overwrite: a new run removes the files of an earlier run in the output folder.

    Attributes:
        finished: number of finished steps, including those before a resume.
        reward: of sampled captions in self-critical training, else None.
        results: of the last evaluation, on all processes.
        history: "steps" and the metrics of each evaluation.
        loader: the training batches; None before they are needed.
        scheduler: our Schedule, or one of torch or fvcore, which the hook LRScheduler steps.
        stop_reason: why no further step is made; "": none.
    """

    def __init__(
        self, parts: RunParts, *, allow_changes: bool = False, overwrite: bool = False
    ) -> None:
        TrainerBase.__init__(self)
        options = parts.options
        self.parts = parts
        self.options = options
        self.allow_changes = allow_changes
        self.overwrite = overwrite
        data = parts.data
        self.provenance = build_provenance(parts.config.text, [*data.train, *data.test])
        self.folder = RunFolder(Path(options.output_dir), keep=options.checkpoint_keep)
        self.max_iter = options.max_iter
        self.finished = 0
        self.results: Results = {}
        self.history: list[dict[str, float | None]] = []
        self.loader: Iterable[Batch] | None = None
        self._loader_start = -1
        self.stop_reason = ""
        self._is_ready = False

        model = parts.model()
        self.reward = build_reward(model, data.train, parts.tokenizer)
        teacher = parts.teacher(model)
        if teacher is not None:
            self.provenance[TEACHER] = teacher.source
        model = prepare_for_training(
            model,
            freeze=options.freeze,
            sync_bn=options.sync_bn,
            channels_last=options.channels_last,
            activation_checkpointing=options.activation_checkpointing,
            compile=options.compile,
            compile_mode=options.compile_mode,
        )
        optimizer = parts.optimizer(model)
        self.scheduler = parts.schedule(optimizer)
        self._trainer = TrainStep(
            model=parallelize(model),
            optimizer=optimizer,
            schedule=self.scheduler if isinstance(self.scheduler, Schedule) else None,
            options=options,
            stop_requested=lambda: signals.requested() is not None,
            reward=self.reward,
            teacher=teacher,
        )
        if self._trainer.device.type == "cpu":
            self._trainer.set_up_cpu(
                CPUSetting(options.precision, options.channels_last, torch.get_num_threads())
            )

    @property
    def model(self) -> nn.Module:
        """The model, not wrapped."""
        return unwrap(self._trainer.model)

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        return self._trainer.optimizer

    @property
    def data_loader(self) -> Iterable[Batch]:
        """The training batches from the first step of this process on, made when needed."""
        return self.open_data()

    @property
    def ema(self) -> ModelEMA | None:
        return self._trainer.ema

    def autocast(self) -> AbstractContextManager:
        """Context of the forward pass: its precision."""
        return self._trainer.autocast()

    def evaluate(self) -> Results:
        """Evaluate the raw or EMA weights, on a folded copy of the model."""
        ema = self.ema if self.options.eval_weights == "ema" else None
        with ema.applied() if ema is not None else nullcontext():
            model = deploy(self.model)
        share_state(model)
        # All processes get the results, so that their hooks make the same decisions.
        self.results = comm.all_gather(self.parts.evaluate(model))[0]
        self.history.append({"steps": self.finished, **scalars(self.results)})
        return self.results

    def build_writers(self) -> list[EventWriter]:
        """Writers of the log, for the main process."""
        options = self.options
        return build_writers(options.output_dir, max_iter=self.max_iter, wandb=options.wandb)

    def reset_ema(self) -> None:
        """Restart the moving average of the weights (EMA) from the current weights."""
        self._trainer.reset_ema()

    def request_stop(self, reason: str) -> None:
        """Stop after this step; all processes must call this at the same step."""
        self.stop_reason = reason

    def train(self) -> Results:
        """Train until the last step or a stop; return the results of the last evaluation.

        Raises:
            Interrupted: a signal requested a stop; the state has been saved.
            CheckpointError: the folder cannot be used, or the last checkpoint cannot be written.
            NonFiniteError: a loss, a gradient or a statistic is infinite or not a number.
            SystemExit: the results are not the expected ones.
        """
        if not self._is_ready:
            self.start_iter = self.finished  # also of an earlier call
            self.make_ready()
        self._trainer.model.train()
        self.iter = self.start_iter
        with RunStorage(self.start_iter) as self.storage, signals.watching():
            self._trainer.storage = self.storage
            try:
                self.before_train()
                self._steps()
                self.save_as("model_final")
            finally:
                self.iter = self.finished
                self.after_train()
                self.folder.unlock()
                self._is_ready = False
        verify(self.results, self.options.expected_results)
        return self.results

    def make_ready(self) -> None:
        """Lock the output folder and open the data, so that errors in them are raised here.

        Raises:
            CheckpointError: the folder cannot be used, or another run uses it.
            ValueError: the data cannot be used.
        """
        if self.start_iter < self.max_iter:
            self.open_data()
            if self.options.cpu == "timed" and self.start_iter == 0:
                choose_by_time(self._trainer, self.open_data())
        if self._trainer.cpu_setting is not None:
            logger.info("training steps on the CPU: %s", self._trainer.cpu_setting)
        if comm.is_main_process():
            self.folder.check_writable()
            self._check_space()
            self.folder.lock()
            if self.overwrite and self.start_iter == 0:
                self.folder.clear()
            config = self.parts.config
            (self.folder.path / config.file_name).write_text(config.text)
            write_provenance(self.folder.path, self.provenance)
        comm.synchronize()
        self._is_ready = True

    def open_data(self) -> Iterable[Batch]:
        """Make the loader of the training batches from `start_iter` on, or return it if made."""
        if self.loader is None or self._loader_start != self.start_iter:
            self.loader = self.parts.data.train_loader(self.start_iter)
            self._loader_start = self.start_iter
        return self.loader

    def _steps(self) -> None:
        logger.info("steps %d to %d", self.start_iter, self.max_iter)
        if self.start_iter < self.max_iter:
            self._trainer.batches = iter(self.open_data())
        while self.finished < self.max_iter:  # hooks can lower it
            self.iter = self.finished
            if self.stop_reason:
                logger.info("stopped after %d steps: %s", self.finished, self.stop_reason)
                return
            self.before_step()
            self.run_step()
            self.finished += 1
            self.after_step()
            if self._trainer.stop_agreed:
                self._interrupt()

    def run_step(self) -> None:
        self._trainer.iter = self.iter
        self._trainer.run_step()

    def _interrupt(self) -> None:
        self.save()
        comm.synchronize()
        logger.info("stopped by a signal after %d steps; --resume continues", self.finished)
        raise signals.Interrupted

    def checkpoint(self) -> Content | None:
        """The whole state, on the main process; all processes must call this."""
        random = comm.gather(random_state())
        return self._content(random) if comm.is_main_process() else None

    def own_checkpoint(self) -> Content:
        """The whole state, with the random state of this process only."""
        return self._content([random_state()])

    def _content(self, random: list[Content]) -> Content:
        data: Content = {
            "iteration": self.finished,
            **self._trainer.state_dict(),
            "hooks": TrainerBase.state_dict(self).get("hooks", {}),
            "random": random,
            "provenance": self.provenance,
            "history": self.history,
        }
        if self.parts.tokenizer is not None:
            proto = bytearray(self.parts.tokenizer.model_proto)
            data["tokenizer"] = torch.frombuffer(proto, dtype=torch.uint8)
        return data

    def _checkpoint_bytes(self) -> int:
        """Approximate size of a checkpoint: weights, two moments of each, EMA."""
        states = self.model.state_dict().values()
        size = sum(tensor.numel() * tensor.element_size() for tensor in states)
        return size * (3 if self.ema is None else 4)

    def _check_space(self) -> None:
        options, steps = self.options, self.max_iter - self.start_iter
        periods = (options.checkpoint_period, options.eval_period, options.loss_period)
        shortest = min(period for period in periods if period > 0)
        self.folder.check_space(
            self._checkpoint_bytes(),
            saves=-(-steps // shortest),
            keeps_best=bool(options.best_metric),
        )

    def save(self) -> None:
        """Save the state as a regular checkpoint."""
        data = self.checkpoint()
        if data is not None:
            self.folder.save(data, self.finished - 1)

    def try_save(self) -> None:
        """Save; if that fails, as on a full disk, only the last step raises the error."""
        try:
            self.save()
        except CheckpointError as error:
            if self.finished == self.max_iter:
                raise
            logger.error("not saved, training continues: %s", error)

    def save_as(self, name: str) -> None:
        """Save the state under a name, without the file's suffix."""
        data = self.checkpoint()
        if data is not None:
            self.folder.save_as(data, name)

    def try_save_as(self, name: str) -> None:
        """Save the state under a name; a failure is logged."""
        try:
            self.save_as(name)
        except CheckpointError as error:
            logger.error("%s is not saved, training continues: %s", name, error)

    def start_from(self, start: StartingPoint) -> None:
        """Load the weights or the whole state of a starting point.

        Raises:
            ValueError: the run had another configuration or tokenizer.
            CheckpointError: nothing in the weights fits the model.
        """
        if start.checkpoint is not None:
            self.load(start.checkpoint)
            logger.info("%s: resumed after %d steps", start.path, self.start_iter)
        elif start.stored is not None:
            logger.info("%s", start.load_into(self.model))
            self.reset_ema()

    def load(self, data: Content) -> None:
        """Restore the state of a checkpoint."""
        self._check_changes(data["provenance"])
        self._check_tokenizer(data)
        self._trainer.load_state_dict(data)
        hooks = {RENAMED_HOOKS.get(name, name): state for name, state in data["hooks"].items()}
        TrainerBase.load_state_dict(self, {"iteration": 0, "hooks": hooks})
        states = data["random"]
        if len(states) == comm.get_world_size():
            set_random_state(states[comm.get_rank()])
        else:
            logger.warning(
                "the checkpoint is from %d processes: the order of the data is the same, other "
                "random numbers (dropout) are not",
                len(states),
            )
        self.start_iter = self.iter = self.finished = data["iteration"]
        self.history = list(data.get("history", []))  # missing in earlier checkpoints
        if isinstance(self.scheduler, Schedule):
            self.scheduler.apply(self.optimizer, self.finished - 1)
        else:
            saved = data["optimizer"]["param_groups"]
            for group, before in zip(self.optimizer.param_groups, saved, strict=True):
                group["lr"] = before["lr"]
                if "initial_lr" in before:  # of fvcore's schedulers
                    group["initial_lr"] = before["initial_lr"]

    def _check_changes(self, before: Content) -> None:
        changes = self.parts.config.changes(before["config"], self.provenance["config"])
        changes += teacher_changes(before, self.provenance, self.options.key("teacher_weights"))
        if changes and not self.allow_changes:
            raise OutputError(
                f"OUTPUT_DIR {self.folder.path} has a run of another configuration: "
                f"{'; '.join(changes)}. Use another folder, or --allow-config-change"
            )
        for change in changes:
            logger.warning("changed during the run: %s", change)
        for name, files in self.provenance["data"].items():
            if before["data"].get(name, files) != files:
                logger.warning("the files of %s have changed since the run started", name)

    def _check_tokenizer(self, data: Content) -> None:
        tokenizer = self.parts.tokenizer
        if tokenizer is None or "tokenizer" not in data:
            return
        if data["tokenizer"].numpy().tobytes() != tokenizer.model_proto:
            raise ConfigError("TOKENIZER.MODEL is not the tokenizer of the run to resume")
