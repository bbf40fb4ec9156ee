"""Fixtures of the tests of benchmarks."""

from collections.abc import Iterator

import pytest

from benchmarks import model_setting


@pytest.fixture(scope="module")
def short_turns() -> Iterator[None]:
    """Let benchmarks of networks run each job only once per repeat."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_setting, "MIN_TURN", 0.0)
        yield
