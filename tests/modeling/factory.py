"""Small networks and batches for them."""

from collections.abc import Mapping
from typing import Any

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from torch import Tensor, nn

from yolor_d2 import add_yolor_config
from yolor_d2.model_zoo import get_config
from yolor_d2.modeling.meta_arch import YOLOR
from yolor_d2.tasks import TASKS

THINGS, LEAVES, VOCABULARY = 10, 19, 50  # classes of the toy scenes, a small vocabulary


def default_config(*overrides: Any) -> CfgNode:
    """The default configuration, on the CPU."""
    cfg = get_cfg()
    add_yolor_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.merge_from_list(list(overrides))
    return cfg


def tiny_config(tasks: tuple[str, ...] = TASKS, *overrides: Any) -> CfgNode:
    """A smaller toy configuration, with two views like the COCO configurations."""
    cfg = get_config("toy/yolor_elan_n_toy.yaml")
    cfg.INPUT.WEAK_VIEW_TASKS = ["caption"]
    cfg.INPUT.CAPTIONS_PER_IMAGE = 1
    cfg.INPUT.STRONG.SIZE = cfg.INPUT.WEAK.SIZE = cfg.INPUT.TEST_SIZE = 320
    cfg.MODEL.SEM_SEG_HEAD.LOSS_WEIGHT = cfg.MODEL.CAPTION_HEAD.LOSS_WEIGHT = 1.0
    cfg.MODEL.CAPTION_HEAD.IN_FEATURES = ["p5"]
    cfg.MODEL.CAPTION_HEAD.REGION_FEATURE = ""
    cfg.MODEL.CAPTION_HEAD.REGION_POSITION_SCALE = 0.0
    cfg.MODEL.CAPTION_HEAD.ENCODER_LAYERS = 0
    cfg.MODEL.CAPTION_HEAD.DROPOUT = 0.1
    cfg.SOLVER.LR_FACTORS = []
    cfg.SOLVER.OPTIMIZER, cfg.SOLVER.MOMENTUM, cfg.SOLVER.BASE_LR = "AdamW", 0.9, 0.003
    cfg.SOLVER.CPU, cfg.SOLVER.AMP.ENABLED = "keys", False  # the same on all processors
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.YOLOR.TASKS = list(tasks)
    cfg.MODEL.YOLOR_ELAN.WIDTH = 0.125
    cfg.MODEL.YOLOR_ELAN.DEPTH = 0.25
    cfg.TOKENIZER.VOCAB_SIZE = VOCABULARY
    cfg.MODEL.CAPTION_HEAD.DIM = 32
    cfg.MODEL.CAPTION_HEAD.NUM_HEADS = 2
    cfg.MODEL.CAPTION_HEAD.FFN_DIM = 64
    cfg.MODEL.CAPTION_HEAD.TEST.MAX_TOKENS = 8
    cfg.merge_from_list(list(overrides))
    return cfg


def tiny_model(tasks: tuple[str, ...] = TASKS, *overrides: Any, seed: int = 0) -> YOLOR:
    torch.manual_seed(seed)
    return build_model(tiny_config(tasks, *overrides))


def detectron2_semantic_model() -> tuple[YOLOR, list[dict[str, Any]]]:
    """A model with a semantic head of detectron2, and a batch for it."""
    head = ("MODEL.SEM_SEG_HEAD.NAME", "SemSegFPNHead", "MODEL.SEM_SEG_HEAD.NUM_CLASSES", LEAVES)
    model = tiny_model(("semantic",), *head, "MODEL.SEM_SEG_HEAD.COMMON_STRIDE", 8)
    batch = random_batch()
    for sample in batch:
        sample["sem_seg"] = torch.randint(LEAVES, (64, 96))
        sample["sem_seg_stride"] = 1
    return model, batch


def count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def random_maps(
    shapes: Mapping[str, ShapeSpec],
    *,
    images: int = 2,
    size: tuple[int, int] = (64, 96),
    seed: int = 0,
) -> dict[str, Tensor]:
    """Random feature maps of images of this size."""
    rng = torch.Generator().manual_seed(seed)
    height, width = size
    return {
        name: torch.randn(
            images, s.channels, -(-height // s.stride), -(-width // s.stride), generator=rng
        )
        for name, s in shapes.items()
    }


def random_instances(
    number: int, *, size: tuple[int, int], stride: int = 4, rng: torch.Generator
) -> Instances:
    """Objects with random boxes."""
    height, width = size
    sides = torch.tensor([width, height], dtype=torch.float32)
    first = torch.rand(number, 2, generator=rng) * sides * 0.7
    boxes = torch.cat([first, first + 4 + torch.rand(number, 2, generator=rng) * sides * 0.25], 1)
    return instances_in(boxes, size=size, stride=stride, rng=rng)


def instances_in(
    boxes: torch.Tensor, *, size: tuple[int, int], stride: int = 4, rng: torch.Generator
) -> Instances:
    """Objects with random classes and with masks that fill their boxes (g, 4)."""
    rows, columns = (torch.arange(-(-side // stride)) * stride for side in size)
    inside_rows = (rows >= boxes[:, 1, None]) & (rows < boxes[:, 3, None])  # (g, h)
    inside_columns = (columns >= boxes[:, 0, None]) & (columns < boxes[:, 2, None])  # (g, w)
    instances = Instances(size)
    instances.gt_boxes = Boxes(boxes)
    instances.gt_classes = torch.randint(THINGS, (len(boxes),), generator=rng)
    instances.gt_masks = BitMasks(inside_rows[:, :, None] & inside_columns[:, None, :])
    return instances


def random_batch(
    *,
    images: int = 2,
    size: tuple[int, int] = (64, 96),
    weak_size: tuple[int, int] = (64, 96),
    objects: int = 3,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Samples with both views and all targets."""
    rng = torch.Generator().manual_seed(seed)
    batch = []
    for _ in range(images):
        cells = tuple(-(-side // 4) for side in size)
        words = torch.randint(4, VOCABULARY, (5,), generator=rng)
        image = torch.randint(256, (3, *size), generator=rng, dtype=torch.uint8)
        weak_image = torch.randint(256, (3, *weak_size), generator=rng, dtype=torch.uint8)
        batch.append(
            {
                "image": image,
                "weak_image": weak_image,
                "instances": random_instances(objects, size=size, rng=rng),
                "mask_stride": 4,
                "sem_seg": torch.randint(LEAVES, cells, generator=rng),
                "sem_seg_stride": 4,
                "caption_ids": torch.cat([torch.tensor([1]), words, torch.tensor([2])]),
            }
        )
    return batch
