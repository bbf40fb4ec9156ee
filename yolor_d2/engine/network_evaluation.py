"""Evaluation of a network that was loaded for inference, with the settings of its configuration."""

from collections.abc import Sequence
from functools import partial

from detectron2.config import CfgNode
from omegaconf import DictConfig

from ..data import MultiTaskMapper
from ..data.catalog.records import read_metadata
from ..data.errors import DataError
from ..data.loading.build import make_test_loader
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
        _check_classes(network, name)
    cfg = network.recipe.cfg
    if isinstance(cfg, CfgNode):
        cfg.MODEL.YOLOR.TASKS = list(network.tasks)
        cfg.DATASETS.TEST = tuple(names)
        cfg.OUTPUT_DIR = output_dir
        return Trainer.test(cfg, network.model)
    return _evaluate_lazy(network, cfg, names, output_dir)


def _check_classes(network: Network, name: str) -> None:
    metadata = read_metadata(name)
    for key in (CLASSES[task] for task in network.tasks if task in CLASSES):
        found, known = (list(each.get(key) or ()) for each in (metadata, network.metadata))
        if found and known and found != known:
            raise DataError(
                f"{name}: its {key} are {', '.join(found)}; those of the network are "
                f"{', '.join(known)}"
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
    jobs = {
        name: EvaluationJob(
            loader=partial(
                make_test_loader,
                name,
                mapper=mapper,
                batch_size=data.get("test_batch_size", 1),
                num_workers=data.get("num_workers", 0),
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
        for name in names
    }
    return evaluate_datasets(with_augmentation(cfg, network.model), jobs, output_dir=output_dir)
