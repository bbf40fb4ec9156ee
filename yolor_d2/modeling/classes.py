"""How many classes a head has: what the configuration says, else what the training data say."""

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog


def number_of_classes(cfg: CfgNode, node: str, names: str) -> int:
    """cfg.MODEL.<node>.NUM_CLASSES, where 0 means as many as the data sets' metadata name.

    Args:
        cfg: the configuration.
        node: "DETECTION_HEAD" or "SEM_SEG_HEAD".
        names: the metadata's list of class names, "thing_classes" or "stuff_classes".
    """
    number = cfg.MODEL[node].NUM_CLASSES
    if number < 0:
        raise ValueError(f"MODEL.{node}.NUM_CLASSES is {number}")
    if number > 0:
        return number
    data_sets = cfg.DATASETS.TRAIN or cfg.DATASETS.TEST
    counts = {name: len(MetadataCatalog.get(name).get(names) or ()) for name in data_sets}
    known = {count for count in counts.values() if count}
    if len(known) != 1:
        raise ValueError(
            f"MODEL.{node}.NUM_CLASSES is 0, but the data sets do not tell one number of classes: "
            f"{counts or 'DATASETS.TRAIN is empty'}"
        )
    return known.pop()
