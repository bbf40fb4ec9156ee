"""Names of the published networks' weights in our network.

Keys of the published files are `model.<layer>.<...>`; layers are numbered from the backbone (0 to
50) through the neck (to 104) to the heads (105).
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

# Published networks, and the tasks of their last layers.
SOURCES = {
    "yolov7-af": ("detection",),
    "yolov7-af-seg": ("detection", "mask"),
    "yolov7-af-pan": ("detection", "mask", "semantic"),
}
LEVELS = ("p3", "p4", "p5")
HEAD = 105
# Layers of the trunk with one block each.
BLOCKS = {
    0: "bottom_up.stem.0",
    1: "bottom_up.stem.1",
    2: "bottom_up.stem.2",
    3: "bottom_up.stage2.down",
    52: "reduce5",
    54: "lateral4",
    64: "reduce4",
    66: "lateral3",
    102: "output3",
    103: "output4",
    104: "output5",
}
# First layers of ELAN stages and of transitions, which have several layers.
ELANS = {
    4: "bottom_up.stage2.elan",
    17: "bottom_up.stage3.elan",
    30: "bottom_up.stage4.elan",
    43: "bottom_up.stage5.elan",
    56: "top_down4",
    68: "top_down3",
    81: "aggregate4",
    94: "aggregate5",
}
TRANSITIONS = {
    12: "bottom_up.stage3.down",
    25: "bottom_up.stage4.down",
    38: "bottom_up.stage5.down",
    76: "down4",
    89: "down5",
}
# Parts of layer 51, in the order of their published numbers.
SPP = ("entry.0", "shortcut", "entry.1", "entry.2", "pyramid.0", "pyramid.1", "merge")
# Entries of a convolution with batch norm: published name, our name.
BLOCK = {
    "conv.weight": "conv.weight",
    "bn.weight": "norm.weight",
    "bn.bias": "norm.bias",
    "bn.running_mean": "norm.running_mean",
    "bn.running_var": "norm.running_var",
    "bn.num_batches_tracked": "norm.num_batches_tracked",
}
# Can be missing in a published file: a counter without effect.
OPTIONAL = "num_batches_tracked"
MAX_LISTED = 8
# Branches of each task that all levels have: published name, our tower, our predictor.
LEVEL_BRANCHES = {
    "detection": (
        ("cv2", "detection_head.box_towers", "detection_head.box_predictors"),
        ("cv3", "detection_head.class_towers", "detection_head.class_predictors"),
    ),
    "mask": (("cv4", "mask_head.coefficient_towers", "mask_head.coefficient_predictors"),),
    "semantic": (),
}


def convert_state_dict(state_dict: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Convert a published state dict to one of our network.

    Published networks have no implicit vectors; ours get neutral values, 0 and 1.

    Args:
        state_dict: `model.<layer>.<...>` -> tensor, in half or single precision.
        source: one of SOURCES.

    Raises:
        ValueError: the source is unknown, or the keys are not exactly those of the source.
    """
    if source not in SOURCES:
        raise ValueError(f"unknown source {source}; known are {', '.join(SOURCES)}")
    given = _without_wrapper(state_dict)
    names = published_names(source)
    _check_keys(given, names, source)
    _check_tensors(given)
    _check_bins(given[f"model.{HEAD}.dfl.conv.weight"])
    converted = {}
    for name, our_name in names.items():
        if our_name is not None and name in given:
            tensor = given[name]
            half = tensor.dtype in (torch.float16, torch.bfloat16)
            converted[our_name] = tensor.float() if half else tensor
    for _, predictor in _predictors(SOURCES[source]):
        weight = converted[f"{predictor}.weight"]
        converted[f"{predictor}.implicit_add"] = weight.new_zeros(1, weight.shape[1], 1, 1)
        converted[f"{predictor}.implicit_mul"] = weight.new_ones(1, weight.shape[0], 1, 1)
    return converted


def published_names(source: str) -> dict[str, str | None]:
    """Keys of a published network and of ours; None: a constant that ours does not store."""
    tasks = SOURCES[source]
    names: dict[str, str | None] = {f"model.{HEAD}.dfl.conv.weight": None}
    for path, our_path in (*_trunk(), *_head_blocks(tasks)):
        names |= {f"model.{path}.{k}": f"{our_path}.{ours}" for k, ours in BLOCK.items()}
    for path, our_path in _predictors(tasks):
        names |= {f"model.{path}.{k}": f"{our_path}.{k}" for k in ("weight", "bias")}
    return names


def _trunk() -> Iterator[tuple[str, str]]:
    """Blocks of backbone and neck: published layer, our path."""
    for layer, name in BLOCKS.items():
        yield f"{layer}", f"backbone.{name}"
    for number, name in enumerate(SPP, start=1):
        yield f"51.cv{number}", f"backbone.spp.{name}"
    for first, name in ELANS.items():
        yield from _elan(first, f"backbone.{name}")
    for first, name in TRANSITIONS.items():
        yield from _transition(first, f"backbone.{name}")


def _elan(first: int, path: str) -> Iterator[tuple[str, str]]:
    """Two entry blocks, a chain of four, a concatenation without entries, the merging block."""
    chain = (f"chain.{step}" for step in range(4))
    for layer, name in enumerate(("shortcut", "entry", *chain), start=first):
        yield f"{layer}", f"{path}.{name}"
    yield f"{first + 7}", f"{path}.merge"


def _transition(first: int, path: str) -> Iterator[tuple[str, str]]:
    """Max-pooling without entries, then three blocks."""
    names = ("pool_branch", "conv_branch.0", "conv_branch.1")
    for layer, name in enumerate(names, start=first + 1):
        yield f"{layer}", f"{path}.{name}"


def _head_blocks(tasks: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for task in tasks:
        for branch, tower, _ in LEVEL_BRANCHES[task]:
            for number, level in enumerate(LEVELS):
                for step in range(2):
                    yield f"{HEAD}.{branch}.{number}.{step}", f"{tower}.{level}.{step}"
    if "mask" in tasks:
        for number, name in enumerate(("enter", "refine", "project"), start=1):
            yield f"{HEAD}.proto.cv{number}", f"mask_head.prototype_net.{name}"
    if "semantic" in tasks:
        yield f"{HEAD}.uconv.cv1", "semantic_head.tower"


def _predictors(tasks: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """The last convolutions, which our network combines with implicit vectors."""
    for task in tasks:
        for branch, _, predictor in LEVEL_BRANCHES[task]:
            for number, level in enumerate(LEVELS):
                yield f"{HEAD}.{branch}.{number}.2", f"{predictor}.{level}"
    if "semantic" in tasks:
        yield f"{HEAD}.uconv.cv2", "semantic_head.predictor"


def _without_wrapper(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict without the "module." prefix of data-parallel training."""
    prefix = "module." if all(key.startswith("module.") for key in state_dict) else ""
    return {key.removeprefix(prefix): tensor for key, tensor in state_dict.items()}


def _check_keys(given: Mapping[str, Tensor], names: Mapping[str, str | None], source: str) -> None:
    unexpected = sorted(given.keys() - names.keys())
    missing = sorted(key for key in names.keys() - given.keys() if not key.endswith(OPTIONAL))
    problems = [
        f"{what} {', '.join(keys[:MAX_LISTED])}"
        + (f" and {len(keys) - MAX_LISTED} more" if len(keys) > MAX_LISTED else "")
        for what, keys in (("unexpected", unexpected), ("missing", missing))
        if keys
    ]
    if problems:
        raise ValueError(f"not a {source}: {'; '.join(problems)}")


def _check_tensors(given: Mapping[str, Tensor]) -> None:
    """Refuse tensors that are not dense floating-point weights on the CPU."""
    for key, tensor in given.items():
        is_weight = tensor.is_floating_point() or key.endswith(OPTIONAL)
        if not is_weight or tensor.layout != torch.strided or tensor.device.type != "cpu":
            raise ValueError(f"{key} is {tensor.dtype}, {tensor.layout}, on {tensor.device}")


def _check_bins(weight: Tensor) -> None:
    """Check the bins of the box distributions, which the published network stores."""
    if not torch.equal(weight.flatten().float(), torch.arange(16.0)):
        raise ValueError(
            "dfl.conv.weight is not 0, 1, ..., 15: unsupported bins of box distributions"
        )
