"""YOLOR-based multi-task learning as a detectron2 extension.

Importing the package registers its data sets and modules with detectron2.
"""

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Read when PyTorch is imported. By default, threads that wait for each other occupy their cores for
# milliseconds, so that training beside another program takes many times as long.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

if find_spec("detectron2") is None:
    raise ImportError(
        "yolor_d2 needs detectron2: follow its installation instructions, or run "
        "`python install_detectron2.py` in the yolor_d2 repository."
    )

from . import data, earlier_names, modeling, toy_scenes  # noqa: F401
from .config import add_yolor_config

earlier_names.install()

if TYPE_CHECKING:
    from .inference.predictor import Predictor

__all__ = ["Predictor", "__version__", "add_yolor_config"]


def __getattr__(name: str) -> Any:
    """Import the predictor on first access: training does not need it."""
    if name != "Predictor":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .inference.predictor import Predictor

    return Predictor
