"""Which images may share a mosaic."""

from collections.abc import Sequence

import numpy as np


class PartnerPool:
    """Draws partners: images with at least the same kinds of targets as the one they join.

    So the part of a mosaic that nobody labelled is never taken for one without objects.

    Args:
        kinds: the known targets of each image.
        sources: (images,) the data set of each image, 0, 1, ...
        ratios: share of the partners from each data set; None draws all images alike.
    """

    def __init__(
        self,
        kinds: Sequence[frozenset[str]],
        sources: np.ndarray,
        *,
        ratios: Sequence[float] | None = None,
    ) -> None:
        names = sorted(set(kinds), key=sorted)
        codes = {kind: code for code, kind in enumerate(names)}
        self._code_of = np.array([codes[kind] for kind in kinds], dtype=np.int16)
        self._groups: list[list[np.ndarray]] = []  # by kind, by data set: indices of images
        self._shares: list[np.ndarray] = []  # by kind: cumulated share of each data set
        for kind in names:
            fits = np.array([kind <= other for other in names])[self._code_of]
            groups = [np.flatnonzero(fits & (sources == s)) for s in range(int(sources.max()) + 1)]
            sizes = np.array([len(group) for group in groups], dtype=float)
            weights = sizes if ratios is None else np.where(sizes > 0, ratios, 0)
            if not weights.any():
                weights = sizes
            self._groups.append(groups)
            self._shares.append(np.cumsum(weights) / weights.sum())

    def draw(self, index: int, rng: np.random.Generator) -> int:
        """A partner for an image, which may be the image itself."""
        code = self._code_of[index]
        source = int(np.searchsorted(self._shares[code], rng.random(), side="right"))
        group = self._groups[code][source]
        return int(group[rng.integers(len(group))])
