"""Published networks of others: what their files contain, and which of our networks they are."""

from .catalog import NETWORKS, convert_state_dict, find_network, recognize, unwrapped
from .network import Publication, PublishedNetwork
from .reading import read_published, read_state_dict

__all__ = [
    "NETWORKS",
    "Publication",
    "PublishedNetwork",
    "convert_state_dict",
    "find_network",
    "read_published",
    "read_state_dict",
    "recognize",
    "unwrapped",
]
