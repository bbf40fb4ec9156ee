"""Backbone and neck."""

from .pan import PAN, pan_shapes
from .yolor_elan import YOLORELAN, elan_shapes

__all__ = ["PAN", "YOLORELAN", "elan_shapes", "pan_shapes"]
