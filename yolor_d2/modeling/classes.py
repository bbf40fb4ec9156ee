"""Number of classes of a head: from the configuration, or else from the training data."""

from detectron2.config import CfgNode

from ..data.catalog.records import read_metadata
from ..data.catalog.registered import require_registered
from ..errors import ConfigError


def number_of_classes(cfg: CfgNode, node: str, names: str) -> int:
    """cfg.MODEL.<node>.NUM_CLASSES; if it is 0, the number of classes of the data sets.

    Args:
        cfg: the configuration.
        node: "DETECTION_HEAD" or "SEM_SEG_HEAD".
        names: attribute of the metadata, "thing_classes" or "stuff_classes".

    Raises:
        ValueError: the data sets have different numbers of classes, or more than configured, or
            the number is theirs and one is not registered.
    """
    key = f"MODEL.{node}.NUM_CLASSES"
    number = cfg.MODEL[node].NUM_CLASSES
    if number < 0:
        raise ConfigError(f"{key} is {number}")
    counts = named_classes(cfg, names)
    most = max(counts.values(), default=0)
    if number == 0:
        require_registered(name for name, count in counts.items() if not count)
    if number == 0 and (most == 0 or len(set(counts.values()) - {0}) > 1):
        hint = "; DATASETS.THING_CLASSES matches them by name" * (names == "thing_classes")
        raise ConfigError(
            f"{key} is 0, but the data sets do not have one number of classes: "
            f"{counts or 'DATASETS.TRAIN is empty'}{hint * bool(counts)}"
        )
    if 0 < number < most:
        raise ConfigError(f"{key} is {number}, but the data have {most} classes: {counts}")
    return number or most


def named_classes(cfg: CfgNode, names: str) -> dict[str, int]:
    """Number of classes in the metadata of each data set; 0 without class names."""
    data_sets = cfg.DATASETS.TRAIN or cfg.DATASETS.TEST
    return {name: len(read_metadata(name).get(names) or ()) for name in data_sets}
