"""Every configuration key of yolor_d2, with its default and meaning."""

from detectron2.config import CfgNode


def add_yolor_config(cfg: CfgNode) -> None:
    """Add yolor_d2's keys to a configuration. detectron2's own keys keep their values."""
    _add_model(cfg)
    _add_input(cfg)
    _add_loading(cfg)
    _add_solver(cfg)
    _add_evaluation(cfg)
    _add_logging(cfg)


def _add_model(cfg: CfgNode) -> None:
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
    # Where boxes, classes and masks add the first vector: before the "predictor", the last
    # convolution, or before the whole "tower" of a branch, as published in yolov7-u6.
    cfg.MODEL.YOLOR.IMPLICIT_PLACEMENT = "predictor"
    # Position of a test image on its canvas, whose sides are multiples of 32: "corner" (top left)
    # or "center" (as in published networks). Training views are padded at the right and bottom.
    cfg.MODEL.YOLOR.PAD = "corner"
    # Multiple of 32 that the sides of a test image's canvas are divisible by: with INPUT.TEST_SIZE,
    # canvases are squares, as in the evaluation of the published gyolo.
    cfg.MODEL.YOLOR.TEST_DIVISOR = 32
    # Whether the weak view updates the running statistics of batch norms: "update" or "frozen".
    cfg.MODEL.YOLOR.WEAK_BN = "update"
    # Use the channels_last memory format, which is faster on GPUs with AMP.
    cfg.MODEL.YOLOR.CHANNELS_LAST = False
    # Compile backbone and neck in training (torch.compile). The first steps then take minutes.
    cfg.MODEL.YOLOR.COMPILE = False
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
    # The backbone of YOLOv9 and gyolo: published network, "t", "s", "m" or "c" (also of gyolo).
    cfg.MODEL.GELAN.SIZE = "c"
    # Multipliers of its channels (WIDTH) and bottlenecks (DEPTH), in the backbone and in the neck.
    cfg.MODEL.GELAN.WIDTH = 1.0
    cfg.MODEL.GELAN.DEPTH = 1.0
    # Outputs of the backbone alone (build_gelan_backbone): "c2" to "c5", strides 4 to 32.
    cfg.MODEL.GELAN.OUT_FEATURES = ["c2", "c3", "c4", "c5"]
    # Parts of gyolo's neck: self-attention on the coarsest map, and separate convolutions for the
    # second half of the output channels, whose gradient stays out of all other layers.
    cfg.MODEL.GELAN.ATTENTION = False
    cfg.MODEL.GELAN.DETACHED_HALF = False

    cfg.MODEL.PAN = CfgNode()
    # Outputs of backbone and neck (build_yolor_elan_pan_backbone, build_gelan_pan_backbone): "c2"
    # to "c5", "p3" to "p5"; of GELAN also "n5", the coarsest map, at which the neck starts.
    # []: those in the heads' IN_FEATURES; with a META_ARCHITECTURE other than YOLOR, "p3" to "p5".
    # Outputs that no head reads get no gradient, which is an error in DistributedDataParallel.
    cfg.MODEL.PAN.OUT_FEATURES = []
    # Backbone below the neck of build_yolor_elan_pan_backbone: a name of detectron2's registry, for
    # instance "build_resnet_backbone", whose maps of strides 8, 16 and 32 the neck reads. "":
    # YOLOR-ELAN. The neck keeps MODEL.YOLOR_ELAN.WIDTH and DEPTH.
    cfg.MODEL.PAN.BOTTOM_UP = ""


def _add_detection_head(cfg: CfgNode) -> None:
    cfg.MODEL.DETECTION_HEAD = CfgNode()
    # Class in the registry of detection heads.
    # "OneToOneHead" has a second set of branches, whose predictions need no suppression.
    cfg.MODEL.DETECTION_HEAD.NAME = "AnchorFreeHead"
    # Each pixel of these maps predicts one object. The mask head uses the same maps for its
    # coefficients.
    cfg.MODEL.DETECTION_HEAD.IN_FEATURES = ["p3", "p4", "p5"]
    # 0: the number of classes of the training sets.
    cfg.MODEL.DETECTION_HEAD.NUM_CLASSES = 0
    # The distance to each side of a box is a distribution over 0 to REG_MAX - 1 strides.
    cfg.MODEL.DETECTION_HEAD.REG_MAX = 16
    # Groups of the last two convolutions of box branches (4: one for each side of a box), and
    # whether class branches use depthwise 3 x 3 convolutions. The published v9 heads have 4 groups,
    # gyolo has both.
    cfg.MODEL.DETECTION_HEAD.BOX_GROUPS = 1
    cfg.MODEL.DETECTION_HEAD.DEPTHWISE_CLASSES = False
    # Each object is assigned the TOPK points inside it with the largest score^ALPHA * IoU^BETA.
    cfg.MODEL.DETECTION_HEAD.ASSIGN = CfgNode()
    cfg.MODEL.DETECTION_HEAD.ASSIGN.TOPK = 10
    cfg.MODEL.DETECTION_HEAD.ASSIGN.ALPHA = 0.5
    cfg.MODEL.DETECTION_HEAD.ASSIGN.BETA = 6.0
    # Weights of the classification, CIoU (box) and distribution focal losses.
    cfg.MODEL.DETECTION_HEAD.LOSS_WEIGHT = CfgNode()
    cfg.MODEL.DETECTION_HEAD.LOSS_WEIGHT.CLS = 0.5
    cfg.MODEL.DETECTION_HEAD.LOSS_WEIGHT.BOX = 7.5
    cfg.MODEL.DETECTION_HEAD.LOSS_WEIGHT.DFL = 1.5
    cfg.MODEL.DETECTION_HEAD.TEST = CfgNode()
    # Predictions with a lower score are dropped. 0.001 suits evaluation, 0.25 visualization.
    cfg.MODEL.DETECTION_HEAD.TEST.SCORE_THRESH = 0.001
    # Of OneToOneHead: whether its second set of branches predicts, without suppression, or the
    # first one, with suppression.
    cfg.MODEL.DETECTION_HEAD.TEST.ONE_TO_ONE = True
    # IoU threshold of the non-maximum suppression within each class.
    cfg.MODEL.DETECTION_HEAD.TEST.NMS_THRESH = 0.7
    # Whether a point can predict several classes, or only its best class.
    cfg.MODEL.DETECTION_HEAD.TEST.MULTI_LABEL = True
    # Maximum number of predictions of an image before non-maximum suppression, best first;
    # TEST.DETECTIONS_PER_IMAGE is the maximum after it.
    cfg.MODEL.DETECTION_HEAD.TEST.PRE_NMS_TOPK = 30000


def _add_mask_head(cfg: CfgNode) -> None:
    cfg.MODEL.MASK_HEAD = CfgNode()
    # Class in the registry of mask heads.
    cfg.MODEL.MASK_HEAD.NAME = "PrototypeMaskHead"
    # An object's mask is a weighted sum of this many prototype masks.
    cfg.MODEL.MASK_HEAD.NUM_PROTOTYPES = 32
    # Feature map that prototypes are computed from; they have twice its resolution.
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
    # of the published gyolo, which reads the outputs of the detection and the semantic head. The
    # latter needs one map in IN_FEATURES, on which ENCODER_LAYERS work, TIED False and
    # WORD_DROPOUT 0; it has no REGION_FEATURE.
    cfg.MODEL.CAPTION_HEAD.NAME = "TransformerCaptionHead"
    # Each pixel of these maps is a visual token, projected to DIM.
    cfg.MODEL.CAPTION_HEAD.IN_FEATURES = ["p5"]
    # Feature map that objects are pooled from, for instance "c2". Each object is another visual
    # token, which encodes its appearance, class scores and position. "": no object tokens.
    # Training uses the ground-truth objects if all images of a batch have them, else the detected
    # ones. The caption loss sends no gradient to the detection head.
    cfg.MODEL.CAPTION_HEAD.REGION_FEATURE = ""
    # Maximum number of object tokens of an image. For GridRegionCaptionHead: of points with the
    # best class scores (300 in gyolo).
    cfg.MODEL.CAPTION_HEAD.MAX_REGIONS = 20
    # 0: the vocabulary size of TOKENIZER.MODEL, or TOKENIZER.VOCAB_SIZE if that is "".
    cfg.MODEL.CAPTION_HEAD.VOCAB_SIZE = 0
    # Ids of padding, begin and end if TOKENIZER.MODEL is "", as with the published gyolo (0, 2, 3),
    # whose vocabulary is a separate file.
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
    # Fraction of the decoder's input words that are replaced by padding in training.
    cfg.MODEL.CAPTION_HEAD.WORD_DROPOUT = 0.0
    _add_caption_decoding(cfg)
    _add_self_critical_training(cfg)


def _add_caption_decoding(cfg: CfgNode) -> None:
    cfg.MODEL.CAPTION_HEAD.TEST = CfgNode()
    # 1: greedy decoding.
    cfg.MODEL.CAPTION_HEAD.TEST.BEAM_SIZE = 5
    # Maximum and minimum length of a caption, in tokens, including the begin and end tokens.
    cfg.MODEL.CAPTION_HEAD.TEST.MAX_TOKENS = 40
    cfg.MODEL.CAPTION_HEAD.TEST.MIN_TOKENS = 0
    # Beam scores are log-probabilities divided by length^LENGTH_PENALTY; 0: no normalization.
    cfg.MODEL.CAPTION_HEAD.TEST.LENGTH_PENALTY = 0.0
    # Block repeated n-grams of this length; 0 disables it.
    cfg.MODEL.CAPTION_HEAD.TEST.NO_REPEAT_NGRAM = 0
    # Whether finished captions keep their places in the beam, and captions of MAX_TOKENS need no
    # end token, as in the published gyolo. False: other captions take their places.
    cfg.MODEL.CAPTION_HEAD.TEST.FINISHED_IN_BEAM = False
    # Above 0, captions are sampled from the most probable tokens with this cumulative probability
    # (nucleus sampling) instead of searched. 0: beam search.
    # TEMPERATURE divides the logits: below 1 sharpens the distribution. For a given SEED, the
    # caption of an image does not depend on its batch.
    cfg.MODEL.CAPTION_HEAD.TEST.TOP_P = 0.0
    cfg.MODEL.CAPTION_HEAD.TEST.TEMPERATURE = 1.0
    cfg.MODEL.CAPTION_HEAD.TEST.SEED = 0


def _add_self_critical_training(cfg: CfgNode) -> None:
    # Self-critical sequence training: the reward of a sampled caption is its CIDEr-D minus the mean
    # of the other samples of the same image.
    cfg.MODEL.CAPTION_HEAD.SCST = CfgNode()
    # Captions sampled for each image; 0: cross-entropy training on the reference captions instead.
    cfg.MODEL.CAPTION_HEAD.SCST.SAMPLES = 0
    # Weight of an additional cross-entropy loss; 0 disables it.
    cfg.MODEL.CAPTION_HEAD.SCST.CE_WEIGHT = 0.0
    # Count the end token as a word in CIDEr-D. Otherwise truncated sentences are rewarded.
    cfg.MODEL.CAPTION_HEAD.SCST.END_TOKEN = True


def _add_input(cfg: CfgNode) -> None:
    # "multitask": MultiTaskMapper with two views. "detectron2": detectron2's DatasetMapper with its
    # INPUT keys.
    cfg.INPUT.DATASET_MAPPER_NAME = "multitask"
    # Tasks trained on the weak view, which is only resized; the others use the augmented strong
    # view. [] and ["semantic", "caption"] are ablations of the paper.
    cfg.INPUT.WEAK_VIEW_TASKS = ["caption"]
    # Reference captions per training image, drawn at random; 0: all. More captions cost little,
    # because the image is encoded once.
    cfg.INPUT.CAPTIONS_PER_IMAGE = 1
    # Strides of the training targets, in pixels: 4 for yolor_d2's mask and semantic heads, 1 for
    # other heads.
    cfg.INPUT.MASK_STRIDE = 4
    cfg.INPUT.SEM_SEG_STRIDE = 4
    # Long side of a resized test image, in pixels. The model pads both sides to multiples of 32.
    cfg.INPUT.TEST_SIZE = 640

    cfg.INPUT.WEAK = CfgNode()
    # Long side of the weak view, in pixels.
    cfg.INPUT.WEAK.SIZE = 640

    cfg.INPUT.STRONG = CfgNode()
    # Side of the strong view, in pixels, a multiple of the strides.
    cfg.INPUT.STRONG.SIZE = 640
    # Fraction of samples that are a mosaic of four images.
    cfg.INPUT.STRONG.MOSAIC = 1.0
    # Number of final optimizer steps without mosaic, copy-paste and mixup.
    cfg.INPUT.CLOSE_MOSAIC_ITERS = 0
    # Fraction of a mosaic's objects that are pasted a second time, mirrored, if they hide little of
    # other objects.
    cfg.INPUT.STRONG.COPY_PASTE = 0.3
    # Fraction of mosaics that are blended with another mosaic.
    cfg.INPUT.STRONG.MIXUP = 0.15
    # Random scale factor in 1 -+ SCALE; random translation in -+ TRANSLATE times the side.
    cfg.INPUT.STRONG.SCALE = 0.9
    cfg.INPUT.STRONG.TRANSLATE = 0.1
    # Random rotation and shear in -+ degrees. If both are 0, images are resized instead of warped,
    # which is faster.
    cfg.INPUT.STRONG.DEGREES = 0.0
    cfg.INPUT.STRONG.SHEAR = 0.0
    # Hue, saturation and value are multiplied by random factors in 1 -+ these values.
    cfg.INPUT.STRONG.HSV = [0.015, 0.7, 0.4]
    # Probability of a horizontal flip.
    cfg.INPUT.STRONG.FLIP = 0.5


def _add_loading(cfg: CfgNode) -> None:
    # Fraction of the samples drawn from each of DATASETS.TRAIN; []: all images equally often.
    cfg.DATASETS.TRAIN_RATIOS = []
    # File or folder of labeled data in a format of docs/own_data.md, whose parts are registered as
    # "own_train", "own_val" and "own_test"; "": none. `yolor-d2 train --data` sets it.
    cfg.DATASETS.DATA = ""
    # Names of the object classes, for data sets with different classes: all of TRAIN and TEST are
    # renumbered by name, and a class that a data set lacks is unlabeled in it. [] requires that
    # all data sets have the same classes in the same order.
    cfg.DATASETS.THING_CLASSES = []
    # Labeled object classes of data sets in which not all are labeled, for instance
    # [["my_boxes", ["ball", "box"]]]; see docs/own_data.md.
    cfg.DATASETS.LABELED_CLASSES = []
    # Size of each worker's cache of decoded images in MB, useful if the data set fits; 0: no cache.
    cfg.DATALOADER.IMAGE_CACHE_MB = 0
    # Maximum fraction of training images that cannot be used. A run stops when it is exceeded.
    cfg.DATALOADER.MAX_BAD_FILES = 0.05

    cfg.TOKENIZER = CfgNode()
    # Path of a sentencepiece model (see datasets/prepare_tokenizer.py), or of a text file with a
    # word in each line that begins with [PAD] (see docs/captioning.md). "": train a model on the
    # captions of the training sets.
    cfg.TOKENIZER.MODEL = ""
    # Vocabulary size of a model that is trained. Small corpora result in fewer pieces.
    cfg.TOKENIZER.VOCAB_SIZE = 8000
    # Training captions are truncated to this number of tokens, including the begin and end tokens.
    cfg.TOKENIZER.MAX_TOKENS = 40


def _add_solver(cfg: CfgNode) -> None:
    """Add keys beside detectron2's own.

    IMS_PER_BATCH 0 is the largest batch whose training step fits into the memory of the GPUs, found
    by trial steps of about a minute; 8 on a CPU. The saved configuration has the number, which a
    resumed run keeps. BASE_LR and MAX_ITER are not changed.

    MAX_ITER, WARMUP_ITERS, CHECKPOINT_PERIOD and TEST.EVAL_PERIOD count optimizer steps. As in
    detectron2, EVAL_PERIOD 0 evaluates after the last step; a negative period never does.
    """
    # "AdamW" (with BETAS and EPS) or "SGD" (with MOMENTUM and NESTEROV).
    cfg.SOLVER.OPTIMIZER = "AdamW"
    cfg.SOLVER.BETAS = [0.9, 0.999]
    cfg.SOLVER.EPS = 1e-8
    # Learning rate multipliers of parameters with a name prefix, for instance
    # [["backbone.bottom_up", 0.1], ["caption_head", 2.0]]. The last matching prefix applies.
    cfg.SOLVER.LR_FACTORS = []
    # Curve of the learning rate instead of the half cosine of LR_SCHEDULER_NAME WarmupCosineLR, a
    # name that detectron2's own tools know as well: "flat_cosine" (constant for the first half of
    # the run), "cosine", "linear" or "poly", which end at LR_FINAL, or "fixed". "": detectron2's.
    # These can be given as LR_SCHEDULER_NAME as well.
    cfg.SOLVER.LR_CURVE = ""
    # Final learning rate of these curves, as a fraction of BASE_LR.
    cfg.SOLVER.LR_FINAL = 0.01
    # WARMUP_FACTOR of biases; negative: WARMUP_FACTOR, as for other parameters.
    cfg.SOLVER.WARMUP_FACTOR_BIAS = -1.0
    # Initial momentum (AdamW: first beta) of the warm-up; negative: no warm-up of the momentum.
    cfg.SOLVER.WARMUP_MOMENTUM = -1.0
    # Gradient accumulation: number of batches of IMS_PER_BATCH images per optimizer step.
    cfg.SOLVER.ACCUM_STEPS = 1
    # Whether CLIP_TYPE "norm" limits the norm of all gradients together. False: the norm of each
    # parameter's gradient, as in detectron2.
    cfg.SOLVER.CLIP_GRADIENTS.FULL_MODEL = False
    # Precision if AMP.ENABLED is True: "bf16", or "fp16" with loss scaling. Ignored on CPUs.
    cfg.SOLVER.AMP.DTYPE = "bf16"
    # Exponential moving average of the weights, with decay DECAY * (1 - exp(-steps / TAU)).
    cfg.SOLVER.EMA = CfgNode()
    cfg.SOLVER.EMA.ENABLED = False
    cfg.SOLVER.EMA.DECAY = 0.9999
    cfg.SOLVER.EMA.TAU = 2000.0
    # Name prefixes of parameters that are not trained. The batch norms of these modules keep their
    # running statistics. []: all parameters are trained.
    cfg.SOLVER.FREEZE = []
    # If a loss, gradient or batch norm statistic is not finite: "stop" the run, or "skip" the step
    # and stop after MAX_SKIPPED consecutive skipped steps.
    cfg.SOLVER.NONFINITE = "stop"
    cfg.SOLVER.MAX_SKIPPED = 10
    # Number of most recent periodic checkpoints to keep; at least 2.
    cfg.SOLVER.CHECKPOINT_KEEP = 2


def _add_evaluation(cfg: CfgNode) -> None:
    # Weights of a checkpoint to evaluate: "ema" (if the checkpoint contains them) or "raw".
    cfg.TEST.WEIGHTS = "ema"
    # Test images per batch in each process.
    cfg.TEST.BATCH_SIZE = 1
    # Steps between computations of the losses on the test sets, without augmentation; 0: never.
    cfg.TEST.LOSS_PERIOD = 0
    # Maximum number of images for these losses; 0: all.
    cfg.TEST.LOSS_IMAGES = 0
    # Metric for model_best.pth, for instance "bbox/AP"; "": do not save the best weights.
    # Losses on the test sets can be used as well: "validation/total_loss".
    cfg.TEST.BEST = CfgNode()
    cfg.TEST.BEST.METRIC = ""
    cfg.TEST.BEST.MODE = "max"  # or "min"
    # Stop when METRIC has not improved for PATIENCE evaluations; "": never.
    cfg.TEST.EARLY_STOP = CfgNode()
    cfg.TEST.EARLY_STOP.METRIC = ""
    cfg.TEST.EARLY_STOP.MODE = "max"  # or "min"
    cfg.TEST.EARLY_STOP.PATIENCE = 5
    # Test-time augmentation of boxes and masks: SIZES are long sides in pixels ([]:
    # INPUT.TEST_SIZE), FLIP adds mirrored images.
    cfg.TEST.TTA = CfgNode()
    cfg.TEST.TTA.ENABLED = False
    cfg.TEST.TTA.SIZES = []
    cfg.TEST.TTA.FLIP = True
    # Number of processes that compute the metrics of boxes and masks.
    cfg.TEST.COCO_PROCESSES = 1
    # Caption metrics that require Java. METEOR is skipped if Java is not installed.
    cfg.TEST.METEOR = True
    cfg.TEST.SPICE = False
    # Save the confusion matrix and precision-recall curves as images.
    cfg.TEST.PLOTS = False


def _add_logging(cfg: CfgNode) -> None:
    cfg.LOG = CfgNode()
    # Steps between log lines.
    cfg.LOG.PERIOD = 20
    # Steps between measurements of each task's gradient norm on the shared backbone and neck;
    # 0: never. A measurement takes one backward pass per task.
    cfg.LOG.TASK_GRADIENTS = 0
    # Number of training samples to visualize before the first step; 0: none.
    cfg.LOG.PICTURES = 8
    # Plot all metrics at the end of the run.
    cfg.LOG.CURVES = True
    # Also log to Weights & Biases (pip install wandb).
    cfg.LOG.WANDB = False
    # Warn when waiting for data takes more than this fraction of the time.
    cfg.LOG.MAX_DATA_WAIT = 0.1
