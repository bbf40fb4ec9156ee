"""Keys of data and optimization."""

from detectron2.config import CfgNode


def add_input(cfg: CfgNode) -> None:
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
    # The other images of a mosaic: "dataset" draws them from all images, "batch" from the other
    # samples of the process's batch, so that each file is decoded once per batch.
    cfg.INPUT.STRONG.PARTNERS = "dataset"
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


def add_loading(cfg: CfgNode) -> None:
    # Fraction of the samples drawn from each of DATASETS.TRAIN; []: all images equally often.
    cfg.DATASETS.TRAIN_RATIOS = []
    # File or folder of labeled data in a format of docs/reference/data_formats.md, whose parts are
    # registered as "own_train", "own_val" and "own_test"; "": none. `yolor-d2 train --data`
    # sets it.
    cfg.DATASETS.DATA = ""
    # Names of the object classes, for data sets with different classes: all of TRAIN and TEST are
    # renumbered by name, and a class that a data set lacks is unlabeled in it. [] requires that
    # all data sets have the same classes in the same order.
    cfg.DATASETS.THING_CLASSES = []
    # Labeled object classes of data sets in which not all are labeled, for instance
    # [["my_boxes", ["ball", "box"]]]; see docs/guides/partly_labeled.md.
    cfg.DATASETS.LABELED_CLASSES = []
    # Size of each worker's cache of decoded images in MB, useful if the data set fits; 0: no cache.
    cfg.DATALOADER.IMAGE_CACHE_MB = 0
    # Maximum fraction of training images that cannot be used. A run stops when it is exceeded.
    cfg.DATALOADER.MAX_BAD_FILES = 0.05

    cfg.TOKENIZER = CfgNode()
    # Path of a sentencepiece model (see datasets/prepare_tokenizer.py), or of a text file with a
    # word in each line that begins with [PAD] (see docs/reference/caption_head.md). "": train a
    # model on the captions of the training sets.
    cfg.TOKENIZER.MODEL = ""
    # Vocabulary size of a model that is trained. Small corpora result in fewer pieces.
    cfg.TOKENIZER.VOCAB_SIZE = 8000
    # Training captions are truncated to this number of tokens, including the begin and end tokens.
    cfg.TOKENIZER.MAX_TOKENS = 40


def add_solver(cfg: CfgNode) -> None:
    """Add keys beside detectron2's own.

    IMS_PER_BATCH 0 is the largest batch whose training step fits into the memory of the GPUs, found
    by trial steps of about a minute; 8 on a CPU. The saved configuration has the number, which a
    resumed run keeps. BASE_LR and MAX_ITER are not changed.

    MAX_ITER, WARMUP_ITERS, CHECKPOINT_PERIOD and TEST.EVAL_PERIOD count optimizer steps. As in
    detectron2, EVAL_PERIOD 0 evaluates after the last step; a negative period never does.
    """
    # End training after these minutes, if MAX_ITER steps take longer; 0: no limit. The last step is
    # saved and evaluated. Learning rates are those of MAX_ITER steps.
    cfg.SOLVER.MAX_MINUTES = 0.0
    # "AdamW" (with BETAS and EPS), "SGD" (with MOMENTUM and NESTEROV), or "MUON": Muon (MOMENTUM,
    # published with 0.95) for the weights of hidden layers, AdamW for embeddings, output layers,
    # grouped convolutions and all vectors. Its updates have AdamW's size, so BASE_LR and
    # WEIGHT_DECAY mean the same.
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
    # Factors on losses that change linearly during the run: patterns of losses' names with the
    # factors at the start and at the end, for instance [["loss_*_one_to_one", 0.5, 1.5]]. The last
    # matching pattern applies. The log and validation losses are without these factors.
    cfg.SOLVER.LOSS_FACTORS = []
    # Gradient accumulation: number of batches of IMS_PER_BATCH images per optimizer step.
    cfg.SOLVER.ACCUM_STEPS = 1
    # Whether CLIP_TYPE "norm" limits the norm of all gradients together. False: the norm of each
    # parameter's gradient, as in detectron2.
    cfg.SOLVER.CLIP_GRADIENTS.FULL_MODEL = False
    # Precision if AMP.ENABLED is True: "bf16", or "fp16" with loss scaling, on GPUs only.
    cfg.SOLVER.AMP.DTYPE = "bf16"
    # On CPUs, "processor": bf16 as above if the processor has instructions for it, channels_last,
    # and PyTorch's number of threads. "timed": the fastest precision, layout and number of threads
    # of a few steps before the first one; with --deterministic as "processor". "keys": SOLVER.AMP
    # and MODEL.YOLOR.CHANNELS_LAST. A resumed run keeps what was chosen.
    cfg.SOLVER.CPU = "processor"
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
