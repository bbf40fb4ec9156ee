"""Values of a long run take no more memory than those of a short one."""

from detectron2.utils.events import EventStorage

from yolor_d2.engine.storage import KEPT, RunStorage
from yolor_d2.engine.writers import first_step


def test_only_the_last_values_are_kept() -> None:
    with RunStorage(5) as storage:
        for value in range(3 * KEPT):
            storage.put_scalar("total_loss", value)
            storage.step()
    history = storage.history("total_loss")
    assert [value for value, _ in history.values()] == list(range(2 * KEPT, 3 * KEPT))
    assert history.median(20) == 3 * KEPT - 10.5
    assert history.global_avg() == (3 * KEPT - 1) / 2
    assert first_step(storage) == 5


def test_detectron2s_storage() -> None:
    with EventStorage(7) as storage:
        assert first_step(storage) == 7
        storage.put_scalar("total_loss", 1.0)
        storage.step()
        assert first_step(storage) == 7
