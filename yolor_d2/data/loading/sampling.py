"""Which image comes when: a pure function of the seed and of the position in the run.

A position counts samples from the start of the run, over all processes and epochs; it is the whole
state of data loading. An epoch is as many samples as there are images.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

# First words of the keys of independent random streams.
_ORDER, _MIX, _SAMPLE = range(3)


class SampleRequest(NamedTuple):
    """All that a worker needs to make a sample."""

    position: int
    image: int  # its index
    mosaic: bool  # whether mosaics are made at this point of the run


def sample_generator(seed: int, position: int) -> np.random.Generator:
    """The generator of everything random about the sample at a position."""
    return np.random.default_rng([_SAMPLE, seed, position])


class IndexStream:
    """The order of the images, data sets mixed by ratios.

    Without ratios each epoch is one permutation of all images. With them each epoch has a fixed
    number of samples of each data set, in random order, and each data set is gone through by its
    own permutations.

    Args:
        sizes: number of images of each data set; their indices follow each other.
        ratios: share of the samples from each data set; None counts all images alike.
        seed: of the order.
    """

    def __init__(
        self, sizes: Sequence[int], *, ratios: Sequence[float] | None = None, seed: int
    ) -> None:
        self.epoch_size = sum(sizes)
        self.seed = seed
        if ratios is None:
            self.sizes, self.counts = [self.epoch_size], [self.epoch_size]
        else:
            check_ratios(ratios, len(sizes))
            self.sizes = list(sizes)
            shares = np.array(ratios) / sum(ratios)
            ends = np.rint(np.cumsum(shares) * self.epoch_size).astype(int)
            self.counts = np.diff(ends, prepend=0).tolist()
        self.starts = np.cumsum([0, *self.sizes[:-1]]).tolist()
        self._epochs: dict[tuple[int, ...], np.ndarray] = {}

    def index_at(self, position: int) -> int:
        """The image at a position of the run."""
        epoch, step = divmod(position, self.epoch_size)
        if len(self.sizes) == 1:
            return int(self._permutation(0, epoch)[step])
        sources, turns = self._mixture(epoch)
        source = int(sources[step])
        own_epoch, own_step = divmod(
            epoch * self.counts[source] + int(turns[step]), self.sizes[source]
        )
        return self.starts[source] + int(self._permutation(source, own_epoch)[own_step])

    def _permutation(self, source: int, epoch: int) -> np.ndarray:
        def make() -> np.ndarray:
            rng = np.random.default_rng([_ORDER, self.seed, source, epoch])
            return rng.permutation(self.sizes[source])

        return self._kept((_ORDER, source, epoch), make)

    def _mixture(self, epoch: int) -> np.ndarray:
        """(2, epoch_size): whose turn it is at each step, and which of its turns in this epoch."""

        def make() -> np.ndarray:
            sources = np.repeat(np.arange(len(self.counts)), self.counts)
            np.random.default_rng([_MIX, self.seed, epoch]).shuffle(sources)
            turns = np.empty_like(sources)
            for source, count in enumerate(self.counts):
                turns[sources == source] = np.arange(count)
            return np.stack([sources, turns])

        return self._kept((_MIX, epoch), make)

    def _kept(self, key: tuple[int, ...], make: Callable[[], np.ndarray]) -> np.ndarray:
        if key not in self._epochs:
            # Enough for this epoch and the one before, of each data set and of the mixture.
            if len(self._epochs) > 2 * len(self.sizes) + 1:
                self._epochs.pop(next(iter(self._epochs)))
            self._epochs[key] = make()
        return self._epochs[key]


def check_ratios(ratios: Sequence[float], number: int) -> None:
    """A ValueError that names the key when the ratios do not fit the data sets."""
    if len(ratios) != number or min(ratios) < 0 or sum(ratios) <= 0:
        raise ValueError(
            f"DATASETS.TRAIN_RATIOS needs a share for each of the {number} training sets, "
            f"not {list(ratios)}"
        )


class RunSampler(Sampler[SampleRequest]):
    """The samples of one process, without end.

    Each batch over all processes is a stretch of positions, of which each process takes its part:
    so the samples of a step do not depend on the number of processes.

    Args:
        stream: the order of the images.
        batch_size: over all processes.
        rank, world_size: this process and how many there are, a divisor of batch_size.
        start: the position of the first sample, a multiple of batch_size.
        mosaic_until: the position from which no mosaics are made.
    """

    def __init__(
        self,
        stream: IndexStream,
        *,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        start: int = 0,
        mosaic_until: int,
    ) -> None:
        if batch_size % world_size:
            raise ValueError(
                f"SOLVER.IMS_PER_BATCH {batch_size} is no multiple of {world_size} processes"
            )
        self.stream = stream
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size
        self.start = start
        self.mosaic_until = mosaic_until

    def __iter__(self) -> Iterator[SampleRequest]:
        share = self.batch_size // self.world_size
        batch_start = self.start
        while True:
            first = batch_start + self.rank * share
            for position in range(first, first + share):
                mosaic = position < self.mosaic_until
                yield SampleRequest(position, self.stream.index_at(position), mosaic)
            batch_start += self.batch_size
