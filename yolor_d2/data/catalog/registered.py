"""Names of data sets in detectron2's catalogs."""

import difflib
from collections.abc import Iterable

from detectron2.data import DatasetCatalog

from ...errors import DataError


def require_registered(names: Iterable[str]) -> None:
    """Raise a DataError, with a similar name, if a data set is not registered."""
    known = DatasetCatalog.list()
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "is its module imported?"
            raise DataError(f"there is no data set {name}; {hint}")
