"""The provenance of a run, from its configuration and data sets."""

import sys
from collections.abc import Iterable

from ..checkpoint.provenance import Provenance, describe_run
from ..data.catalog.class_tables import describe_classes
from ..data.catalog.fingerprint import dataset_fingerprint
from ..data.catalog.records import read_metadata


def build_provenance(config_text: str, names: Iterable[str]) -> Provenance:
    """The provenance that a checkpoint stores.

    Args:
        config_text: the whole configuration.
        names: of all data sets, for training and for evaluation.
    """
    unique = list(dict.fromkeys(names))
    return describe_run(
        config_text,
        argv=sys.argv[1:],
        data={name: dataset_fingerprint(name) for name in unique},
        **describe_classes(map(read_metadata, unique)),
    )
