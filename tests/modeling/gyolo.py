"""A small network with the parts of gyolo."""

GYOLO = [
    *("MODEL.BACKBONE.NAME", "build_gelan_pan_backbone"),
    *("MODEL.GELAN.WIDTH", 0.125),
    *("MODEL.GELAN.ATTENTION", True),
    *("MODEL.GELAN.DETACHED_HALF", True),
    *("MODEL.DETECTION_HEAD.NAME", "OneToOneHead"),
    *("MODEL.DETECTION_HEAD.BOX_GROUPS", 4),
    *("MODEL.DETECTION_HEAD.DEPTHWISE_CLASSES", True),
    *("MODEL.SEM_SEG_HEAD.NAME", "DenseNeckSemanticHead"),
    *("MODEL.MASK_HEAD.PROTOTYPE_NET", "dense_neck"),
    *("MODEL.CAPTION_HEAD.NAME", "GridRegionCaptionHead"),
    *("MODEL.CAPTION_HEAD.IN_FEATURES", ["n5"]),
    *("MODEL.CAPTION_HEAD.MAX_REGIONS", 20),
    *("MODEL.CAPTION_HEAD.TIED", False),
    *("MODEL.CAPTION_HEAD.ENCODER_LAYERS", 1),
    *("MODEL.CAPTION_HEAD.DECODER_LAYERS", 1),
    *("MODEL.CAPTION_HEAD.TEST.FINISHED_IN_BEAM", True),
]
