"""The order of images: a pure function of the seed and of the position in the run.

A position counts samples from the start of the run, over all processes and epochs; it is the only
state of data loading. An epoch has as many samples as there are images.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from ...errors import ConfigError

# First element of the seeds of independent random streams.
_ORDER, _MIX, _SAMPLE = range(3)


class SampleRequest(NamedTuple):
    """A worker's request for a sample."""

    position: int
    image: int  # index
    mosaic: bool  # whether mosaics are enabled at this position
    batch: tuple[int, ...] = ()  # images of the process's share of the batch, this one included


def sample_generator(seed: int, position: int) -> np.random.Generator:
    """Return the generator of the sample at a position."""
    return np.random.default_rng([_SAMPLE, seed, position])


class IndexStream:
    """The order of the images, with data sets mixed by ratios.

    Without ratios each epoch is one permutation of all images. With ratios each epoch has a fixed
    number of samples of each data set, in random order, and each data set has its own
    permutations.

    Args:
        sizes: number of images of each data set; image indices are consecutive over data sets.
        ratios: share of the samples from each data set; None weights all images equally.
        seed: random seed of the run.
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
        """Return the image at a position of the run."""
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

        return self._cached((_ORDER, source, epoch), make)

    def _mixture(self, epoch: int) -> np.ndarray:
        """(2, epoch_size): the data set of each sample, and the sample's number within it."""

        def make() -> np.ndarray:
            sources = np.repeat(np.arange(len(self.counts)), self.counts)
            np.random.default_rng([_MIX, self.seed, epoch]).shuffle(sources)
            turns = np.empty_like(sources)
            for source, count in enumerate(self.counts):
                turns[sources == source] = np.arange(count)
            return np.stack([sources, turns])

        return self._cached((_MIX, epoch), make)

    def _cached(self, key: tuple[int, ...], make: Callable[[], np.ndarray]) -> np.ndarray:
        if key not in self._epochs:
            # Keep this epoch and the previous one, of each data set and of the mixture.
            if len(self._epochs) > 2 * len(self.sizes) + 1:
                self._epochs.pop(next(iter(self._epochs)))
            self._epochs[key] = make()
        return self._epochs[key]


def check_ratios(ratios: Sequence[float], number: int) -> None:
    """Raise a ValueError that names the key if the ratios do not fit the data sets."""
    if len(ratios) != number or min(ratios) < 0 or sum(ratios) <= 0:
        raise ConfigError(
            f"DATASETS.TRAIN_RATIOS needs a share for each of the {number} training sets, "
            f"not {list(ratios)}"
        )


class RunSampler(Sampler[SampleRequest]):
    """An endless stream of the sample requests of one process.

    A batch over all processes is a range of positions, divided among the processes, so the images
    of a step do not depend on the number of processes.

    Args:
        stream: the order of the images.
        batch_size: batch size over all processes; a multiple of world_size.
        rank, world_size: index of this process, and number of processes.
        start: position of the first sample, a multiple of batch_size.
        mosaic_until: position from which no mosaics are made.
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
            raise ConfigError(
                f"SOLVER.IMS_PER_BATCH {batch_size} is not a multiple of the {world_size} processes"
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
            images = tuple(self.stream.index_at(first + k) for k in range(share))
            for position, image in enumerate(images, start=first):
                mosaic = position < self.mosaic_until
                yield SampleRequest(position, image, mosaic, images)
            batch_start += self.batch_size
