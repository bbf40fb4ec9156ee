"""The network: backbone, neck, heads and what they are made of.

Importing it registers all parts with detectron2.
"""

from .backbone import GELAN, GELANPAN, PAN, YOLORELAN
from .deploy import deploy, to_channels_last
from .meta_arch import YOLOR

__all__ = ["GELAN", "GELANPAN", "PAN", "YOLOR", "YOLORELAN", "deploy", "to_channels_last"]
