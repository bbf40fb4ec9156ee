"""Pictures are nice to have."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)


@contextmanager
def never_fatal(what: str) -> Iterator[None]:
    """Warn instead of ending a run for something that it does not need."""
    try:
        yield
    except Exception:
        logger.warning("%s could not be drawn; the run goes on without", what, exc_info=True)
