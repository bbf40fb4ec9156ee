"""As fcos_yolor_elan.py, on the backbone of YOLOv9-c."""

from detectron2.config import LazyCall as L

from yolor_d2.modeling.backbone import GELAN

from .fcos_yolor_elan import dataloader, lr_multiplier, model, optimizer, train  # noqa: F401

model.backbone.bottom_up = L(GELAN)(out_features=["c3", "c4", "c5"], size="c")
