"""Loaders: exactly the same samples whatever the workers, the processes and the restarts."""

import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import launch
from detectron2.utils import comm
from PIL import Image

from yolor_d2 import add_yolor_config
from yolor_d2.data import build_test_loader, build_tokenizer, build_train_loader
from yolor_d2.data.build import shared_classes, with_mask_flags
from yolor_d2.data.errors import BadFileError, DataError
from yolor_d2.data.foreign import call_foreign

from .factory import Record, make_record

NUMBER = 30


@pytest.fixture
def register(tmp_path: Path) -> Iterator[Callable[..., list[Record]]]:
    """Register made-up data sets; they are gone after the test."""
    names = []

    def add(name: str, number: int = NUMBER, **more: Any) -> list[Record]:
        folder = tmp_path / name
        folder.mkdir()
        rng = np.random.default_rng(len(name))
        records = []
        for k in range(number):
            x, y = rng.uniform(0, 20, 2)
            color = (130 + 4 * k, 60, 255 - 4 * k)
            boxes = [(x, y, x + 20, y + 16)]
            record = make_record(
                folder, f"{name}{k}", boxes=boxes, color=color, suffix="jpg", **more
            )
            record["captions"] = [f"image {k}", f"picture number {k}"]
            records.append(record)
        DatasetCatalog.register(name, lambda: records)
        MetadataCatalog.get(name).set(stuff_classes=list("abcdef"), sem_seg_root=str(folder))
        names.append(name)
        return records

    yield add
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


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


@pytest.mark.parametrize("workers", [0, 1, 2, 4])
def test_workers_and_restarts_change_nothing(
    register: Callable[..., list[Record]], tmp_path: Path, workers: int
) -> None:
    """12 iterations of 4 over 30 images: into the second epoch, mosaic closing after 9."""
    register("straight")
    expected = first_items(config(tmp_path, "straight"), 12)
    cfg = config(tmp_path, "straight", workers=workers, DATALOADER__IMAGE_CACHE_MB=1)
    assert_same(first_items(cfg, 12), expected)
    assert_same(first_items(cfg, 6, start_iteration=6), expected[24:])


def test_two_processes_make_the_batches_of_one(
    register: Callable[..., list[Record]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register("pair")
    cfg = config(tmp_path, "pair")
    expected = first_items(cfg, 8)
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    parts = []
    for rank in (0, 1):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        parts.append(first_items(cfg, 8))
    together = [parts[r][2 * k + i] for k in range(8) for r in (0, 1) for i in (0, 1)]
    assert_same(together, expected)


@pytest.mark.parametrize("name", ["multitask", "detectron2"])
def test_global_generators_are_left_alone(
    register: Callable[..., list[Record]], tmp_path: Path, name: str
) -> None:
    register("quiet")
    cfg = config(tmp_path, "quiet", INPUT__DATASET_MAPPER_NAME=name)
    tokenizer = build_tokenizer(cfg)
    torch.manual_seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    next(iter(build_train_loader(cfg, tokenizer=tokenizer)))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002


def break_files(records: list[Record]) -> list[str]:
    """One broken file of each kind."""
    paths = [Path(record["file_name"]) for record in records[:5]]
    paths[0].unlink()
    paths[1].write_bytes(b"")
    paths[2].write_bytes(paths[2].read_bytes()[:300])
    paths[3].write_text("no image")
    Image.new("RGB", (7, 7)).save(paths[4])
    return [str(path) for path in paths]


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_images_are_replaced_and_listed_once(
    register: Callable[..., list[Record]], tmp_path: Path, workers: int
) -> None:
    broken = break_files(register("damaged"))
    cfg = config(tmp_path, "damaged", workers=workers, DATALOADER__MAX_BAD_FILES=0.2)
    items = first_items(cfg, 16)  # two epochs
    assert len(items) == 64
    assert {item["file_name"] for item in items}.isdisjoint(broken)
    lines = (tmp_path / "bad_files.txt").read_text().splitlines()
    assert sorted(line.split("\t")[0] for line in lines) == sorted(broken)
    assert_same(first_items(cfg, 16), items)
    restarted = first_items(cfg, 4, start_iteration=12)
    assert_same(restarted, items[48:])
    assert len((tmp_path / "bad_files.txt").read_text().splitlines()) == 5


@pytest.mark.parametrize("workers", [0, 1])
def test_too_many_broken_images_stop(
    register: Callable[..., list[Record]], tmp_path: Path, workers: int
) -> None:
    break_files(register("ruined"))
    with pytest.raises(DataError, match=r"of 30 images cannot be used, more than 5%"):
        first_items(config(tmp_path, "ruined", workers=workers), 16)


def test_a_cmyk_and_a_grey_image_are_no_bad_files(
    register: Callable[..., list[Record]], tmp_path: Path
) -> None:
    records = register("odd", 4)
    for record, mode in zip(records, ("CMYK", "L", "RGB", "1"), strict=True):
        image = Image.open(record["file_name"]).convert(mode)
        image.convert("L" if mode == "1" else mode).save(record["file_name"])
    assert len(first_items(config(tmp_path, "odd"), 4)) == 16
    assert not (tmp_path / "bad_files.txt").exists()


def test_partly_labelled_sets_are_mixed(
    register: Callable[..., list[Record]], tmp_path: Path
) -> None:
    """Boxes alone in one, captions alone in another, everything in the third."""
    for record in register("boxes", 10):
        del record["sem_seg_file_name"], record["captions"]
        for annotation in record["annotations"]:
            del annotation["segmentation"]
    for record in register("texts", 10):
        del record["sem_seg_file_name"], record["annotations"]
    register("whole", 20)
    cfg = config(tmp_path, "boxes", "texts", "whole", DATASETS__TRAIN_RATIOS=[2, 1, 1])
    items = first_items(cfg, 20)
    found = {
        name: [i for i in items if i["image_id"].startswith(name)] for name in cfg.DATASETS.TRAIN
    }
    assert [len(part) for part in found.values()] == [40, 20, 20]
    for item in found["boxes"]:
        assert "instances" in item
        assert not item["instances"].has("gt_masks")
        assert {"sem_seg", "caption_ids"}.isdisjoint(item)
    assert all(
        {"instances", "sem_seg"}.isdisjoint(i) and "caption_ids" in i for i in found["texts"]
    )
    assert all(item["instances"].has("gt_masks") and "sem_seg" in item for item in found["whole"])


def test_empty_images_take_the_rule_of_their_set() -> None:
    box = {"bbox": [0, 0, 1, 1]}
    shape = {**box, "segmentation": [[0, 0, 1, 0, 1, 1]]}
    for objects, expected in (([box], False), ([shape], True), ([], True)):
        records = [{"annotations": []}, {"annotations": objects}, {"captions": ["a"]}]
        flagged = list(with_mask_flags(records))
        assert flagged[0]["has_masks"] is expected
        assert "has_masks" not in flagged[2]


def test_detectron2_keys_keep_their_meaning(
    register: Callable[..., list[Record]], tmp_path: Path
) -> None:
    records = register("filtered", 8)
    records[0]["annotations"] = []
    records[1]["annotations"][0]["iscrowd"] = 1
    kept = {r["image_id"] for r in records[2:]}
    cfg = config(tmp_path, "filtered", DATALOADER__FILTER_EMPTY_ANNOTATIONS=True)
    assert {item["image_id"] for item in first_items(cfg, 4)} == kept
    for record in records:
        record["annotations"] = []
    with pytest.raises(DataError, match="filtered: there is no image to train on"):
        first_items(cfg, 1)


@pytest.mark.parametrize(
    ("key", "where"), [("stuff_classes", "sem_seg_root"), ("thing_classes", "json_file")]
)
def test_classes_must_agree(
    register: Callable[..., list[Record]], tmp_path: Path, key: str, where: str
) -> None:
    for name, classes in (("six", "abcdef"), ("seven", "abcdefg")):
        register(name, 1)
        MetadataCatalog.remove(name)
        MetadataCatalog.get(name).set(**{key: list(classes), where: "x"})
    assert shared_classes(["six"], key, where=where) == list("abcdef")
    assert shared_classes([], key, where=where) is None
    with pytest.raises(DataError, match=f"the {key} of six and seven differ"):
        first_items(config(tmp_path, "six", "seven"), 1)


def test_a_task_without_any_target(register: Callable[..., list[Record]], tmp_path: Path) -> None:
    for record in register("mute"):
        del record["captions"]
    cfg = config(tmp_path, "mute")
    with pytest.raises(DataError, match="TASKS has caption, but no image of mute has such targets"):
        build_train_loader(cfg, tokenizer=None)


@pytest.mark.parametrize("workers", [0, 2])
def test_test_loader(register: Callable[..., list[Record]], tmp_path: Path, workers: int) -> None:
    records = register("tested", 9)
    cfg = config(tmp_path, workers=workers, DATALOADER__MAX_BAD_FILES=0.3)
    Path(records[3]["file_name"]).unlink()
    loader = build_test_loader(cfg, "tested")
    batches = list(loader)
    assert [b[0]["image_id"] for b in batches] == [f"tested{k}" for k in range(9) if k != 3]
    assert batches[0][0]["image"].shape == (3, 24, 32)
    listed = (tmp_path / "bad_files_tested.txt").read_text()
    assert listed.startswith(records[3]["file_name"])
    pairs = list(build_test_loader(cfg, "tested", batch_size=2))
    assert [len(batch) for batch in pairs] == [2, 1, 2, 2, 1]


def test_an_unknown_mapper(register: Callable[..., list[Record]], tmp_path: Path) -> None:
    register("mapped", 2)
    cfg = config(tmp_path, "mapped", INPUT__DATASET_MAPPER_NAME="mine")
    with pytest.raises(ValueError, match=r"INPUT\.DATASET_MAPPER_NAME"):
        first_items(cfg, 1)


def test_tokenizer_from_a_file_or_from_the_captions(
    register: Callable[..., list[Record]], tmp_path: Path
) -> None:
    register("spoken")
    trained = build_tokenizer(config(tmp_path, "spoken"))
    trained.save(tmp_path / "t.model")
    cfg = config(tmp_path, "spoken", TOKENIZER__MODEL=str(tmp_path / "t.model"))
    assert build_tokenizer(cfg) == trained
    assert trained.decode(trained.encode("Picture number 7")) == "picture number 7"


def test_samples_hold_plain_data(register: Callable[..., list[Record]], tmp_path: Path) -> None:
    """What names a sample can go into logs."""
    register("plain", 4)
    for item in first_items(config(tmp_path, "plain"), 1):
        json.dumps({key: item[key] for key in ("file_name", "image_id", "height", "width")})


def test_foreign_mappers_fail_for_the_file_that_is_bad(
    register: Callable[..., list[Record]], tmp_path: Path
) -> None:
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
        call_foreign(fail, records[0], seed=0)
    images = [batch[0]["image_id"] for batch in build_test_loader(cfg, "foreign")]
    assert set(images) == {r["image_id"] for r in records} - {"foreign2", "foreign5"}
    sizes = {tuple(b[0]["image"].shape[1:]) for b in build_test_loader(cfg, "foreign")}
    assert sizes == {(800, 1067)}  # detectron2's own test size


def test_other_samplers_are_refused(register: Callable[..., list[Record]], tmp_path: Path) -> None:
    register("sampled", 2)
    cfg = config(tmp_path, "sampled", DATALOADER__SAMPLER_TRAIN="RepeatFactorTrainingSampler")
    with pytest.raises(ValueError, match=r"DATALOADER\.SAMPLER_TRAIN"):
        first_items(cfg, 1)


def test_workers_may_be_spawned(register: Callable[..., list[Record]], tmp_path: Path) -> None:
    register("spawned")
    cfg = config(tmp_path, "spawned")
    expected = first_items(cfg, 2)
    cfg.DATALOADER.NUM_WORKERS = 1
    loader = build_train_loader(cfg, tokenizer=build_tokenizer(cfg))
    loader.multiprocessing_context = "spawn"
    assert_same([item for batch in islice(loader, 2) for item in batch], expected)


def _run_process(records: list[Record], cfg: CfgNode, output: Path) -> None:
    """One of two processes: which samples it gets."""
    DatasetCatalog.register("shared", lambda: records)
    MetadataCatalog.get("shared").set(stuff_classes=list("abcdef"), sem_seg_root="x")
    items = first_items(cfg, 16)
    torch.save([item["image"] for item in items], output / f"rank{comm.get_rank()}.pt")


def test_two_real_processes(register: Callable[..., list[Record]], tmp_path: Path) -> None:
    """Their samples are those of one, and each broken file is listed once."""
    records = register("shared")
    broken = break_files(records)
    cfg = config(tmp_path, "shared", DATALOADER__MAX_BAD_FILES=0.2)
    expected = [item["image"] for item in first_items(cfg, 16)]
    (tmp_path / "bad_files.txt").write_text("an old run's\tis empty\n")
    DatasetCatalog.remove("shared")
    launch(_run_process, 2, dist_url="auto", args=(records, cfg, tmp_path))
    DatasetCatalog.register("shared", lambda: records)
    parts = [torch.load(tmp_path / f"rank{rank}.pt") for rank in (0, 1)]
    together = [parts[r][2 * k + i] for k in range(16) for r in (0, 1) for i in (0, 1)]
    assert all(torch.equal(a, b) for a, b in zip(together, expected, strict=True))
    lines = (tmp_path / "bad_files.txt").read_text().splitlines()
    assert sorted(line.split("\t")[0] for line in lines) == sorted(broken)
