"""Every configuration key of yolor_d2, with its default and what it means."""

from detectron2.config import CfgNode


def add_yolor_config(cfg: CfgNode) -> None:
    """Add our keys to a configuration; detectron2's own keep their meaning."""
    _add_model(cfg)
    _add_input(cfg)
    _add_loading(cfg)


def _add_model(cfg: CfgNode) -> None:
    cfg.MODEL.YOLOR = CfgNode()
    # What is trained and predicted: any of "detection", "mask" (needs detection), "semantic",
    # "caption".
    cfg.MODEL.YOLOR.TASKS = ["detection", "mask", "semantic", "caption"]


def _add_input(cfg: CfgNode) -> None:
    # "multitask": our two views. "detectron2": its DatasetMapper with the ordinary INPUT keys.
    cfg.INPUT.DATASET_MAPPER_NAME = "multitask"
    # The tasks that read the weak view, an image that is only resized; the others read the strong
    # one. [] and ["semantic", "caption"] are the ablations of the paper.
    cfg.INPUT.WEAK_VIEW_TASKS = ["caption"]
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
