"""The differences between detectron2 0.6 and its main branch, in one place."""

import os
from pathlib import Path


def dataset_root() -> Path:
    """The folder of data sets: DETECTRON2_DATASETS, else ./datasets. 0.6 does not expand `~`."""
    return Path(os.environ.get("DETECTRON2_DATASETS", "datasets")).expanduser()
