"""Loading a network for inference from a checkpoint, or from a configuration and weights."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
from detectron2.config import CfgNode
from detectron2.data import Metadata
from omegaconf import DictConfig

from ..checkpoint.published import find_network
from ..checkpoint.published.configuration import configuration_of
from ..checkpoint.release import StoredWeights
from ..checkpoint.weights import load_stored, local_path, read_weights
from ..data.catalog.class_tables import find_metadata, make_metadata, registered
from ..errors import CheckpointError, OptionError
from ..model_zoo import find_config, load_config
from ..modeling import YOLOR, deploy
from ..modeling.deploy import best_device
from ..tasks import check_tasks
from .lazy_recipe import LazyRecipe, parse_lazy, read_lazy
from .yaml_recipe import YamlRecipe, parse_yaml

CONFIG_SUFFIXES = (".yaml", ".yml", ".py")

PathLike = str | os.PathLike[str]
Config: TypeAlias = CfgNode | DictConfig
Recipe = YamlRecipe | LazyRecipe


class Network(NamedTuple):
    """A network ready for inference.

    Attributes:
        model: the network, deployed if it is folded.
        tasks: tasks to predict.
        recipe: configuration of the network.
        metadata: names, colors and ids of the classes, as in detectron2's catalog.
    """

    model: YOLOR
    tasks: tuple[str, ...]
    recipe: Recipe
    metadata: Metadata


def load_network(
    source: PathLike | Config,
    *,
    weights: PathLike | None = None,
    device: str | None = None,
    tasks: Sequence[str] | None = None,
    score_threshold: float = 0.0,
    opts: Sequence[Any] = (),
    folded: bool = True,
) -> Network:
    """Load a network; see `Predictor` for the other arguments.

    Args:
        folded: whether batch norms and implicit vectors are folded for inference.
    """
    if not 0 <= score_threshold <= 1:
        raise OptionError(f"score_threshold must be between 0 and 1, not {score_threshold}")
    shared: Any = {
        "device": _check_device(device or best_device()),
        "score_threshold": score_threshold,
        "opts": opts,
    }
    if isinstance(source, CfgNode | DictConfig) or Path(source).suffix in CONFIG_SUFFIXES:
        recipe = _recipe(_read_config(source), shared)
        path = local_path(weights or recipe.weights)
        if not path.name:
            raise OptionError(f"{_name(source)}: a configuration needs weights")
        stored = read_weights(path)
    elif weights is not None:
        raise OptionError(f"{source}: is not a configuration (*.yaml, *.py), as weights need")
    else:
        path = Path(source)
        stored = read_weights(path)
        recipe = _recipe(_stored_config(stored, path), shared)
    if stored.kind not in ("", recipe.kind):
        stored = read_weights(path, prefer=recipe.kind)
    wanted = tuple(tasks or recipe.tasks)
    needed = _needed_tasks(recipe, wanted)
    with _classes(recipe, stored) as metadata:
        for key, task in (("thing_classes", "detection"), ("stuff_classes", "semantic")):
            if task in needed and not (metadata.get(key) or recipe.class_counts[key]):
                raise CheckpointError(f"{path}: contains neither names nor number of its {key}")
        model = recipe.build(needed, stored, metadata)
    load_stored(model, stored, path, strict=True)
    return Network(deploy(model) if folded else model, wanted, recipe, metadata)


def stored_config(path: PathLike) -> Config:
    """Return the configuration in a checkpoint, or that of a published file.

    Raises:
        CheckpointError: the file cannot be read, or has none.
    """
    return _stored_config(read_weights(path), Path(path))


def _read_config(source: PathLike | Config) -> Config:
    if isinstance(source, CfgNode):
        return source.clone()
    if isinstance(source, DictConfig):
        return source.copy()
    path = Path(source)
    if path.suffix == ".py":
        return read_lazy(Path(find_config(str(path))))
    return load_config(str(path))


def _stored_config(stored: StoredWeights, path: Path) -> Config:
    text = stored.provenance.get("config")
    if not text and "network" in stored.provenance:
        return _published_config(stored)
    if not text:
        raise CheckpointError(
            f"{path}: contains no configuration: pass one, with this file as its weights"
        )
    try:
        cfg = parse_yaml(text) or parse_lazy(text)
    except CheckpointError as error:
        raise type(error)(f"{path}: {error}, with this file as its weights") from None
    if cfg is None:
        raise CheckpointError(
            f"{path}: contains the configuration of another version: pass a configuration, with "
            "this file as its weights"
        )
    return cfg


def _published_config(stored: StoredWeights) -> CfgNode:
    network = find_network(stored.provenance["network"])
    classes = stored.provenance.get("classes", {}).get("thing_classes", ())
    return configuration_of(network, stored.tensors, classes)


def _recipe(cfg: Config, shared: Any) -> Recipe:
    return YamlRecipe(cfg, **shared) if isinstance(cfg, CfgNode) else LazyRecipe(cfg, **shared)


def _name(source: PathLike | Config) -> str:
    return type(source).__name__ if isinstance(source, CfgNode | DictConfig) else str(source)


def _check_device(name: str) -> str:
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise OptionError(f"device {name}: {str(error).splitlines()[0]}") from None
    return name


def _needed_tasks(recipe: Recipe, tasks: Sequence[str]) -> list[str]:
    """Return the tasks whose heads are needed; captions may need other heads."""
    check_tasks(tasks, ())
    if missing := sorted(set(tasks) - set(recipe.tasks)):
        trained = ", ".join(recipe.tasks)
        raise OptionError(f"the network has no {', '.join(missing)}, only {trained}")
    needed = set(tasks)
    if "caption" in tasks:
        needed |= recipe.caption_needs
    return [task for task in recipe.tasks if task in needed]


@contextmanager
def _classes(recipe: Recipe, stored: StoredWeights) -> Iterator[Metadata]:
    """Yield metadata of the network's classes.

    It is that of a registered data set with the same classes, if there is one. Otherwise it is
    made, and registered inside the context.
    """
    classes = stored.provenance.get("classes") or {}
    known = find_metadata(classes, stored.provenance.get("data") or recipe.datasets)
    if known is not None:
        yield known
        return
    # Without names, only the number of classes is known.
    numbered = {
        key: [f"class {index}" for index in range(count)]
        for key, count in recipe.class_counts.items()
    }
    made = make_metadata(numbered | classes, stored.provenance.get("class_ids", {}))
    with registered(made) as metadata:
        yield metadata
