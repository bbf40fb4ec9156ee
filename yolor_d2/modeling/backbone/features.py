"""Names and numbers of channels of the maps that backbone and neck give."""

from collections.abc import Collection, Mapping

from detectron2.layers import ShapeSpec

from ...checks import check_names

# Every choice of maps wants the same canvas, so that leaving one out changes none of the others. A
# canvas of other sides would not do: pooling and strided convolutions round odd sizes differently.
SIZE_DIVISIBILITY = 32


def chosen_features(names: Collection[str], known: Collection[str], *, key: str) -> list[str]:
    """The names in the order of `known`; a ValueError names the key if they are none or unknown."""
    check_names(key, names, known)
    return [name for name in known if name in names]


def wanted_features(features: Collection[str] | None, built: Collection[str]) -> list[str]:
    """The maps that one pass is asked for; None: all that there are."""
    return list(built) if features is None else chosen_features(features, built, key="features")


def scaled(channels: int, width: float) -> int:
    """A number of channels at another width: a multiple of 8, which hardware likes."""
    return 8 * max(1, round(channels * width / 8))


def scaled_shapes(published: Mapping[str, tuple[int, int]], width: float) -> dict[str, ShapeSpec]:
    """Maps at another width, from their published channels and their strides."""
    return {
        name: ShapeSpec(channels=scaled(channels, width), stride=stride)
        for name, (channels, stride) in published.items()
    }


def check_factors(width: float, depth: float) -> None:
    """Refuse factors that no network has."""
    for key, factor in (("WIDTH", width), ("DEPTH", depth)):
        if not factor > 0:
            raise ValueError(f"MODEL.YOLOR_ELAN.{key} must be positive, not {factor}")
