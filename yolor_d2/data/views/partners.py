"""Drawing the other images of a mosaic."""

from collections.abc import Sequence

import numpy as np


class PartnerPool:
    """Draws partners: images that have at least the targets of the image they join.

    Otherwise unlabeled parts of a mosaic would count as parts without objects.

    Args:
        known_targets: the targets of each image: tasks, and labeled classes where not all are.
        sources: (images,) the data set index of each image.
        ratios: share of the partners from each data set; None draws uniformly from all images.
    """

    def __init__(
        self,
        known_targets: Sequence[frozenset[str]],
        sources: np.ndarray,
        *,
        ratios: Sequence[float] | None = None,
    ) -> None:
        combinations = sorted(set(known_targets), key=sorted)
        codes = {targets: code for code, targets in enumerate(combinations)}
        self._code_of = np.array([codes[each] for each in known_targets], dtype=np.int16)
        self._groups: list[list[np.ndarray]] = []  # image indices by code, by data set
        self._shares: list[np.ndarray] = []  # cumulative share of each data set, by code
        for targets in combinations:
            fits = np.array([targets <= other for other in combinations])[self._code_of]
            groups = [np.flatnonzero(fits & (sources == s)) for s in range(int(sources.max()) + 1)]
            sizes = np.array([len(group) for group in groups], dtype=float)
            weights = sizes if ratios is None else np.where(sizes > 0, ratios, 0)
            if not weights.any():
                weights = sizes
            self._groups.append(groups)
            self._shares.append(np.cumsum(weights) / weights.sum())

    def draw(self, index: int, rng: np.random.Generator) -> int:
        """Draw a partner of an image; it may be the image itself."""
        code = self._code_of[index]
        source = int(np.searchsorted(self._shares[code], rng.random(), side="right"))
        group = self._groups[code][source]
        return int(group[rng.integers(len(group))])
