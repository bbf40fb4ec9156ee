"""Names, channels and strides of the feature maps of backbone and neck."""

from collections.abc import Collection, Mapping

from detectron2.layers import ShapeSpec

from ...checks import check_names
from ...errors import ConfigError

# The same for every choice of feature maps, so that omitting one does not change the others. Other
# sizes do not work: pooling and strided convolutions round odd sizes differently.
SIZE_DIVISIBILITY = 32


def chosen_features(names: Collection[str], known: Collection[str], *, key: str) -> list[str]:
    """The names in the order of `known`; a ValueError names the key if empty or unknown."""
    check_names(key, names, known)
    return [name for name in known if name in names]


def requested_features(features: Collection[str] | None, built: Collection[str]) -> list[str]:
    """Names of the maps that a forward pass computes; None: all that are built."""
    return list(built) if features is None else chosen_features(features, built, key="features")


def scaled(channels: int, width: float) -> int:
    """A published number of channels at another width, rounded to a multiple of 8."""
    return 8 * max(1, round(channels * width / 8))


def scaled_shapes(published: Mapping[str, tuple[int, int]], width: float) -> dict[str, ShapeSpec]:
    """Shapes at another width, from the published numbers of channels and the strides."""
    return {
        name: ShapeSpec(channels=scaled(channels, width), stride=stride)
        for name, (channels, stride) in published.items()
    }


def check_factors(width: float, depth: float, *, node: str) -> None:
    """Refuse factors that are not positive; `node` is the configuration node of both."""
    for key, factor in (("WIDTH", width), ("DEPTH", depth)):
        if not factor > 0:
            raise ConfigError(f"{node}.{key} must be positive, not {factor}")
