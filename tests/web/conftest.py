"""Fixtures of the web page tests."""

from collections.abc import Iterator

import pytest

from ..saved_networks import Saved
from .pages import ServedPage, serve


@pytest.fixture(scope="module")
def page(saved: Saved) -> Iterator[ServedPage]:
    """The web page of a small network, served on this machine."""
    with serve(saved) as served:
        yield served
