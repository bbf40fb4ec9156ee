"""All published networks that ours reproduces; the network of a file is found by its names."""

from collections.abc import Mapping

from torch import Tensor

from ...errors import CheckpointError, OptionError
from . import gelan, gyolo, yolov7
from .network import PublishedNetwork

FAMILIES = (yolov7, gelan, gyolo)
NETWORKS = {network.name: network for family in FAMILIES for network in family.NETWORKS}
# Prefixes that training programs put before all names: Lightning, data-parallel training.
WRAPPERS = ("model.model.", "module.")
AVERAGED = "ema.model."  # prefix of the averaged weights beside those of Lightning


def find_network(name: str) -> PublishedNetwork:
    """The network of this name.

    Raises:
        ValueError: the name is unknown; the message lists the known ones.
    """
    if name not in NETWORKS:
        raise OptionError(f"unknown source {name}; known are {', '.join(NETWORKS)}")
    return NETWORKS[name]


def recognize(state_dict: Mapping[str, Tensor]) -> PublishedNetwork:
    """The network whose names, and width of the first convolution, a state dict has.

    Raises:
        ValueError: it is none of them; the message has the nearest one and what differs.
    """
    given = unwrapped(state_dict)
    same_names = [network for network in NETWORKS.values() if not any(network.difference(given))]
    for network in same_names:
        if network.has_stem(given):
            return network
    if same_names:
        stem, _ = same_names[0].stem
        known = ", ".join(f"{network.stem[1]} ({network.name})" for network in same_names)
        shape = tuple(given[stem].shape)
        raise CheckpointError(f"{stem} has shape {shape}; the known output channels are {known}")
    nearest = min(NETWORKS.values(), key=lambda network: sum(map(len, network.difference(given))))
    others = ", ".join(name for name in NETWORKS if name != nearest.name)
    raise CheckpointError(
        f"{nearest.problem(given)} (the nearest of the published networks; others are {others})"
    )


def convert_state_dict(state_dict: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Convert a published state dict, in half or single precision, to one of our network.

    Raises:
        ValueError: the source is unknown, or the names are not exactly those of the source.
    """
    return find_network(source).convert(unwrapped(state_dict))


def unwrapped(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights without the prefix of a training program; averaged ones if there are any."""
    if any(name.startswith(AVERAGED) for name in state_dict):
        return {
            name.removeprefix(AVERAGED): tensor
            for name, tensor in state_dict.items()
            if name.startswith(AVERAGED)
        }
    for prefix in WRAPPERS:
        if all(name.startswith(prefix) for name in state_dict):
            return {name.removeprefix(prefix): tensor for name, tensor in state_dict.items()}
    return dict(state_dict)
