"""Keys of data and optimization."""

from detectron2.config import CfgNode


def add_input(cfg: CfgNode) -> None:
    # "multitask": MultiTaskMapper with two views. "detectron2": detectron2's DatasetMapper with its
    # INPUT keys.
    cfg.INPUT.DATASET_MAPPER_NAME = "multitask"
    # Tasks that use the weak view, which is only resized; other tasks use the augmented strong
    # view. [] and ["semantic", "caption"] are ablations of the paper.
    cfg.INPUT.WEAK_VIEW_TASKS = ["caption"]
    # Number of reference captions per training image, selected at random; 0: all. More captions
    # take little time, because the image is encoded once.
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
    # Source of the other images of a mosaic: "dataset" (all images) or "batch" (the other samples
    # of the process's batch; each file is decoded once per batch).
    cfg.INPUT.STRONG.PARTNERS = "dataset"
    # Number of final optimizer steps without mosaic, copy-paste and mixup.
    cfg.INPUT.CLOSE_MOSAIC_ITERS = 0
    # Fraction of a mosaic's objects that are also pasted as mirrored copies, if the copies hide
    # little of other objects.
    cfg.INPUT.STRONG.COPY_PASTE = 0.3
    # Fraction of mosaics that are blended with another mosaic.
    cfg.INPUT.STRONG.MIXUP = 0.15
    # SCALE: random scale factor in 1 ± SCALE. TRANSLATE: random translation by up to TRANSLATE
    # times the side.
    cfg.INPUT.STRONG.SCALE = 0.9
    cfg.INPUT.STRONG.TRANSLATE = 0.1
    # Maximum random rotation and shear in degrees. If both are 0, images are resized instead of
    # warped, which is faster.
    cfg.INPUT.STRONG.DEGREES = 0.0
    cfg.INPUT.STRONG.SHEAR = 0.0
    # Hue, saturation and value are multiplied by random factors in 1 ± these values.
    cfg.INPUT.STRONG.HSV = [0.015, 0.7, 0.4]
    # Probability of a horizontal flip.
    cfg.INPUT.STRONG.FLIP = 0.5


def add_loading(cfg: CfgNode) -> None:
    # Fraction of the samples from each data set in DATASETS.TRAIN; []: all images equally often.
    cfg.DATASETS.TRAIN_RATIOS = []
    # File or folder of labeled data in a format of docs/reference/data_formats.md, whose parts are
    # registered as "own_train", "own_val" and "own_test"; "": none. `yolor-d2 train --data`
    # sets it.
    cfg.DATASETS.DATA = ""
    # Names of the object classes, for data sets with different classes. All of TRAIN and TEST are
    # renumbered by name. A class that a data set does not have counts as unlabeled in it. []: all
    # data sets must have the same classes in the same order.
    cfg.DATASETS.THING_CLASSES = []
    # Labeled object classes of data sets in which not all are labeled, for instance
    # [["my_boxes", ["ball", "box"]]]; see docs/guides/partly_labeled.md.
    cfg.DATASETS.LABELED_CLASSES = []
    # Size of each worker's cache of decoded images in MB, useful if the data set fits; 0: no cache.
    cfg.DATALOADER.IMAGE_CACHE_MB = 0
    # Maximum fraction of unusable training images. The run stops if it is exceeded.
    cfg.DATALOADER.MAX_BAD_FILES = 0.05

    cfg.TOKENIZER = CfgNode()
    # Path of a sentencepiece model (see datasets/prepare_tokenizer.py), or of a text file with a
    # word in each line that begins with [PAD] (see docs/reference/caption_head.md). "": train a
    # model on the captions of the training sets.
    cfg.TOKENIZER.MODEL = ""
    # Vocabulary size of a trained tokenizer model. Small corpora result in fewer tokens.
    cfg.TOKENIZER.VOCAB_SIZE = 8000
    # Training captions are truncated to this number of tokens, including the begin and end tokens.
    cfg.TOKENIZER.MAX_TOKENS = 40


def add_solver(cfg: CfgNode) -> None:
    """Add keys in addition to detectron2's own.

    IMS_PER_BATCH 0 selects the largest batch that fits into the memory of the GPUs, by about a
    minute of trial steps; 8 on a CPU. The number is saved in the configuration, and a resumed run
    keeps it. BASE_LR and MAX_ITER do not change.

    MAX_ITER, WARMUP_ITERS, CHECKPOINT_PERIOD and TEST.EVAL_PERIOD count optimizer steps. As in
    detectron2, EVAL_PERIOD 0 evaluates after the last step; a negative period never does.
    """
    # Time limit of training in minutes, if MAX_ITER steps take longer; 0: no limit. The last step
    # is saved and evaluated. The learning rate curve remains that of MAX_ITER steps.
    cfg.SOLVER.MAX_MINUTES = 0.0
    # Gradient accumulation: number of batches of IMS_PER_BATCH images per optimizer step.
    cfg.SOLVER.ACCUM_STEPS = 1
    # With CLIP_TYPE "norm": limit the norm of all gradients together. False: the norm of each
    # parameter's gradient, as in detectron2.
    cfg.SOLVER.CLIP_GRADIENTS.FULL_MODEL = False
    # Precision if AMP.ENABLED is True: "bf16", or "fp16" with loss scaling, on GPUs only.
    cfg.SOLVER.AMP.DTYPE = "bf16"
    # Precision, memory layout and threads on CPUs. "processor": bf16 if AMP enables it and the
    # processor has instructions for it, channels_last, and PyTorch's number of threads. "timed":
    # the fastest of a few trial steps, with the fewest threads that are about as fast; the same as
    # "processor" with --deterministic. "keys": the values of SOLVER.AMP and
    # MODEL.YOLOR.CHANNELS_LAST. A resumed run keeps the choice.
    cfg.SOLVER.CPU = "processor"
    # Exponential moving average of the weights, with decay DECAY * (1 - exp(-steps / TAU)).
    cfg.SOLVER.EMA = CfgNode()
    cfg.SOLVER.EMA.ENABLED = False
    cfg.SOLVER.EMA.DECAY = 0.9999
    cfg.SOLVER.EMA.TAU = 2000.0
    # A trained network to learn from as well ("teacher"; docs/guides/teacher.md): our checkpoint or
    # release, or a published file. It must have the same classes. "": none. SOLVER.LOSS_FACTORS
    # with "loss_*_teacher" changes the weights of its losses, which are those of the heads.
    cfg.SOLVER.TEACHER = CfgNode()
    cfg.SOLVER.TEACHER.WEIGHTS = ""
    # Tasks that it teaches; []: all that both networks have.
    cfg.SOLVER.TEACHER.TASKS = []
    # Boxes and masks are learned at the points where its best class score is larger than this.
    cfg.SOLVER.TEACHER.SCORE_THRESH = 0.3
    # Name prefixes of parameters that are not trained. Batch norms of these modules use and keep
    # their running statistics. []: all parameters are trained.
    cfg.SOLVER.FREEZE = []
    # If a loss, gradient or batch norm statistic is not finite: "stop" the run, or "skip" the step
    # and stop after MAX_SKIPPED consecutive skipped steps.
    cfg.SOLVER.NONFINITE = "stop"
    cfg.SOLVER.MAX_SKIPPED = 10
    # Number of most recent periodic checkpoints to keep; at least 2.
    cfg.SOLVER.CHECKPOINT_KEEP = 2


def add_optimizer(cfg: CfgNode) -> None:
    """Add the optimizer, its learning rates, and factors of losses."""
    # "AdamW" (with BETAS and EPS), "SGD" (with MOMENTUM and NESTEROV) or "MUON". MUON uses Muon
    # (MOMENTUM, published with 0.95) for the weights of hidden layers, and AdamW for embeddings,
    # output layers, grouped convolutions and all vectors. Muon's updates have the size of AdamW's,
    # so BASE_LR and WEIGHT_DECAY keep their meaning.
    cfg.SOLVER.OPTIMIZER = "AdamW"
    cfg.SOLVER.BETAS = [0.9, 0.999]
    cfg.SOLVER.EPS = 1e-8
    # Learning rate multipliers by prefix of parameter names, for example [["backbone.bottom_up",
    # 0.1], ["caption_head", 2.0]]. The last matching prefix applies.
    cfg.SOLVER.LR_FACTORS = []
    # Learning rate curve: "flat_cosine" (constant for the first half of the run), "cosine",
    # "linear" and "poly" end at LR_FINAL; "fixed" is constant. "": detectron2's half cosine. The
    # curve replaces that of LR_SCHEDULER_NAME "WarmupCosineLR", a name that detectron2's own tools
    # know. LR_SCHEDULER_NAME also accepts these names.
    cfg.SOLVER.LR_CURVE = ""
    # Final learning rate of these curves, as a fraction of BASE_LR.
    cfg.SOLVER.LR_FINAL = 0.01
    # WARMUP_FACTOR of biases; negative: the same as for other parameters.
    cfg.SOLVER.WARMUP_FACTOR_BIAS = -1.0
    # Initial momentum (AdamW: first beta) of the warm-up; negative: no warm-up of the momentum.
    cfg.SOLVER.WARMUP_MOMENTUM = -1.0
    # Loss factors that change linearly during the run: patterns of loss names with the factors at
    # the start and at the end, for example [["loss_*_one_to_one", 0.5, 1.5]]. The last matching
    # pattern applies. Logged losses and validation losses do not include the factors.
    cfg.SOLVER.LOSS_FACTORS = []
    # Share of each task's gradient at the feature maps that the heads share, as pairs of all tasks
    # and their shares, for example [["detection", 2.0], ["mask", 1.0], ["semantic", 1.0]]. []: as
    # the weights of the losses make them. With shares, these weights change only the heads.
    cfg.SOLVER.GRADIENT_SHARES = []
