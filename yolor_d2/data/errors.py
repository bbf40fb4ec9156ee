"""The two ways in which data can be wrong."""


class DataError(ValueError):
    """A data set contradicts itself: one line that names the file and the id."""


class BadFileError(Exception):
    """One file of a data set cannot be used; training goes on without it."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"
