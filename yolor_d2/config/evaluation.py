"""Keys of evaluation and logging."""

from detectron2.config import CfgNode


def add_evaluation(cfg: CfgNode) -> None:
    # Weights of a checkpoint to evaluate: "ema" (if the checkpoint contains them) or "raw".
    cfg.TEST.WEIGHTS = "ema"
    # Precision of backbone and heads in evaluation and prediction: "fp32" or "bf16". Boxes, masks
    # and captions are computed from the outputs in single precision.
    cfg.TEST.PRECISION = "fp32"
    # Test images per batch in each process.
    cfg.TEST.BATCH_SIZE = 1
    # Number of steps between validation losses, computed on the test sets without augmentation; 0:
    # never.
    cfg.TEST.LOSS_PERIOD = 0
    # Maximum number of images for validation losses; 0: all.
    cfg.TEST.LOSS_IMAGES = 0
    # Metric that selects model_best.pth, for example "bbox/AP" or, with TEST.LOSS_PERIOD,
    # "validation/total_loss". "": do not save the best weights.
    cfg.TEST.BEST = CfgNode()
    cfg.TEST.BEST.METRIC = ""
    cfg.TEST.BEST.MODE = "max"  # or "min"
    # Stop the run when METRIC has not improved for PATIENCE evaluations; "": never.
    cfg.TEST.EARLY_STOP = CfgNode()
    cfg.TEST.EARLY_STOP.METRIC = ""
    cfg.TEST.EARLY_STOP.MODE = "max"  # or "min"
    cfg.TEST.EARLY_STOP.PATIENCE = 5
    # Test-time augmentation of boxes and masks. SIZES: long sides in pixels; []: INPUT.TEST_SIZE.
    # FLIP: also predict on mirrored images.
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


def add_logging(cfg: CfgNode) -> None:
    cfg.LOG = CfgNode()
    # Number of steps between log lines.
    cfg.LOG.PERIOD = 20
    # Number of steps between measurements of each task's gradient norm on backbone and neck; 0:
    # never. A measurement takes one backward pass per task.
    cfg.LOG.TASK_GRADIENTS = 0
    # Number of training samples to visualize before the first step; 0: none.
    cfg.LOG.PICTURES = 8
    # Plot all metrics at the end of the run.
    cfg.LOG.CURVES = True
    # Also log to Weights & Biases (pip install wandb).
    cfg.LOG.WANDB = False
    # Warn if waiting for data takes more than this fraction of the training time.
    cfg.LOG.MAX_DATA_WAIT = 0.1
