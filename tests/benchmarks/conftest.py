"""What the tests of benchmarks share."""

from collections.abc import Iterator

import pytest

from benchmarks import model_setting


@pytest.fixture(scope="module")
def short_turns() -> Iterator[None]:
    """Benchmarks of networks measure each thing once, however short it takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_setting, "MIN_TURN", 0.0)
        yield
