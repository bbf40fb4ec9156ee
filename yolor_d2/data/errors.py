"""Errors in data sets and in their files."""


class DataError(ValueError):
    """A data set is inconsistent; the message is one line that names the file and the id."""


class BadFileError(Exception):
    """A single file of a data set cannot be used; training continues without it."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"
