"""The order of samples: a pure function of seed and position."""

from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolor_d2.data.loading.sampling import IndexStream, RunSampler, SampleRequest, sample_generator
from yolor_d2.data.views.partners import PartnerPool


def indices(stream: IndexStream, start: int, stop: int) -> list[int]:
    return [stream.index_at(position) for position in range(start, stop)]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=3), st.integers(0, 5))
def test_an_epoch_has_each_image_once(sizes: list[int], seed: int) -> None:
    stream = IndexStream(sizes, seed=seed)
    total = sum(sizes)
    for epoch in range(3):
        found = indices(stream, epoch * total, (epoch + 1) * total)
        assert sorted(found) == list(range(total))


def test_epochs_and_seeds_differ() -> None:
    stream, other = IndexStream([50], seed=0), IndexStream([50], seed=1)
    assert indices(stream, 0, 50) != indices(stream, 50, 100)
    assert indices(stream, 0, 50) != indices(other, 0, 50)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.integers(1, 40), min_size=2, max_size=3),
    st.lists(st.floats(0.05, 1), min_size=3, max_size=3),
)
def test_ratios(sizes: list[int], shares: list[float]) -> None:
    """Each epoch has each data set's share; over epochs, images are used equally often."""
    ratios = shares[: len(sizes)]
    stream = IndexStream(sizes, ratios=ratios, seed=0)
    total, epochs = sum(sizes), 6
    found = np.array(indices(stream, 0, epochs * total))
    starts = np.cumsum([0, *sizes])
    for k, ratio in enumerate(ratios):
        mine = found[(found >= starts[k]) & (found < starts[k + 1])]
        assert abs(len(mine) / epochs - ratio / sum(ratios) * total) <= 1
        counts = np.bincount(mine - starts[k], minlength=sizes[k])
        assert counts.max() - counts.min() <= 1


def test_reading_order_does_not_matter() -> None:
    forward, backward = (IndexStream([7, 13], ratios=[1, 3], seed=4) for _ in range(2))
    expected = indices(forward, 0, 200)
    assert [backward.index_at(p) for p in reversed(range(200))] == expected[::-1]


def test_invalid_ratios() -> None:
    for ratios in ([1], [1, -1], [0, 0]):
        with pytest.raises(ValueError, match=r"DATASETS\.TRAIN_RATIOS needs a share"):
            IndexStream([3, 4], ratios=ratios, seed=0)


def batches(world_size: int, start: int, number: int) -> list[list[SampleRequest]]:
    """Return the global batches of several processes."""
    stream = IndexStream([23], seed=0)
    runs = []
    for rank in range(world_size):
        sampler = RunSampler(
            stream, batch_size=4, rank=rank, world_size=world_size, start=start, mosaic_until=20
        )
        runs.append(list(islice(sampler, number * 4 // world_size)))
    share = 4 // world_size
    return [
        [request for run in runs for request in run[k * share : (k + 1) * share]]
        for k in range(number)
    ]


def test_batches_do_not_depend_on_processes_or_restarts() -> None:
    expected = batches(world_size=1, start=0, number=12)
    for world_size in (2, 4):
        found = batches(world_size, start=0, number=12)
        assert [without_batch(b) for b in found] == [without_batch(b) for b in expected]
    assert batches(world_size=1, start=5 * 4, number=7) == expected[5:]
    assert [r.position for batch in expected for r in batch] == list(range(48))


def test_requests_name_the_images_of_their_process() -> None:
    for world_size in (1, 2, 4):
        share = 4 // world_size
        for batch in batches(world_size, start=20, number=6):
            for first in range(0, 4, share):
                requests = batch[first : first + share]
                images = tuple(request.image for request in requests)
                assert all(request.batch == images for request in requests)


def without_batch(requests: list[SampleRequest]) -> list[SampleRequest]:
    return [request._replace(batch=()) for request in requests]


def test_mosaic_closes_at_its_position() -> None:
    requests = [r for batch in batches(world_size=2, start=16, number=3) for r in batch]
    assert [r.mosaic for r in requests] == [True] * 4 + [False] * 8


def test_batch_size_not_divisible_by_processes() -> None:
    with pytest.raises(ValueError, match=r"SOLVER\.IMS_PER_BATCH 4 is not a multiple of the 3"):
        RunSampler(IndexStream([5], seed=0), batch_size=4, world_size=3, mosaic_until=0)


def test_generators_of_samples_are_independent() -> None:
    draws = {
        tuple(sample_generator(s, p).integers(2**31, size=2)) for s in (0, 1) for p in range(99)
    }
    assert len(draws) == 198


def test_partners_have_at_least_the_same_targets() -> None:
    boxes, both, nothing = frozenset({"d"}), frozenset({"d", "m"}), frozenset[str]()
    kinds = [boxes, both, nothing, both, boxes]
    pool = PartnerPool(kinds, np.array([0, 0, 0, 1, 1]))
    rng = np.random.default_rng(0)
    for index, allowed in enumerate([{0, 1, 3, 4}, {1, 3}, set(range(5)), {1, 3}, {0, 1, 3, 4}]):
        assert {pool.draw(index, rng) for _ in range(200)} == allowed


def test_partners_of_a_batch_come_first_and_once() -> None:
    boxes, both = frozenset({"d"}), frozenset({"d", "m"})
    pool = PartnerPool([boxes, both, boxes, both, both, both], np.zeros(6, dtype=int))
    drawn = pool.partners(1, (0, 1, 3, 4, 3), np.random.default_rng(0))
    assert sorted(islice(drawn, 2)) == [3, 4]  # without itself, and without images of boxes only
    assert set(islice(drawn, 100)) == {1, 3, 4, 5}  # then of the whole data set
    orders = {
        tuple(islice(pool.partners(0, (0, 1, 2, 3), np.random.default_rng(seed)), 3))
        for seed in range(40)
    }
    assert len(orders) == 6
    # A batch of one image, and one without a fitting partner: as without a batch.
    for batch in ((), (1,), (0, 1, 2)):
        rngs = np.random.default_rng(2), np.random.default_rng(2)
        expected = [pool.draw(1, rngs[0]) for _ in range(9)]
        assert list(islice(pool.partners(1, batch, rngs[1]), 9)) == expected


def test_partners_follow_the_ratios() -> None:
    kind, other = frozenset({"d"}), frozenset({"d", "m"})
    pool = PartnerPool([kind] * 90 + [other] * 10, np.repeat([0, 1], [90, 10]), ratios=[0.5, 0.5])
    rng = np.random.default_rng(0)
    drawn = np.array([pool.draw(0, rng) for _ in range(2000)])
    assert (drawn >= 90).mean() == pytest.approx(0.5, abs=0.05)
    assert all(pool.draw(95, rng) >= 90 for _ in range(50))  # only the second set has masks
    plain = PartnerPool([kind] * 100, np.repeat([0, 1], [90, 10]))
    drawn = np.array([plain.draw(0, rng) for _ in range(2000)])
    assert (drawn >= 90).mean() == pytest.approx(0.1, abs=0.03)
