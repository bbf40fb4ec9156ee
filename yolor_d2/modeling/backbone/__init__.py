"""Backbone and neck."""

from .features import SIZE_DIVISIBILITY
from .gelan import GELAN, gelan_shapes
from .gelan_pan import GELANPAN, gelan_pan_shapes
from .pan import PAN, pan_shapes
from .selective import SelectiveBackbone
from .yolor_elan import YOLORELAN, elan_shapes

__all__ = [
    "GELAN",
    "GELANPAN",
    "PAN",
    "SIZE_DIVISIBILITY",
    "YOLORELAN",
    "SelectiveBackbone",
    "elan_shapes",
    "gelan_pan_shapes",
    "gelan_shapes",
    "pan_shapes",
]
