"""Keys of the network."""

from detectron2.config import CfgNode


def add_model(cfg: CfgNode) -> None:
    _add_meta_arch(cfg)
    _add_backbone(cfg)
    _add_detection_head(cfg)
    _add_mask_head(cfg)
    _add_semantic_head(cfg)
    _add_caption_head(cfg)


def _add_meta_arch(cfg: CfgNode) -> None:
    cfg.MODEL.YOLOR = CfgNode()
    # Tasks to train and predict: any of "detection", "mask" (requires "detection"), "semantic",
    # "caption". "mask" and "semantic" together also produce a panoptic map.
    cfg.MODEL.YOLOR.TASKS = ["detection", "mask", "semantic", "caption"]
    # Whether each prediction branch has implicit knowledge: a learned vector that is added before
    # its last convolution, and one that multiplies the output.
    cfg.MODEL.YOLOR.IMPLICIT = True
    # Position of the added vector in the branches of boxes, classes and masks: "predictor" (before
    # the last convolution) or "tower" (before all convolutions, as in the published yolov7-u6).
    cfg.MODEL.YOLOR.IMPLICIT_PLACEMENT = "predictor"
    # Position of a test image on its canvas, whose sides are multiples of 32: "corner" (top left)
    # or "center" (as in published networks). Training views are padded at the right and bottom.
    cfg.MODEL.YOLOR.PAD = "corner"
    # The sides of a test image's canvas are multiples of this number, which is a multiple of 32.
    # With the value of INPUT.TEST_SIZE, canvases are squares, as in the evaluation of the published
    # gyolo.
    cfg.MODEL.YOLOR.TEST_DIVISOR = 32
    # Whether the weak view updates the running statistics of batch norms: "update" or "frozen".
    cfg.MODEL.YOLOR.WEAK_BN = "update"
    # Use the channels_last memory format, which is faster on GPUs with AMP.
    cfg.MODEL.YOLOR.CHANNELS_LAST = False
    # Recompute the activations of backbone and neck in the backward pass instead of storing them:
    # less memory, more time, the same gradients. Cannot be combined with COMPILE.
    cfg.MODEL.YOLOR.ACTIVATION_CHECKPOINTING = False
    # Compile backbone and neck in training (torch.compile). The first steps then take minutes.
    cfg.MODEL.YOLOR.COMPILE = False
    # Mode of torch.compile: "default", "reduce-overhead" (CUDA graphs) or "max-autotune". No mode
    # has been run on a GPU yet; `python -m benchmarks gpu` measures them.
    cfg.MODEL.YOLOR.COMPILE_MODE = "default"
    # Synchronize batch norm statistics across all processes in training.
    cfg.MODEL.YOLOR.SYNC_BN = False


def _add_backbone(cfg: CfgNode) -> None:
    cfg.MODEL.YOLOR_ELAN = CfgNode()
    # Multipliers of the published channels (WIDTH) and stacked 3 x 3 convolutions (DEPTH), in the
    # backbone and in the neck.
    cfg.MODEL.YOLOR_ELAN.WIDTH = 1.0
    cfg.MODEL.YOLOR_ELAN.DEPTH = 1.0
    # Outputs of the backbone alone (build_yolor_elan_backbone): "c2" to "c5", strides 4 to 32.
    cfg.MODEL.YOLOR_ELAN.OUT_FEATURES = ["c2", "c3", "c4", "c5"]

    cfg.MODEL.GELAN = CfgNode()
    # Published size of GELAN, the backbone of YOLOv9: "t", "s", "m" or "c". gyolo uses "c".
    cfg.MODEL.GELAN.SIZE = "c"
    # Multipliers of its channels (WIDTH) and bottlenecks (DEPTH), in the backbone and in the neck.
    cfg.MODEL.GELAN.WIDTH = 1.0
    cfg.MODEL.GELAN.DEPTH = 1.0
    # Outputs of the backbone alone (build_gelan_backbone): "c2" to "c5", strides 4 to 32.
    cfg.MODEL.GELAN.OUT_FEATURES = ["c2", "c3", "c4", "c5"]
    # Parts of gyolo's neck. ATTENTION: self-attention on the coarsest map. DETACHED_HALF: separate
    # convolutions for the second half of the output channels, which send no gradient into other
    # layers.
    cfg.MODEL.GELAN.ATTENTION = False
    cfg.MODEL.GELAN.DETACHED_HALF = False

    cfg.MODEL.PAN = CfgNode()
    # Outputs of backbone and neck (build_yolor_elan_pan_backbone, build_gelan_pan_backbone): "c2"
    # to "c5", "p3" to "p5". GELAN also has "n5", the coarsest map, which is the first of the neck.
    # []: the maps in the heads' IN_FEATURES, or "p3" to "p5" with a META_ARCHITECTURE other than
    # YOLOR. Outputs that no head reads get no gradient, which is an error in
    # DistributedDataParallel.
    cfg.MODEL.PAN.OUT_FEATURES = []
    # Backbone below the neck of build_yolor_elan_pan_backbone: a name in detectron2's registry, for
    # example "build_resnet_backbone", with maps of strides 8, 16 and 32. "": YOLOR-ELAN. The size
    # of the neck remains MODEL.YOLOR_ELAN.WIDTH and DEPTH.
    cfg.MODEL.PAN.BOTTOM_UP = ""


def _add_detection_head(cfg: CfgNode) -> None:
    cfg.MODEL.DETECTION_HEAD = CfgNode()
    # Class in the registry of detection heads. "OneToOneHead" has a second set of branches that
    # predicts without non-maximum suppression.
    cfg.MODEL.DETECTION_HEAD.NAME = "AnchorFreeHead"
    # Feature maps of boxes, classes and mask coefficients. Each of their pixels predicts one
    # object.
    cfg.MODEL.DETECTION_HEAD.IN_FEATURES = ["p3", "p4", "p5"]
    # Number of classes; 0: that of the training sets.
    cfg.MODEL.DETECTION_HEAD.NUM_CLASSES = 0
    # The distance to each side of a box is a distribution over 0 to REG_MAX - 1 strides.
    cfg.MODEL.DETECTION_HEAD.REG_MAX = 16
    # BOX_GROUPS: groups of the last two convolutions of box branches; 4: one per side of a box.
    # DEPTHWISE_CLASSES: depthwise 3 x 3 convolutions in class branches. The published v9 heads have
    # 4 groups, gyolo has both.
    cfg.MODEL.DETECTION_HEAD.BOX_GROUPS = 1
    cfg.MODEL.DETECTION_HEAD.DEPTHWISE_CLASSES = False
    # Each object is assigned the TOPK points inside it with the largest score^ALPHA * IoU^BETA.
    cfg.MODEL.DETECTION_HEAD.ASSIGN = CfgNode()
    cfg.MODEL.DETECTION_HEAD.ASSIGN.TOPK = 10
    cfg.MODEL.DETECTION_HEAD.ASSIGN.ALPHA = 0.5
    cfg.MODEL.DETECTION_HEAD.ASSIGN.BETA = 6.0
    # Boxes with a shorter side, in pixels of the training canvas, are enlarged to this side for the
    # assignment of points. With 16, every object has at least about four candidate points on the
    # finest map. 0: no enlargement.
    cfg.MODEL.DETECTION_HEAD.ASSIGN.MIN_SIDE = 0.0
    # Weights of the classification, CIoU (box) and distribution focal losses.
    cfg.MODEL.DETECTION_HEAD.LOSS_WEIGHT = CfgNode()
    cfg.MODEL.DETECTION_HEAD.LOSS_WEIGHT.CLS = 0.5
    cfg.MODEL.DETECTION_HEAD.LOSS_WEIGHT.BOX = 7.5
    cfg.MODEL.DETECTION_HEAD.LOSS_WEIGHT.DFL = 1.5
    cfg.MODEL.DETECTION_HEAD.TEST = CfgNode()
    # Predictions with a lower score are dropped. 0.001 suits evaluation, 0.25 visualization.
    cfg.MODEL.DETECTION_HEAD.TEST.SCORE_THRESH = 0.001
    # OneToOneHead only. True: predict with the second set of branches, without suppression. False:
    # with the first set and suppression.
    cfg.MODEL.DETECTION_HEAD.TEST.ONE_TO_ONE = True
    # IoU threshold of the non-maximum suppression within each class.
    cfg.MODEL.DETECTION_HEAD.TEST.NMS_THRESH = 0.7
    # Whether a point can predict several classes, or only its best class.
    cfg.MODEL.DETECTION_HEAD.TEST.MULTI_LABEL = True
    # Maximum number of predictions per image before non-maximum suppression; those with the highest
    # scores are kept. TEST.DETECTIONS_PER_IMAGE is the maximum after it.
    cfg.MODEL.DETECTION_HEAD.TEST.PRE_NMS_TOPK = 30000


def _add_mask_head(cfg: CfgNode) -> None:
    cfg.MODEL.MASK_HEAD = CfgNode()
    # Class in the registry of mask heads.
    cfg.MODEL.MASK_HEAD.NAME = "PrototypeMaskHead"
    # An object's mask is a weighted sum of this many prototype masks.
    cfg.MODEL.MASK_HEAD.NUM_PROTOTYPES = 32
    # Feature map from which prototypes are computed, at twice its resolution.
    cfg.MODEL.MASK_HEAD.PROTO_FEATURE = "p3"
    # Layers that compute the prototypes: "convolutions", or "dense_neck" as in the published gyolo.
    cfg.MODEL.MASK_HEAD.PROTOTYPE_NET = "convolutions"
    # Weight of the mask loss.
    cfg.MODEL.MASK_HEAD.LOSS_WEIGHT = 2.5
    # Resolution at which predicted masks are cropped to their boxes: "input" (upsampled to the
    # network's input first; for evaluation) or "fast" (that of the prototypes, upsampled once).
    cfg.MODEL.MASK_HEAD.RESOLUTION = "input"
    # Format of predicted masks: "dense", a boolean tensor (objects, height, width), or "rle",
    # run-length encoding, which saves memory for large images.
    cfg.MODEL.MASK_HEAD.MASK_FORMAT = "dense"


def _add_semantic_head(cfg: CfgNode) -> None:
    # This is detectron2's own node. NAME, IN_FEATURES, NUM_CLASSES (0: the number of classes of the
    # training sets), IGNORE_VALUE and LOSS_WEIGHT (a factor on both losses below) keep their
    # meaning. yolor_d2's heads do not use CONVS_DIM, COMMON_STRIDE and NORM.

    # Weights of the focal loss and of the Dice loss.
    cfg.MODEL.SEM_SEG_HEAD.FOCAL_WEIGHT = 25.0
    cfg.MODEL.SEM_SEG_HEAD.DICE_WEIGHT = 1.25
    # Whether PlainSemanticHead (used in ablations) upsamples its logits by 2.
    cfg.MODEL.SEM_SEG_HEAD.UPSAMPLE = True
    # Whether predictions contain the logits of all classes at the image's size (8 GB for 171
    # classes and 4,000 x 3,000 pixels) or only the class index of each pixel.
    cfg.MODEL.SEM_SEG_HEAD.FULL_LOGITS = False


def _add_caption_head(cfg: CfgNode) -> None:
    cfg.MODEL.CAPTION_HEAD = CfgNode()
    # Class in the registry of caption heads: "TransformerCaptionHead", or "GridRegionCaptionHead"
    # of the published gyolo, which also reads the outputs of the detection and semantic heads.
    # GridRegionCaptionHead applies ENCODER_LAYERS to its map, and requires one map in IN_FEATURES,
    # TIED False, WORD_DROPOUT 0 and no REGION_FEATURE.
    cfg.MODEL.CAPTION_HEAD.NAME = "TransformerCaptionHead"
    # Each pixel of these maps is a visual token, projected to DIM.
    cfg.MODEL.CAPTION_HEAD.IN_FEATURES = ["p5"]
    # Feature map from which objects are pooled, for example "c2". Each object is an additional
    # visual token with appearance, class scores and position. "": no object tokens. Training uses
    # the ground-truth objects if boxes train on the same view (INPUT.WEAK_VIEW_TASKS) and all of
    # its images have them, otherwise the detected ones. The caption loss sends no gradient to the
    # detection head.
    cfg.MODEL.CAPTION_HEAD.REGION_FEATURE = ""
    # Maximum number of object tokens per image. GridRegionCaptionHead uses this many points with
    # the best class scores (300 in gyolo).
    cfg.MODEL.CAPTION_HEAD.MAX_REGIONS = 20
    # Factor of the position encodings of objects that are added to their tokens after the encoder,
    # whose norm makes those before it small; 0: none. With 2, captions learn left and right.
    cfg.MODEL.CAPTION_HEAD.REGION_POSITION_SCALE = 0.0
    # Vocabulary size; 0: that of TOKENIZER.MODEL, or TOKENIZER.VOCAB_SIZE if MODEL is "".
    cfg.MODEL.CAPTION_HEAD.VOCAB_SIZE = 0
    # Ids of padding, begin and end token if TOKENIZER.MODEL is "". The published gyolo, whose
    # vocabulary is a separate file, has 0, 2, 3.
    cfg.MODEL.CAPTION_HEAD.SPECIAL_IDS = [0, 1, 2]
    # Number of position embeddings; at least TOKENIZER.MAX_TOKENS and CAPTION_HEAD.TEST.MAX_TOKENS.
    cfg.MODEL.CAPTION_HEAD.MAX_POSITIONS = 128
    # Sizes of the transformer layers: channels, attention heads, hidden channels of the MLP.
    cfg.MODEL.CAPTION_HEAD.DIM = 512
    cfg.MODEL.CAPTION_HEAD.NUM_HEADS = 8
    cfg.MODEL.CAPTION_HEAD.FFN_DIM = 2048
    # Number of decoder layers.
    cfg.MODEL.CAPTION_HEAD.DECODER_LAYERS = 3
    # Number of encoder layers, which apply self-attention to the visual tokens; 0: decoder only.
    cfg.MODEL.CAPTION_HEAD.ENCODER_LAYERS = 0
    # Dropout probability in the transformer.
    cfg.MODEL.CAPTION_HEAD.DROPOUT = 0.1
    # Whether the output layer shares the weights of the word embedding. If False, the output is an
    # MLP with hidden layers of OUTPUT_DIMS ([]: a single linear layer).
    cfg.MODEL.CAPTION_HEAD.TIED = True
    cfg.MODEL.CAPTION_HEAD.OUTPUT_DIMS = []
    # Label smoothing of the cross-entropy loss, and weight of the caption loss.
    cfg.MODEL.CAPTION_HEAD.LABEL_SMOOTHING = 0.0
    cfg.MODEL.CAPTION_HEAD.LOSS_WEIGHT = 1.0
    # Fraction of the decoder's input tokens that are randomly replaced with padding in training
    # (word dropout).
    cfg.MODEL.CAPTION_HEAD.WORD_DROPOUT = 0.0
    _add_caption_decoding(cfg)
    _add_self_critical_training(cfg)


def _add_caption_decoding(cfg: CfgNode) -> None:
    cfg.MODEL.CAPTION_HEAD.TEST = CfgNode()
    # Beam size; 1: greedy decoding.
    cfg.MODEL.CAPTION_HEAD.TEST.BEAM_SIZE = 5
    # Maximum and minimum length of a caption, in tokens, including the begin and end tokens.
    cfg.MODEL.CAPTION_HEAD.TEST.MAX_TOKENS = 40
    cfg.MODEL.CAPTION_HEAD.TEST.MIN_TOKENS = 0
    # Beam scores are log-probabilities divided by length^LENGTH_PENALTY; 0: no normalization.
    cfg.MODEL.CAPTION_HEAD.TEST.LENGTH_PENALTY = 0.0
    # Block repeated n-grams of this length; 0 disables it.
    cfg.MODEL.CAPTION_HEAD.TEST.NO_REPEAT_NGRAM = 0
    # Whether finished captions remain in the beam, and captions of MAX_TOKENS need no end token, as
    # in the published gyolo. False: unfinished captions replace them in the beam.
    cfg.MODEL.CAPTION_HEAD.TEST.FINISHED_IN_BEAM = False
    # TOP_P: sample captions from the most probable tokens with this cumulative probability (nucleus
    # sampling); 0: beam search. TEMPERATURE divides the logits; values below 1 sharpen the
    # distribution. For a given SEED, the caption of an image does not depend on its batch.
    cfg.MODEL.CAPTION_HEAD.TEST.TOP_P = 0.0
    cfg.MODEL.CAPTION_HEAD.TEST.TEMPERATURE = 1.0
    cfg.MODEL.CAPTION_HEAD.TEST.SEED = 0


def _add_self_critical_training(cfg: CfgNode) -> None:
    # Self-critical sequence training: the reward of a sampled caption is its CIDEr-D minus the mean
    # of the other samples of the same image.
    cfg.MODEL.CAPTION_HEAD.SCST = CfgNode()
    # Number of captions sampled per image; 0: no self-critical training, but cross-entropy with the
    # reference captions.
    cfg.MODEL.CAPTION_HEAD.SCST.SAMPLES = 0
    # Weight of an additional cross-entropy loss; 0 disables it.
    cfg.MODEL.CAPTION_HEAD.SCST.CE_WEIGHT = 0.0
    # Count the end token as a word in CIDEr-D. If False, truncated sentences get high rewards.
    cfg.MODEL.CAPTION_HEAD.SCST.END_TOKEN = True
