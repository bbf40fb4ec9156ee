"""COCO/yolor_elan_pan.yaml as a LazyConfig: without captions."""

from .yolor_elan_mtl import model

model.caption_head = None
