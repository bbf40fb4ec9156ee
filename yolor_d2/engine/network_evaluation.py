"""Evaluation of a network that was loaded for inference, with the settings of its configuration."""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import Metadata
from omegaconf import DictConfig
from torch import nn

from ..data import MultiTaskMapper
from ..data.catalog.records import read_metadata
from ..data.loading.build import make_test_loader
from ..data.loading.sets import Mapper
from ..errors import DataError
from ..evaluation.build import build_evaluators
from ..inference.loading import Network
from .evaluation import EvaluationJob, Results, evaluate_datasets
from .lazy import with_augmentation
from .trainer import Trainer

# Settings of evaluators that a LazyConfig can have.
EVALUATOR_SETTINGS = ("coco_processes", "meteor", "spice", "plots")
CLASSES = {"detection": "thing_classes", "semantic": "stuff_classes"}


def evaluate_network(network: Network, names: Sequence[str], *, output_dir: str) -> Results:
    """Evaluate a network; see `evaluate_datasets`.

    Args:
        network: folded for inference.
        names: registered data sets with the classes of the network.
        output_dir: folder for metrics.json and other reports.

    Raises:
        DataError: a data set has other classes.
    """
    for name in names:
        check_classes(name, network.metadata, network.tasks)
    cfg = network.recipe.cfg
    if isinstance(cfg, CfgNode):
        cfg.MODEL.YOLOR.TASKS = list(network.tasks)
        cfg.DATASETS.TEST = tuple(names)
        cfg.OUTPUT_DIR = output_dir
        return Trainer.test(cfg, network.model)
    return _evaluate_lazy(network, cfg, names, output_dir)


def check_classes(name: str, known: Metadata, tasks: Collection[str]) -> None:
    """Raise a DataError if the classes of a data set are not those of a network.

    Args:
        name: of the data set.
        known: metadata of the network's classes.
        tasks: that the network predicts.
    """
    metadata = read_metadata(name)
    for key in (CLASSES[task] for task in tasks if task in CLASSES):
        theirs, ours = (list(each.get(key) or ()) for each in (metadata, known))
        if theirs and ours and theirs != ours:
            raise DataError(
                f"{name}: its {key} are {', '.join(theirs)}; those of the network are "
                f"{', '.join(ours)}"
            )


def evaluate_images(
    model: nn.Module,
    name: str,
    *,
    tasks: Sequence[str],
    mapper: Mapper,
    output_dir: str,
    settings: Mapping[str, Any] = MappingProxyType({}),
    batch_size: int = 1,
    num_workers: int = 0,
) -> Results:
    """Evaluate a model that predicts from the samples of a mapper; see `evaluate_datasets`.

    Args:
        model: returns results in the format of `YOLOR.inference`.
        name: of the registered data set.
        tasks: predicted tasks; "panoptic" can be one.
        mapper: maps a record to a sample.
        output_dir: folder for metrics.json and other reports.
        settings: of EVALUATOR_SETTINGS.
        batch_size, num_workers: of the loader.
    """
    job = _job(
        name, tasks, mapper, output_dir, settings, batch_size=batch_size, num_workers=num_workers
    )
    return evaluate_datasets(model, {name: job}, output_dir=output_dir)


def _job(
    name: str,
    tasks: Sequence[str],
    mapper: Mapper,
    output_dir: str,
    settings: Mapping[str, Any],
    *,
    batch_size: int,
    num_workers: int,
) -> EvaluationJob:
    return EvaluationJob(
        loader=partial(
            make_test_loader,
            name,
            mapper=mapper,
            batch_size=batch_size,
            num_workers=num_workers,
            output_dir=output_dir,
        ),
        evaluator=partial(
            build_evaluators,
            name,
            tasks,
            output_dir=f"{output_dir}/inference/{name}",
            **{key: settings[key] for key in EVALUATOR_SETTINGS if key in settings},
        ),
    )


def _evaluate_lazy(
    network: Network, cfg: DictConfig, names: Sequence[str], output_dir: str
) -> Results:
    """Evaluate with parts of yolor_d2: a LazyConfig of a checkpoint must not choose what is run."""
    data, settings = cfg.get("data") or {}, cfg.get("evaluators") or {}
    tasks = [*network.tasks, *(("panoptic",) if network.model.panoptic is not None else ())]
    recipe = network.recipe
    mapper = MultiTaskMapper(
        is_train=False,
        tasks=network.tasks,
        test_size=recipe.test_size,
        image_format=recipe.image_format,
    )
    loading = {
        "batch_size": data.get("test_batch_size", 1),
        "num_workers": data.get("num_workers", 0),
    }
    jobs = {name: _job(name, tasks, mapper, output_dir, settings, **loading) for name in names}
    return evaluate_datasets(with_augmentation(cfg, network.model), jobs, output_dir=output_dir)
