"""A teacher: a trained network whose predictions a network in training learns as well.

It is no part of the network that is trained, so checkpoints, exports, the EMA and the exchange of
gradients do not contain it.
"""

import copy
import logging
from collections.abc import Collection, Iterable
from functools import partial
from typing import Any

import torch
from torch import nn

from ..checkpoint.provenance import Provenance
from ..checkpoint.saving import file_digest
from ..checkpoint.weights import local_path
from ..checks import check_names
from ..data.catalog.class_tables import describe_classes
from ..data.catalog.records import read_metadata
from ..errors import CheckpointError, ConfigError
from ..inference.loading import Network, load_network
from ..modeling import YOLOR, deploy
from ..modeling.deploy import to_channels_last
from ..modeling.objects import TeacherOutputs
from ..modeling.views import View
from ..tokenizer import Tokenizer
from .options import RunOptions
from .rng_state import random_state, set_random_state

logger = logging.getLogger(__name__)

TEACHER = "teacher"  # key of its file in the provenance of a run
CLASSES = {"detection": "thing_classes", "semantic": "stuff_classes"}


class Teacher:
    """Predicts for the views of a training step; see `modeling.views.Teacher`.

    Args:
        model: the teacher, not folded.
        tasks: that it teaches.
        threshold: class score above which it is sure of a point.
        source: name and SHA-256 of its file.
        swaps_channels: whether its images have the other order of channels.
    """

    def __init__(
        self,
        model: YOLOR,
        tasks: Collection[str],
        *,
        threshold: float,
        source: dict[str, str],
        swaps_channels: bool = False,
    ) -> None:
        self.tasks = frozenset(tasks)
        self.threshold = threshold
        self.source = source
        self.swaps_channels = swaps_channels
        self.model = to_channels_last(deploy(model))
        self.detector: Any = None
        if "detection" in self.tasks:
            # The branches with several points for each object, like those that it teaches.
            several = copy.copy(model.detection_head)
            several.predicts_one_to_one = False
            self.detector = to_channels_last(deploy(several))

    @torch.no_grad()
    def __call__(self, view: View) -> TeacherOutputs:
        tasks = self.tasks & view.tasks
        if not tasks:
            return TeacherOutputs()
        model = self.model
        heads: dict[str, tuple[Any, ...]] = {}
        images = view.images.flip(1) if self.swaps_channels else view.images
        features = model.extract(images, model.in_features(tasks))
        if "detection" in tasks:
            points = self.detector(features)
            sure = self.detector.sure_points(points, self.threshold)
            heads["detection"] = (points, sure)
            if "mask" in tasks:
                heads["mask"] = (model.mask_head(features), sure)
        if "semantic" in tasks:
            heads["semantic"] = (model.semantic_logits(features),)
        if "caption" not in tasks:
            return TeacherOutputs(heads)
        tokens = model.visual_tokens(features, view.contents)
        return TeacherOutputs(heads, partial(self._text_logits, tokens))

    @torch.no_grad()
    def _text_logits(self, tokens: Any, ids: torch.Tensor) -> torch.Tensor:
        return self.model.caption_head.text_logits(tokens, ids)


def build_teacher(
    options: RunOptions,
    model: nn.Module,
    *,
    tokenizer: Tokenizer | None,
    datasets: Iterable[str],
    image_format: str,
) -> Teacher | None:
    """The teacher of a model; None without one. Random generators keep their state.

    Args:
        options: of the run.
        model: to be trained, on its device.
        tokenizer: of its captions.
        datasets: names of the data sets, which have the model's classes.
        image_format: "RGB" or "BGR", of its images.

    Raises:
        CheckpointError: the file cannot be read, or is of a network that does not fit.
        ConfigError: the model cannot have a teacher.
    """
    if not options.teacher_weights:
        return None
    key = options.key("teacher_weights")
    if not isinstance(model, YOLOR):
        raise ConfigError(f"{key} needs MODEL.META_ARCHITECTURE YOLOR")
    check_names(options.key("teacher_tasks"), options.teacher_tasks or model.heads, model.heads)
    path = local_path(options.teacher_weights)
    state = random_state()
    try:
        network = load_network(path, device=str(model.device), folded=False)
    except CheckpointError as error:
        raise type(error)(f"{key} {error}") from None
    finally:
        set_random_state(state)
    tasks = _taught_tasks(options, model, network, tokenizer)
    classes = describe_classes(map(read_metadata, dict.fromkeys(datasets)))["classes"]
    for task in tasks:
        check_fit(task, options, model.heads[task], network, classes)
    logger.info("teacher of %s: %s", ", ".join(tasks), path)
    return Teacher(
        network.model,
        tasks,
        threshold=options.teacher_score_thresh,
        source={"file": path.name, "sha256": file_digest(path)},
        swaps_channels=network.recipe.image_format != image_format,
    )


def _taught_tasks(
    options: RunOptions, model: YOLOR, network: Network, tokenizer: Tokenizer | None
) -> list[str]:
    """The chosen tasks of a model, without those that the teacher cannot teach; they are logged."""
    path, taught = options.teacher_weights, []
    for task in model.heads:
        if options.teacher_tasks and task not in options.teacher_tasks:
            continue
        reason = _why_not(task, model, network.model, tokenizer)
        if not reason and task == "mask" and "detection" not in taught:
            reason = "masks are taught together with boxes"
        if reason:
            logger.warning("%s does not teach %s: %s", path, task, reason)
        else:
            taught.append(task)
    if not taught:
        key = options.key("teacher_weights")
        own, theirs = (", ".join(each.heads) for each in (model, network.model))
        raise CheckpointError(
            f"{key} {path}: teaches none of the tasks; it has {theirs}, the network has {own}"
        )
    return taught


def _why_not(task: str, model: YOLOR, teacher: YOLOR, tokenizer: Tokenizer | None) -> str:
    """Why a task is not taught; "": it is."""
    if task not in teacher.heads:
        return "it has no such head"
    head = model.heads[task]
    if not hasattr(head, "misfit"):
        return f"{type(head).__name__} cannot learn from a teacher"
    if task == "caption" and getattr(head, "self_critical", None) is not None:
        return "MODEL.CAPTION_HEAD.SCST trains on the network's own captions"
    if task == "caption" and teacher.tokenizer != tokenizer:
        return "it has another tokenizer, TOKENIZER.MODEL can be the tokenizer.model of its run"
    return ""


def check_fit(
    task: str, options: RunOptions, head: Any, network: Network, classes: dict[str, list[Any]]
) -> None:
    """Raise a CheckpointError if a task of a teacher does not fit a head, or the classes.

    Args:
        task: that is taught.
        options: of the run.
        head: in training.
        network: the teacher.
        classes: names by kind, of the data.
    """
    reason = _other_classes(task, classes, network)
    if reason := reason or head.misfit(network.model.heads[task]):
        key, tasks = options.key("teacher_weights"), options.key("teacher_tasks")
        raise CheckpointError(f"{key} {options.teacher_weights}: {reason}; {tasks} can omit {task}")


def _other_classes(task: str, classes: dict[str, list[Any]], network: Network) -> str:
    """How the teacher's classes differ from those of the data; "": they do not."""
    key = CLASSES.get(task, "")
    ours, theirs = (list(each.get(key) or ()) for each in (classes, network.metadata))
    if not ours or not theirs or ours == theirs:
        return ""
    for index, (own, other) in enumerate(zip(ours, theirs, strict=False)):
        if own != other:
            return f"class {index} of its {key} is {other}, that of the data {own}"
    return f"it has {len(theirs)} {key}, the data {len(ours)}"


def teacher_changes(before: Provenance, now: Provenance, key: str) -> list[str]:
    """The line for a changed teacher of a run; [] if it is the same."""
    old, new = before.get(TEACHER), now.get(TEACHER)
    if (old or {}).get("sha256") == (new or {}).get("sha256"):
        return []
    return [f"{key} {_described(old)} -> {_described(new)}"]


def _described(source: dict[str, str] | None) -> str:
    return f"{source['file']} (SHA-256 {source['sha256'][:8]})" if source else '""'
