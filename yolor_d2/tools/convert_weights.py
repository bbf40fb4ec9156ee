"""Turn the weights of a published network into a checkpoint of ours.

    python -m yolor_d2.tools.convert_weights --source yolov7-af-pan yolov7-af-pan.pt weights.pth

What comes out loads as MODEL.WEIGHTS of configs/COCO/yolor_elan_{det,seg,pan}.yaml; the published
semantic map has 173 classes (MODEL.SEM_SEG_HEAD.NUM_CLASSES). Nothing in the input is executed.
Exit code 2: it cannot be converted.
"""

import argparse
import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from detectron2.modeling import build_model
from torch import Tensor

from .. import __version__
from ..checkpoint.foreign import SOURCES, convert_state_dict
from ..checkpoint.published import read_state_dict
from ..model_zoo import get_config

CONFIGS = {
    "yolov7-af": "COCO/yolor_elan_det.yaml",
    "yolov7-af-seg": "COCO/yolor_elan_seg.yaml",
    "yolov7-af-pan": "COCO/yolor_elan_pan.yaml",
}
# What tells a head's number of classes.
PREDICTORS = {
    "DETECTION_HEAD": "detection_head.class_predictors.p3.weight",
    "SEM_SEG_HEAD": "semantic_head.predictor.weight",
}


def convert_file(source: str, path: Path, output: Path) -> int:
    """Convert a file of weights; returns how many entries the new one has.

    Args:
        source: which published network it is, one of SOURCES.
        path: the published file.
        output: the checkpoint to write, all of it or nothing.

    Raises:
        ValueError: the file is not what it should be.
    """
    if output.suffix != ".pth":
        raise ValueError(f"{output}: must end in .pth, or detectron2 reads it in another way")
    model = convert_state_dict(read_state_dict(path), source)
    check_shapes(model, source)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    provenance = {
        "source": source,
        "file": path.name,
        "sha256": digest,
        "yolor_d2": __version__,
    }
    # Written beside the output and renamed, so that no reader ever sees half of it.
    temporary = output.with_name(f".{output.name}.tmp")
    try:
        with temporary.open("wb") as file:
            content = {"model": model, "__author__": "yolor_d2", "provenance": provenance}
            torch.save(content, file)
        os.replace(temporary, output)
    finally:
        temporary.unlink(missing_ok=True)
    return len(model)


def check_shapes(state: Mapping[str, Tensor], source: str) -> None:
    """Refuse weights that are not those of the network, with as many classes as they have."""
    cfg = get_config(CONFIGS[source])
    for node, predictor in PREDICTORS.items():
        if predictor in state:
            cfg.MODEL[node].NUM_CLASSES = len(state[predictor])
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ()
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        expected = build_model(cfg).state_dict()
    for name, tensor in state.items():
        if tensor.shape != expected[name].shape:
            shapes = f"{tuple(tensor.shape)} instead of {tuple(expected[name].shape)}"
            raise ValueError(f"this is no {source}: {name} is {shapes}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert one file; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", required=True, help=f"one of {', '.join(SOURCES)}")
    parser.add_argument("input", type=Path, metavar="IN", help="the published file")
    parser.add_argument("output", type=Path, metavar="OUT", help="the checkpoint to write, *.pth")
    options = parser.parse_args(arguments)
    try:
        entries = convert_file(options.source, options.input, options.output)
    except (ValueError, OSError) as error:
        print(f"convert_weights: {error}", file=sys.stderr)
        return 2
    print(f"{options.output}: {entries} entries of {options.source}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
