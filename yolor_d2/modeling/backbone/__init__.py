"""Backbone and neck."""

from .features import SIZE_DIVISIBILITY
from .pan import PAN, pan_shapes
from .yolor_elan import YOLORELAN, elan_shapes

__all__ = ["PAN", "SIZE_DIVISIBILITY", "YOLORELAN", "elan_shapes", "pan_shapes"]
