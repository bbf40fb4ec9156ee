"""What the page tells about the network: its name, its classes and its limits."""

from typing import Any

from detectron2.data import Metadata

from ..inference.predictor import Predictor
from ..visualization.colors import Classes
from .prediction_queue import LOWEST_SCORE
from .uploads import FORMATS

Json = dict[str, Any]

_KINDS = {"detection": "thing", "semantic": "stuff", "panoptic": "panoptic"}


def network_card(predictor: Predictor, name: str) -> Json:
    """Return the name, size, tasks and classes of a network.

    Args:
        predictor: the network.
        name: the name that users see.
    """
    kinds = [kind for task, kind in _KINDS.items() if task in predictor.tasks]
    if "panoptic" in predictor.layers:
        kinds.append("panoptic")
    return {
        "name": name,
        "device": str(next(predictor.model.parameters()).device),
        "parameters": sum(weight.numel() for weight in predictor.model.parameters()),
        "tasks": list(predictor.tasks),
        "layers": list(predictor.layers),
        "classes": {kind: class_table(predictor.metadata, kind) for kind in kinds},
        "lowest_score": LOWEST_SCORE,
        "formats": list(FORMATS),
    }


def class_table(metadata: Metadata, kind: str) -> list[Json]:
    """Return the id, name and color of each "thing", "stuff" or "panoptic" class.

    Ids and names are those in `Prediction.to_json`.
    """
    classes = Classes.of(metadata, kind)
    ids = {
        index: number
        for number, index in (metadata.get(f"{kind}_dataset_id_to_contiguous_id") or {}).items()
    }
    return [
        {"id": ids.get(index, index), "name": name, "color": list(classes.color(index))}
        for index, name in enumerate(classes.names)
    ]
