"""Errors that must not end a run."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from ...errors import DataError, message_of

logger = logging.getLogger(__name__)


@contextmanager
def never_fatal(what: str) -> Iterator[None]:
    """Turn any exception while pictures are drawn into a warning; the log file has its traceback.

    A DataError is raised, since the first step would fail as well.

    Args:
        what: the pictures, in the plural, for the message.
    """
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        logger.debug("traceback of the error", exc_info=True)
        message = f"{type(error).__name__}: {message_of(error)}"
        logger.warning("%s could not be drawn; the run continues without: %s", what, message)
