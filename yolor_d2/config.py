"""Every configuration key of yolor_d2, with its default and what it means."""

from detectron2.config import CfgNode


def add_yolor_config(cfg: CfgNode) -> None:
    """Add our keys to a configuration; detectron2's own keep their meaning."""
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
    # What is trained and predicted: any of "detection", "mask" (needs detection), "semantic",
    # "caption". Instances and a semantic map together give a panoptic map as well.
    cfg.MODEL.YOLOR.TASKS = ["detection", "mask", "semantic", "caption"]
    # One additive and one multiplicative vector around the last convolution of each prediction
    # branch.
    cfg.MODEL.YOLOR.IMPLICIT = True
    # Where a test image lies on its canvas, whose sides are multiples of 32: "corner" (top left) or
    # "center", as published. Training views are always padded at the right and at the bottom.
    cfg.MODEL.YOLOR.PAD = "corner"
    # Whether the weak view moves the running statistics of batch norms: "update" or "frozen".
    cfg.MODEL.YOLOR.WEAK_BN = "update"
    # Memory layout of images and maps with the channels last: faster on GPUs with AMP.
    cfg.MODEL.YOLOR.CHANNELS_LAST = False
    # Compile backbone and neck in training (torch.compile); the first steps take minutes.
    cfg.MODEL.YOLOR.COMPILE = False
    # Share the statistics of batch norms over all processes in training.
    cfg.MODEL.YOLOR.SYNC_BN = False


def _add_backbone(cfg: CfgNode) -> None:
    cfg.MODEL.YOLOR_ELAN = CfgNode()
    # Factors on the published numbers of channels and of chained 3 x 3 convolutions, neck included.
    cfg.MODEL.YOLOR_ELAN.WIDTH = 1.0
    cfg.MODEL.YOLOR_ELAN.DEPTH = 1.0
    # Maps of the bare backbone (build_yolor_elan_backbone): "c2" to "c5", of strides 4 to 32.
    cfg.MODEL.YOLOR_ELAN.OUT_FEATURES = ["c2", "c3", "c4", "c5"]

    cfg.MODEL.PAN = CfgNode()
    # Maps of backbone and neck (build_yolor_elan_pan_backbone): "c2" to "c5", "p3" to "p5". []
    # builds what the heads' IN_FEATURES ask for and nothing else; what no head reads has no
    # gradient, which DistributedDataParallel does not forgive. Under another META_ARCHITECTURE
    # than YOLOR, [] is "p3" to "p5".
    cfg.MODEL.PAN.OUT_FEATURES = []


def _add_detection_head(cfg: CfgNode) -> None:
    cfg.MODEL.DETECTION_HEAD = CfgNode()
    cfg.MODEL.DETECTION_HEAD.NAME = "AnchorFreeHead"
    # Each pixel of these maps predicts one object. The mask coefficients come from the same maps.
    cfg.MODEL.DETECTION_HEAD.IN_FEATURES = ["p3", "p4", "p5"]
    # 0: as many as the training data have.
    cfg.MODEL.DETECTION_HEAD.NUM_CLASSES = 0
    # A side's distance is a distribution over 0 .. REG_MAX - 1 cells.
    cfg.MODEL.DETECTION_HEAD.REG_MAX = 16
    # An object is learnt by the TOPK points inside it with the largest score^ALPHA * overlap^BETA.
    cfg.MODEL.DETECTION_HEAD.ASSIGN = CfgNode()
    cfg.MODEL.DETECTION_HEAD.ASSIGN.TOPK = 10
    cfg.MODEL.DETECTION_HEAD.ASSIGN.ALPHA = 0.5
    cfg.MODEL.DETECTION_HEAD.ASSIGN.BETA = 6.0
    cfg.MODEL.DETECTION_HEAD.LOSS_WEIGHT = CfgNode()
    cfg.MODEL.DETECTION_HEAD.LOSS_WEIGHT.CLS = 0.5
    cfg.MODEL.DETECTION_HEAD.LOSS_WEIGHT.BOX = 7.5
    cfg.MODEL.DETECTION_HEAD.LOSS_WEIGHT.DFL = 1.5
    cfg.MODEL.DETECTION_HEAD.TEST = CfgNode()
    # Predictions below are dropped: 0.001 is for evaluation, 0.25 would be for pictures.
    cfg.MODEL.DETECTION_HEAD.TEST.SCORE_THRESH = 0.001
    # Of two boxes of a class with a larger overlap the worse one is dropped.
    cfg.MODEL.DETECTION_HEAD.TEST.NMS_THRESH = 0.7
    # Whether a point may give one object for each class, or for its best class only.
    cfg.MODEL.DETECTION_HEAD.TEST.MULTI_LABEL = True
    # At most so many of the best predictions of an image are compared with each other; of what is
    # left, TEST.DETECTIONS_PER_IMAGE are kept.
    cfg.MODEL.DETECTION_HEAD.TEST.PRE_NMS_TOPK = 30000


def _add_mask_head(cfg: CfgNode) -> None:
    cfg.MODEL.MASK_HEAD = CfgNode()
    cfg.MODEL.MASK_HEAD.NAME = "PrototypeMaskHead"
    # An object's mask is a weighted sum of this many prototypes.
    cfg.MODEL.MASK_HEAD.NUM_PROTOTYPES = 32
    # The map that they are made from, at twice its resolution.
    cfg.MODEL.MASK_HEAD.PROTO_FEATURE = "p3"
    cfg.MODEL.MASK_HEAD.LOSS_WEIGHT = 2.5
    # With "input", masks are enlarged to the network's input, then cropped to their boxes and
    # binarised, for evaluation. With "fast", they are cropped as they are, then enlarged once.
    cfg.MODEL.MASK_HEAD.RESOLUTION = "input"
    # Predicted masks: "dense" are a boolean tensor (objects, height, width); "rle" are run lengths,
    # which large images want.
    cfg.MODEL.MASK_HEAD.MASK_FORMAT = "dense"


def _add_semantic_head(cfg: CfgNode) -> None:
    # detectron2's own node; NAME, IN_FEATURES, NUM_CLASSES (0: as many as the training data have),
    # IGNORE_VALUE and LOSS_WEIGHT (a factor on both terms) mean what they mean there. Our heads
    # have no use for CONVS_DIM, COMMON_STRIDE and NORM.
    cfg.MODEL.SEM_SEG_HEAD.FOCAL_WEIGHT = 25.0
    cfg.MODEL.SEM_SEG_HEAD.DICE_WEIGHT = 1.25
    # Whether PlainSemanticHead, of the ablations, gives logits at twice its map's resolution.
    cfg.MODEL.SEM_SEG_HEAD.UPSAMPLE = True
    # Whether predictions hold the logits of all classes at the image's size. 171 classes of a
    # 4,000 x 3,000 image are 8 GB; without, each pixel has the number of its class.
    cfg.MODEL.SEM_SEG_HEAD.FULL_LOGITS = False


def _add_caption_head(cfg: CfgNode) -> None:
    cfg.MODEL.CAPTION_HEAD = CfgNode()
    cfg.MODEL.CAPTION_HEAD.NAME = "TransformerCaptionHead"
    # Each pixel of these maps is a visual token, projected to DIM.
    cfg.MODEL.CAPTION_HEAD.IN_FEATURES = ["p5"]
    # The map that detected objects are cut from, for instance "c2"; each object is one more token,
    # of how it looks, of what classes it may be, and of where it is. "": objects are not tokens.
    # Captions learn from the true objects of the view where all images of a batch have them, else
    # from what is found. No gradient of theirs reaches the detection head.
    cfg.MODEL.CAPTION_HEAD.REGION_FEATURE = ""
    # Objects of an image, at most.
    cfg.MODEL.CAPTION_HEAD.MAX_REGIONS = 20
    # 0: that of TOKENIZER.MODEL, or TOKENIZER.VOCAB_SIZE where none is given.
    cfg.MODEL.CAPTION_HEAD.VOCAB_SIZE = 0
    # The longest text that the head has positions for; at least TOKENIZER.MAX_TOKENS and
    # TEST.MAX_TOKENS.
    cfg.MODEL.CAPTION_HEAD.MAX_POSITIONS = 128
    cfg.MODEL.CAPTION_HEAD.DIM = 512
    cfg.MODEL.CAPTION_HEAD.NUM_HEADS = 8
    cfg.MODEL.CAPTION_HEAD.FFN_DIM = 2048
    cfg.MODEL.CAPTION_HEAD.DECODER_LAYERS = 3
    # Self-attention among the visual tokens before they are decoded; 0 is "decoder only".
    cfg.MODEL.CAPTION_HEAD.ENCODER_LAYERS = 0
    cfg.MODEL.CAPTION_HEAD.DROPOUT = 0.1
    # Whether words are predicted with the embedding's own matrix, or else by layers of these hidden
    # sizes and one to the vocabulary.
    cfg.MODEL.CAPTION_HEAD.TIED = True
    cfg.MODEL.CAPTION_HEAD.OUTPUT_DIMS = []
    cfg.MODEL.CAPTION_HEAD.LABEL_SMOOTHING = 0.0
    cfg.MODEL.CAPTION_HEAD.LOSS_WEIGHT = 1.0
    # Share of the words that the decoder does not hear in training.
    cfg.MODEL.CAPTION_HEAD.WORD_DROPOUT = 0.0
    cfg.MODEL.CAPTION_HEAD.TEST = CfgNode()
    # 1 is greedy decoding.
    cfg.MODEL.CAPTION_HEAD.TEST.BEAM_SIZE = 5
    # The longest and the shortest caption, begin and end included.
    cfg.MODEL.CAPTION_HEAD.TEST.MAX_TOKENS = 40
    cfg.MODEL.CAPTION_HEAD.TEST.MIN_TOKENS = 0
    # A caption's log-probability is divided by its length to this power; 0 leaves it alone.
    cfg.MODEL.CAPTION_HEAD.TEST.LENGTH_PENALTY = 0.0
    # So many tokens in a row are not said twice; 0: whatever.
    cfg.MODEL.CAPTION_HEAD.TEST.NO_REPEAT_NGRAM = 0
    # Above 0, a caption is not searched for but drawn, from the likeliest tokens that have this
    # probability together. A temperature below 1 makes likely tokens likelier. The same seed draws
    # the same caption of an image, whatever the batch.
    cfg.MODEL.CAPTION_HEAD.TEST.TOP_P = 0.0
    cfg.MODEL.CAPTION_HEAD.TEST.TEMPERATURE = 1.0
    cfg.MODEL.CAPTION_HEAD.TEST.SEED = 0
    # Self-critical training: captions are drawn, and earn the CIDEr-D by which they are better than
    # the others drawn of their image.
    cfg.MODEL.CAPTION_HEAD.SCST = CfgNode()
    # Captions drawn of each image; 0: learn from the true ones, by cross-entropy.
    cfg.MODEL.CAPTION_HEAD.SCST.SAMPLES = 0
    # Weight of the cross-entropy loss beside.
    cfg.MODEL.CAPTION_HEAD.SCST.CE_WEIGHT = 0.0
    # Let the end of a caption count as a word. Without, captions earn more with broken ends.
    cfg.MODEL.CAPTION_HEAD.SCST.END_TOKEN = True


def _add_input(cfg: CfgNode) -> None:
    # "multitask": our two views. "detectron2": its DatasetMapper with the ordinary INPUT keys.
    cfg.INPUT.DATASET_MAPPER_NAME = "multitask"
    # The tasks that read the weak view, an image that is only resized; the others read the strong
    # one. [] and ["semantic", "caption"] are the ablations of the paper.
    cfg.INPUT.WEAK_VIEW_TASKS = ["caption"]
    # Captions of an image that are learnt from at a time, drawn at random; 0: all. More of them
    # cost little, as the image goes through the network once.
    cfg.INPUT.CAPTIONS_PER_IMAGE = 1
    # Strides of the targets. 4 is that of our mask and semantic heads; foreign ones expect 1.
    cfg.INPUT.MASK_STRIDE = 4
    cfg.INPUT.SEM_SEG_STRIDE = 4
    # Long side of a test image after resizing; the model pads it to a multiple of 32.
    cfg.INPUT.TEST_SIZE = 640

    cfg.INPUT.WEAK = CfgNode()
    # Long side of the weak view after resizing.
    cfg.INPUT.WEAK.SIZE = 640

    cfg.INPUT.STRONG = CfgNode()
    # Side of the strong view, in pixels, a multiple of the strides.
    cfg.INPUT.STRONG.SIZE = 640
    # Share of samples that are a mosaic of four images.
    cfg.INPUT.STRONG.MOSAIC = 1.0
    # The last iterations of a run make no mosaic, no copy-paste and no mixup.
    cfg.INPUT.CLOSE_MOSAIC_ITERS = 0
    # Share of a mosaic's objects that are pasted once more, mirrored, where they hide little.
    cfg.INPUT.STRONG.COPY_PASTE = 0.3
    # Share of mosaics that are blended with a second one.
    cfg.INPUT.STRONG.MIXUP = 0.15
    # Random zoom by a factor in 1 -+ SCALE, shift of the centre by -+ TRANSLATE of the side.
    cfg.INPUT.STRONG.SCALE = 0.9
    cfg.INPUT.STRONG.TRANSLATE = 0.1
    # Random rotation and shear, -+ degrees. 0 lets each image be resized instead of warped
    # (faster).
    cfg.INPUT.STRONG.DEGREES = 0.0
    cfg.INPUT.STRONG.SHEAR = 0.0
    # Hue, saturation and value are multiplied by random factors in 1 -+ these.
    cfg.INPUT.STRONG.HSV = [0.015, 0.7, 0.4]
    # Share of samples that are mirrored, left to right.
    cfg.INPUT.STRONG.FLIP = 0.5


def _add_loading(cfg: CfgNode) -> None:
    # Shares of the samples that come from each of DATASETS.TRAIN; [] takes all images alike.
    cfg.DATASETS.TRAIN_RATIOS = []
    # Megabytes in each worker for decoded images; worth it when the data set fits.
    cfg.DATALOADER.IMAGE_CACHE_MB = 0
    # A run stops when more than this share of the training images cannot be used.
    cfg.DATALOADER.MAX_BAD_FILES = 0.05

    cfg.TOKENIZER = CfgNode()
    # A sentencepiece model from datasets/prepare_tokenizer.py; "" trains one on the captions of the
    # training sets.
    cfg.TOKENIZER.MODEL = ""
    # Number of pieces when one is trained; a small corpus gives fewer.
    cfg.TOKENIZER.VOCAB_SIZE = 8000
    # Longer captions are cut, begin and end included.
    cfg.TOKENIZER.MAX_TOKENS = 40


def _add_solver(cfg: CfgNode) -> None:
    """What detectron2's own keys leave open.

    MAX_ITER, WARMUP_ITERS, CHECKPOINT_PERIOD and TEST.EVAL_PERIOD count steps of the optimiser.
    """
    # "AdamW", or "SGD" with MOMENTUM and NESTEROV.
    cfg.SOLVER.OPTIMIZER = "AdamW"
    cfg.SOLVER.BETAS = [0.9, 0.999]
    cfg.SOLVER.EPS = 1e-8
    # Pairs of a part, named by the beginning of its parameters' names, and the factor on its
    # learning rate: [["backbone.bottom_up", 0.1], ["caption_head", 2.0]]. The last that fits
    # counts.
    cfg.SOLVER.LR_FACTORS = []
    # LR_SCHEDULER_NAME may also be "flat_cosine" (constant for half the run), "cosine", "linear",
    # "poly" or "fixed"; the first four end at this fraction of the learning rate.
    cfg.SOLVER.LR_FINAL = 0.01
    # WARMUP_FACTOR of biases; negative: the same as for the other parameters.
    cfg.SOLVER.WARMUP_FACTOR_BIAS = -1.0
    # Where the momentum (or first beta) starts in the warm-up; negative: where it stays.
    cfg.SOLVER.WARMUP_MOMENTUM = -1.0
    # Batches of IMS_PER_BATCH images whose mean gradient makes one step.
    cfg.SOLVER.ACCUM_STEPS = 1
    # "bf16", or "fp16" with loss scaling; used when AMP.ENABLED, and not on CPUs.
    cfg.SOLVER.AMP.DTYPE = "bf16"
    # A running mean of the weights, of decay DECAY * (1 - exp(-steps / TAU)), kept beside them.
    cfg.SOLVER.EMA = CfgNode()
    cfg.SOLVER.EMA.ENABLED = False
    cfg.SOLVER.EMA.DECAY = 0.9999
    cfg.SOLVER.EMA.TAU = 2000.0
    # Parts that do not learn, named by the beginning of their parameters' names; their batch norms
    # keep their statistics.
    cfg.SOLVER.FREEZE = []
    # When a loss, a gradient or a batch norm's statistic is not finite: "stop" the run, or "skip"
    # the step and stop after MAX_SKIPPED such steps in a row.
    cfg.SOLVER.NONFINITE = "stop"
    cfg.SOLVER.MAX_SKIPPED = 10
    # How many of the regular checkpoints stay; the last two at least.
    cfg.SOLVER.CHECKPOINT_KEEP = 2


def _add_evaluation(cfg: CfgNode) -> None:
    # Which weights of a checkpoint are evaluated: "ema", where it has them, or "raw".
    cfg.TEST.WEIGHTS = "ema"
    # Images that go through the network together, in each process.
    cfg.TEST.BATCH_SIZE = 1
    # Every so many steps the losses of the test sets, without augmentation; 0: never.
    cfg.TEST.LOSS_PERIOD = 0
    # Of at most so many images; 0: of all.
    cfg.TEST.LOSS_IMAGES = 0
    # The metric, such as "bbox/AP", whose best weights are kept as model_best.pth; "": none.
    # Losses of test sets are metrics too: "validation/total_loss".
    cfg.TEST.BEST = CfgNode()
    cfg.TEST.BEST.METRIC = ""
    cfg.TEST.BEST.MODE = "max"  # or "min"
    # Stop when a metric has not improved for so many evaluations; "": never.
    cfg.TEST.EARLY_STOP = CfgNode()
    cfg.TEST.EARLY_STOP.METRIC = ""
    cfg.TEST.EARLY_STOP.MODE = "max"
    cfg.TEST.EARLY_STOP.PATIENCE = 5
    # Boxes and masks from several sizes of an image (long sides; [] is INPUT.TEST_SIZE), also
    # mirrored.
    cfg.TEST.TTA = CfgNode()
    cfg.TEST.TTA.ENABLED = False
    cfg.TEST.TTA.SIZES = []
    cfg.TEST.TTA.FLIP = True
    # Processes that score boxes and masks.
    cfg.TEST.COCO_PROCESSES = 1
    # Caption metrics that need Java: METEOR where there is Java, SPICE on request only.
    cfg.TEST.METEOR = True
    cfg.TEST.SPICE = False
    # Confusion matrix and precision-recall curves as pictures.
    cfg.TEST.PLOTS = False


def _add_logging(cfg: CfgNode) -> None:
    cfg.LOG = CfgNode()
    # Steps between two lines of the log.
    cfg.LOG.PERIOD = 20
    # Every so many steps the norm of each task's gradient on the shared trunk; 0: never. Costs one
    # backward pass for each task.
    cfg.LOG.TASK_GRADIENTS = 0
    # Training samples that are drawn before the first step; 0: none.
    cfg.LOG.PICTURES = 8
    # Pictures of all metrics over the run, at its end.
    cfg.LOG.CURVES = True
    # Log to Weights & Biases, too (pip install wandb).
    cfg.LOG.WANDB = False
    # Warn when waiting for data takes more than this share of the time.
    cfg.LOG.MAX_DATA_WAIT = 0.1
