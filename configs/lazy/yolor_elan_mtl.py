"""COCO/yolor_elan_mtl.yaml as a LazyConfig."""

from detectron2.config import LazyCall as L
from detectron2.data import MetadataCatalog

from yolor_d2.modeling import PAN, YOLOR
from yolor_d2.modeling.backbone import pan_shapes
from yolor_d2.modeling.heads import AnchorFreeHead, PrototypeMaskHead, UConvHead
from yolor_d2.modeling.heads.caption import (
    CaptionTraining,
    Decoding,
    RegionOptions,
    TransformerCaptionHead,
    TransformerSizes,
    VocabularyOptions,
)
from yolor_d2.modeling.heads.detection import (
    DetectionLossWeights,
    Suppression,
    TaskAlignedAssigner,
)
from yolor_d2.modeling.panoptic import PanopticMerger, panoptic_tables
from yolor_d2.modeling.views import ViewOptions

from .common import (  # noqa: F401  the recipe
    data,
    evaluators,
    init,
    optimizer,
    run,
    schedule,
    test_mapper,
    tokenizer,
    train_mapper,
    tta,
)

metadata = MetadataCatalog.get("coco_2017_train_multitask")
thing_to_panoptic, leaf_to_panoptic = panoptic_tables(metadata)

width = 1.0
shapes = L(pan_shapes)(width=width)
points = ["p3", "p4", "p5"]

model = L(YOLOR)(
    backbone=L(PAN)(out_features=points, width=width, depth=1.0),
    detection_head=L(AnchorFreeHead)(
        input_shape=shapes,
        in_features=points,
        num_classes=len(metadata.thing_classes),
        assigner=L(TaskAlignedAssigner)(topk=10, alpha=0.5, beta=6.0),
        loss_weights=L(DetectionLossWeights)(),
        suppression=L(Suppression)(),
    ),
    mask_head=L(PrototypeMaskHead)(input_shape=shapes, in_features=points, proto_feature="p3"),
    semantic_head=L(UConvHead)(
        input_shape=shapes, in_features=["p3"], num_classes=len(metadata.stuff_classes)
    ),
    caption_head=L(TransformerCaptionHead)(
        input_shape=shapes,
        in_features=["p5"],
        vocabulary=L(VocabularyOptions)(vocab_size=8000),
        sizes=L(TransformerSizes)(dim=512, decoder_layers=3),
        regions=L(RegionOptions)(),
        training=L(CaptionTraining)(),
        decoding=L(Decoding)(beam_size=5),
    ),
    panoptic=L(PanopticMerger)(
        thing_to_panoptic=thing_to_panoptic, leaf_to_panoptic=leaf_to_panoptic
    ),
    views=L(ViewOptions)(weak_view_tasks=["caption"]),
)
