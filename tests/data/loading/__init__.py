"""Helpers for tests of the loaders."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.utils import comm
from PIL import Image

from yolor_d2 import add_yolor_config
from yolor_d2.data import build_tokenizer, build_train_loader

from ..factory import Record

Register = Callable[..., list[Record]]

NUMBER = 30


def config(output: Path, *names: str, workers: int = 0, **keys: Any) -> CfgNode:
    cfg = get_cfg()
    add_yolor_config(cfg)
    cfg.DATASETS.TRAIN = names
    cfg.DATALOADER.NUM_WORKERS = workers
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    cfg.INPUT.STRONG.SIZE = cfg.INPUT.WEAK.SIZE = cfg.INPUT.TEST_SIZE = 32
    cfg.INPUT.STRONG.MIXUP = 0.3
    cfg.INPUT.CLOSE_MOSAIC_ITERS = 3
    cfg.SOLVER.IMS_PER_BATCH = 4
    cfg.SOLVER.MAX_ITER = 12
    cfg.SEED = 5
    cfg.OUTPUT_DIR = str(output)
    cfg.TOKENIZER.VOCAB_SIZE = 60
    for key, value in keys.items():
        cfg.merge_from_list([key.replace("__", "."), value])
    return cfg


def first_items(cfg: CfgNode, number: int, **options: Any) -> list[Record]:
    loader = build_train_loader(cfg, tokenizer=build_tokenizer(cfg), **options)
    batches = list(islice(loader, number))
    assert all(len(batch) == 4 // comm.get_world_size() for batch in batches)
    return [item for batch in batches for item in batch]


def assert_same(mine: list[Record], theirs: list[Record]) -> None:
    assert len(mine) == len(theirs)
    for a, b in zip(mine, theirs, strict=True):
        assert a["image_id"] == b["image_id"]
        for key in ("image", "weak_image", "sem_seg", "caption_ids"):
            assert torch.equal(a[key], b[key])
        assert torch.equal(a["instances"].gt_boxes.tensor, b["instances"].gt_boxes.tensor)
        assert torch.equal(a["instances"].gt_masks.tensor, b["instances"].gt_masks.tensor)


def break_files(records: list[Record]) -> list[str]:
    """One broken file of each kind."""
    paths = [Path(record["file_name"]) for record in records[:5]]
    paths[0].unlink()
    paths[1].write_bytes(b"")
    paths[2].write_bytes(paths[2].read_bytes()[:300])
    paths[3].write_text("no image")
    Image.new("RGB", (7, 7)).save(paths[4])
    return [str(path) for path in paths]
