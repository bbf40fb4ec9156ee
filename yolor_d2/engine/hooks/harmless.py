"""Errors that must not end a run."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)


@contextmanager
def never_fatal(what: str) -> Iterator[None]:
    """Turn any exception while pictures are drawn into a warning.

    Args:
        what: the pictures, in the plural, for the message.
    """
    try:
        yield
    except Exception:
        logger.warning("%s could not be drawn; the run continues without", what, exc_info=True)
