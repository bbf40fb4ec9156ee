"""The differences between detectron2 0.6 and its main branch, in one place."""

import os
from pathlib import Path


def dataset_root() -> Path:
    """Where data sets live: DETECTRON2_DATASETS, by default ./datasets. 0.6 does not expand `~`."""
    return Path(os.environ.get("DETECTRON2_DATASETS", "datasets")).expanduser()
