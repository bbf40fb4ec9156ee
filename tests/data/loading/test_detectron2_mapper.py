"""Loaders with detectron2's mappers, spawned workers and two real processes."""

from itertools import islice
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils import comm

from tests.processes import in_two_processes
from yolor_d2.data import build_test_loader, build_tokenizer, build_train_loader
from yolor_d2.data.loading.detectron2_mapper import call_detectron2_mapper
from yolor_d2.errors import BadFileError

from ..factory import Record
from . import Register, assert_same, break_files, config, first_items


def test_bad_files_of_detectron2_mappers(register: Register, tmp_path: Path) -> None:
    records = register("foreign")
    Path(records[2]["file_name"]).write_bytes(b"")
    Path(records[5]["sem_seg_file_name"]).write_bytes(b"nothing")
    options = {"INPUT__DATASET_MAPPER_NAME": "detectron2", "DATALOADER__MAX_BAD_FILES": 0.2}
    cfg = config(tmp_path, "foreign", **options)
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 6
    assert len(first_items(cfg, 16)) == 64
    listed = {line.split("\t")[0] for line in (tmp_path / "bad_files.txt").read_text().splitlines()}
    assert listed == {records[2]["file_name"], records[5]["sem_seg_file_name"]}

    def fail(record: Record) -> Record:
        raise OSError

    with pytest.raises(BadFileError, match="OSError"):
        call_detectron2_mapper(fail, records[0], seed=0)
    images = [batch[0]["image_id"] for batch in build_test_loader(cfg, "foreign")]
    assert set(images) == {r["image_id"] for r in records} - {"foreign2", "foreign5"}
    sizes = {tuple(b[0]["image"].shape[1:]) for b in build_test_loader(cfg, "foreign")}
    assert sizes == {(800, 1067)}  # detectron2's own test size


def test_other_samplers_are_refused(register: Register, tmp_path: Path) -> None:
    register("sampled", 2)
    cfg = config(tmp_path, "sampled", DATALOADER__SAMPLER_TRAIN="RepeatFactorTrainingSampler")
    with pytest.raises(ValueError, match=r"DATALOADER\.SAMPLER_TRAIN"):
        first_items(cfg, 1)


def test_workers_may_be_spawned(register: Register, tmp_path: Path) -> None:
    register("spawned")
    cfg = config(tmp_path, "spawned")
    expected = first_items(cfg, 2)
    cfg.DATALOADER.NUM_WORKERS = 1
    loader = build_train_loader(cfg, tokenizer=build_tokenizer(cfg))
    loader.multiprocessing_context = "spawn"
    assert_same([item for batch in islice(loader, 2) for item in batch], expected)


def _run_process(records: list[Record], cfg: CfgNode, output: Path) -> None:
    """Save the images of one of two processes."""
    DatasetCatalog.register("shared", lambda: records)
    MetadataCatalog.get("shared").set(stuff_classes=list("abcdef"), sem_seg_root="x")
    items = first_items(cfg, 16)
    torch.save([item["image"] for item in items], output / f"rank{comm.get_rank()}.pt")


def test_two_real_processes(register: Register, tmp_path: Path) -> None:
    """They get the samples of one process, and each broken file is listed once."""
    records = register("shared")
    broken = break_files(records)
    cfg = config(tmp_path, "shared", DATALOADER__MAX_BAD_FILES=0.2)
    expected = [item["image"] for item in first_items(cfg, 16)]
    (tmp_path / "bad_files.txt").write_text("of an earlier run\tis empty\n")
    DatasetCatalog.remove("shared")
    in_two_processes(_run_process, records, cfg, tmp_path)
    DatasetCatalog.register("shared", lambda: records)
    parts = [torch.load(tmp_path / f"rank{rank}.pt") for rank in (0, 1)]
    together = [parts[r][2 * k + i] for k in range(16) for r in (0, 1) for i in (0, 1)]
    assert all(torch.equal(a, b) for a, b in zip(together, expected, strict=True))
    lines = (tmp_path / "bad_files.txt").read_text().splitlines()
    assert sorted(line.split("\t")[0] for line in lines) == sorted(broken)
