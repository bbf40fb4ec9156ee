"""The memory of the training loader's workers does not grow."""

import itertools
import multiprocessing
import os
import resource
from pathlib import Path

import cv2
import numpy as np
import pytest
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from yolor_d2 import add_yolor_config
from yolor_d2.data import build_tokenizer, build_train_loader
from yolor_d2.data.files.semantic_files import write_index_png

NAME = "test_memory"
FILES, RECORDS = 16, 20_000
SIDE = 8  # px, of the images
BATCH_SIZE = 100
WARM_UP, ITEMS = 10_000, 100_000
MAX_GROWTH = 50 << 20  # bytes


@pytest.fixture
def tiny_records(tmp_path):
    rng = np.random.default_rng(0)
    names = [str(tmp_path / f"{i}.{'jpg' if i % 2 else 'png'}") for i in range(FILES)]
    maps = [str(tmp_path / f"map_{i}.png") for i in range(FILES)]
    for name, path in zip(names, maps, strict=True):
        cv2.imwrite(name, rng.integers(256, size=(SIDE, SIDE, 3), dtype=np.uint8))
        write_index_png(path, rng.integers(4, size=(SIDE, SIDE), dtype=np.uint8))
    square = {"bbox": [1, 1, 6, 6], "segmentation": [[1, 1, 7, 1, 7, 7, 1, 7]]}
    records = [
        {
            "file_name": names[i % FILES],
            "sem_seg_file_name": maps[i % FILES],
            "image_id": i,
            "width": SIDE,
            "height": SIDE,
            "captions": [f"picture {i}"],
            "annotations": [{**square, "category_id": 0, "bbox_mode": BoxMode.XYWH_ABS}],
        }
        for i in range(RECORDS)
    ]
    DatasetCatalog.register(NAME, lambda: records)
    MetadataCatalog.get(NAME).set(
        thing_classes=["a"], stuff_classes=["a", "b", "c", "d"], sem_seg_root=str(tmp_path)
    )
    yield
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def worker_memory() -> int:
    """Resident bytes of the largest child process."""
    pages = [
        int(Path(f"/proc/{child.pid}/statm").read_text().split()[1])
        for child in multiprocessing.active_children()
    ]
    assert len(pages) == 2
    return max(pages) * resource.getpagesize()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads Linux's /proc")
def test_workers_do_not_grow(tiny_records, tmp_path):
    cfg = get_cfg()
    add_yolor_config(cfg)
    cfg.DATASETS.TRAIN = (NAME,)
    cfg.DATALOADER.NUM_WORKERS = 2
    cfg.DATALOADER.IMAGE_CACHE_MB = 1
    cfg.INPUT.STRONG.SIZE = cfg.INPUT.WEAK.SIZE = 32
    cfg.SOLVER.IMS_PER_BATCH = BATCH_SIZE
    cfg.TOKENIZER.VOCAB_SIZE = 100
    cfg.OUTPUT_DIR = str(tmp_path / "output")
    batches = iter(build_train_loader(cfg, tokenizer=build_tokenizer(cfg)))

    def take(items: int) -> None:
        for batch in itertools.islice(batches, items // BATCH_SIZE):
            assert len(batch) == BATCH_SIZE

    take(WARM_UP)
    before = worker_memory()
    take(ITEMS)
    assert worker_memory() - before < MAX_GROWTH
