"""Drawing the other images of a mosaic."""

from collections.abc import Iterator, Sequence

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
        self._fits = np.array([[a <= b for b in combinations] for a in combinations])
        self._groups: list[list[np.ndarray]] = []  # image indices by code, by data set
        self._shares: list[np.ndarray] = []  # cumulative share of each data set, by code
        for fitting_codes in self._fits:
            fits = fitting_codes[self._code_of]
            groups = [np.flatnonzero(fits & (sources == s)) for s in range(int(sources.max()) + 1)]
            sizes = np.array([len(group) for group in groups], dtype=float)
            weights = sizes if ratios is None else np.where(sizes > 0, ratios, 0)
            if not weights.any():
                weights = sizes
            self._groups.append(groups)
            self._shares.append(np.cumsum(weights) / weights.sum())

    def partners(self, index: int, batch: Sequence[int], rng: np.random.Generator) -> Iterator[int]:
        """Yield partners of an image without end.

        First those of the other images of a batch that have its targets, in random order; then, as
        with an empty batch, images of all data sets.
        """
        others = sorted(set(batch) - {index})
        fits = self._fits[self._code_of[index], self._code_of[others]]
        if fits.any():
            yield from rng.permutation(np.array(others)[fits]).tolist()
        while True:
            yield self.draw(index, rng)

    def draw(self, index: int, rng: np.random.Generator) -> int:
        """Draw a partner of an image; it may be the image itself."""
        code = self._code_of[index]
        source = int(np.searchsorted(self._shares[code], rng.random(), side="right"))
        group = self._groups[code][source]
        return int(group[rng.integers(len(group))])
