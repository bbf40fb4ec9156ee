"""detectron2's FCOS on the YOLOR-ELAN backbone, from scratch.

For detectron2's tools/lazyconfig_train_net.py.
"""

from detectron2.config import LazyCall as L
from detectron2.model_zoo import get_config

from yolor_d2.modeling.backbone import YOLORELAN

dataloader = get_config("common/data/coco.py").dataloader
dataloader.train.mapper.image_format = "RGB"
dataloader.train.mapper.use_instance_mask = False
dataloader.test.mapper.image_format = "RGB"

model = get_config("common/models/fcos.py").model
model.backbone.bottom_up = L(YOLORELAN)(out_features=["c3", "c4", "c5"], width=1.0, depth=1.0)
model.backbone.in_features = ["c3", "c4", "c5"]
model.head.norm = "BN"  # per level; with "GN" detectron2 0.6 fails on current PyTorch
model.pixel_mean = [0.0, 0.0, 0.0]
model.pixel_std = [255.0, 255.0, 255.0]

optimizer = get_config("common/optim.py").SGD
optimizer.lr = 0.01
lr_multiplier = get_config("common/coco_schedule.py").lr_multiplier_3x
train = get_config("common/train.py").train
train.max_iter = 270000
