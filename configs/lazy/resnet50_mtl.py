"""COCO/resnet50_mtl.yaml as a LazyConfig. Any backbone with maps of strides 8, 16 and 32 fits."""

from detectron2.config import LazyCall as L
from detectron2.modeling.backbone import BasicStem, ResNet

from .yolor_elan_mtl import (  # noqa: F401
    data,
    evaluators,
    init,
    model,
    optimizer,
    run,
    schedule,
    test_mapper,
    tokenizer,
    train_mapper,
    tta,
)

init.weights = "detectron2://ImageNetPretrained/MSRA/R-50.pkl"
model.backbone.bottom_up = L(ResNet)(
    stem=L(BasicStem)(in_channels=3, out_channels=64, norm="FrozenBN"),
    stages=L(ResNet.make_default_stages)(depth=50, stride_in_1x1=True, norm="FrozenBN"),
    out_features=["res3", "res4", "res5"],
    freeze_at=2,
)
# These weights were trained on BGR images minus these means.
model.pixel_mean = [103.53, 116.28, 123.675]
model.pixel_std = [1.0, 1.0, 1.0]
train_mapper.image_format = test_mapper.image_format = "BGR"
