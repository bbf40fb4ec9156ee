"""Keys of evaluation and logging."""

from detectron2.config import CfgNode


def add_evaluation(cfg: CfgNode) -> None:
    # Weights of a checkpoint to evaluate: "ema" (if the checkpoint contains them) or "raw".
    cfg.TEST.WEIGHTS = "ema"
    # Precision of backbone and heads in evaluation and prediction: "fp32" or "bf16". Boxes, masks
    # and captions are computed from their outputs in single precision.
    cfg.TEST.PRECISION = "fp32"
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


def add_logging(cfg: CfgNode) -> None:
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
