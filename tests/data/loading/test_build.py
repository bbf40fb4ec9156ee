"""Loaders yield the same samples for any number of workers, processes and restarts."""

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.utils import comm
from PIL import Image

from yolor_d2.data import build_test_loader, build_tokenizer, build_train_loader
from yolor_d2.data.files.images import read_image
from yolor_d2.data.loading.build import shared_classes
from yolor_d2.data.loading.sets import with_mask_flags
from yolor_d2.data.views import reading
from yolor_d2.errors import DataError
from yolor_d2.tokenizer import Tokenizer

from . import Register, assert_same, break_files, config, first_items


@pytest.mark.parametrize("partners", ["dataset", "batch"])
@pytest.mark.parametrize("workers", [0, 1, 2, 4])
def test_workers_and_restarts_change_nothing(
    register: Register, tmp_path: Path, workers: int, partners: str
) -> None:
    """12 iterations of 4 over 30 images: into the second epoch, mosaic closing after 9."""
    register("straight")
    keys = {"INPUT__STRONG__PARTNERS": partners}
    expected = first_items(config(tmp_path, "straight", **keys), 12)
    cfg = config(tmp_path, "straight", workers=workers, DATALOADER__IMAGE_CACHE_MB=1, **keys)
    assert_same(first_items(cfg, 12), expected)
    assert_same(first_items(cfg, 6, start_iteration=6), expected[24:])


def test_two_processes_make_the_batches_of_one(
    register: Register, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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


def test_partners_of_a_batch_are_those_of_the_process(
    register: Register, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each process's own share; samples do not depend on the order in which they are made."""
    register("shared")
    cfg = config(tmp_path, "shared", INPUT__STRONG__PARTNERS="batch", SOLVER__IMS_PER_BATCH=8)
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        loader = build_train_loader(cfg, tokenizer=build_tokenizer(cfg))
        batch = next(iter(loader))
        requests = list(islice(loader.sampler, 4))
        assert [request.position for request in requests] == [4 * rank + k for k in range(4)]
        for k in (2, 0, 3, 1):
            assert_same([loader.dataset[requests[k]]], [batch[k]])


def test_files_of_a_batch_are_decoded_once(
    register: Register, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register("once")
    decoded: list[str] = []

    def spy(path: str, **options: int) -> np.ndarray:
        decoded.append(path)
        return read_image(path, **options)

    monkeypatch.setattr(reading, "read_image", spy)
    keys = {"INPUT__STRONG__MIXUP": 0.0, "SOLVER__MAX_ITER": 100, "INPUT__CLOSE_MOSAIC_ITERS": 0}
    numbers = {}
    for partners in ("dataset", "batch"):
        decoded.clear()
        first_items(config(tmp_path, "once", INPUT__STRONG__PARTNERS=partners, **keys), 10)
        numbers[partners] = len(decoded)
    assert numbers["batch"] <= 40 < 100 < numbers["dataset"]  # of 10 batches of 4


@pytest.mark.parametrize("name", ["multitask", "detectron2"])
def test_global_generators_are_unchanged(register: Register, tmp_path: Path, name: str) -> None:
    register("quiet")
    cfg = config(tmp_path, "quiet", INPUT__DATASET_MAPPER_NAME=name)
    tokenizer = build_tokenizer(cfg)
    torch.manual_seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    next(iter(build_train_loader(cfg, tokenizer=tokenizer)))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002


@pytest.mark.parametrize("partners", ["dataset", "batch"])
@pytest.mark.parametrize("workers", [0, 2])
def test_broken_images_are_replaced_and_listed_once(
    register: Register, tmp_path: Path, workers: int, partners: str
) -> None:
    broken = break_files(register("damaged"))
    keys = {"DATALOADER__MAX_BAD_FILES": 0.2, "INPUT__STRONG__PARTNERS": partners}
    cfg = config(tmp_path, "damaged", workers=workers, **keys)
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
def test_too_many_broken_images_stop(register: Register, tmp_path: Path, workers: int) -> None:
    break_files(register("ruined"))
    with pytest.raises(DataError, match=r"of 30 images cannot be used, more than 5%"):
        first_items(config(tmp_path, "ruined", workers=workers), 16)


def test_cmyk_and_gray_images_are_accepted(register: Register, tmp_path: Path) -> None:
    records = register("odd", 4)
    for record, mode in zip(records, ("CMYK", "L", "RGB", "1"), strict=True):
        image = Image.open(record["file_name"]).convert(mode)
        image.convert("L" if mode == "1" else mode).save(record["file_name"])
    assert len(first_items(config(tmp_path, "odd"), 4)) == 16
    assert not (tmp_path / "bad_files.txt").exists()


@pytest.mark.parametrize("partners", ["dataset", "batch"])
def test_partly_labeled_data_sets(register: Register, tmp_path: Path, partners: str) -> None:
    """One data set with boxes only, one with captions only, and one with all targets."""
    for record in register("boxes", 10):
        del record["sem_seg_file_name"], record["captions"]
        for annotation in record["annotations"]:
            del annotation["segmentation"]
    for record in register("texts", 10):
        del record["sem_seg_file_name"], record["annotations"]
    register("whole", 20)
    keys = {"DATASETS__TRAIN_RATIOS": [2, 1, 1], "INPUT__STRONG__PARTNERS": partners}
    cfg = config(tmp_path, "boxes", "texts", "whole", **keys)
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


def test_mask_flags_of_empty_images() -> None:
    box = {"bbox": [0, 0, 1, 1]}
    shape = {**box, "segmentation": [[0, 0, 1, 0, 1, 1]]}
    for objects, expected in (([box], False), ([shape], True), ([], True)):
        records = [{"annotations": []}, {"annotations": objects}, {"captions": ["a"]}]
        flagged = list(with_mask_flags(records))
        assert flagged[0]["has_masks"] is expected
        assert "has_masks" not in flagged[2]


def test_detectron2_keys_keep_their_meaning(register: Register, tmp_path: Path) -> None:
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
def test_classes_must_agree(register: Register, tmp_path: Path, key: str, where: str) -> None:
    for name, classes in (("six", "abcdef"), ("seven", "abcdefg")):
        register(name, 1)
        MetadataCatalog.remove(name)
        MetadataCatalog.get(name).set(**{key: list(classes), where: "x"})
    assert shared_classes(["six"], key, where=where) == list("abcdef")
    assert shared_classes([], key, where=where) is None
    hint = "; DATASETS.THING_CLASSES matches them by name" if key == "thing_classes" else ""
    with pytest.raises(DataError, match=f"the {key} of six and seven differ{hint}$"):
        first_items(config(tmp_path, "six", "seven"), 1)


def test_partners_have_at_least_the_labeled_classes(register: Register, tmp_path: Path) -> None:
    """So no class is labeled in one part of a mosaic and unlabeled in another."""
    labeled = {"all": None, "some": ["a", "b"], "other": ["c"]}
    for name, classes in labeled.items():
        register(name, 6)
        metadata = MetadataCatalog.get(name).set(thing_classes=list("abc"))
        if classes is not None:
            metadata.labeled_thing_classes = classes
    loader = build_train_loader(config(tmp_path, *labeled, MODEL__YOLOR__TASKS=["detection"]))
    dataset, rng = loader.dataset, np.random.default_rng(0)
    names = [name for name in labeled for _ in range(6)]
    partners = {
        name: {names[dataset.partners.draw(names.index(name), rng)] for _ in range(60)}
        for name in labeled
    }
    assert partners == {"all": {"all"}, "some": {"some", "all"}, "other": {"other", "all"}}
    for sample in (sample for batch in islice(loader, 12) for sample in batch):
        expected = labeled[sample["image_id"].rstrip("0123456789")]
        found = sample.get("labeled_classes")
        assert (found is None) == (expected is None)
        if expected is not None:
            assert found.tolist() == [each in expected for each in "abc"]


def test_labels_of_all_classes_change_no_sample(register: Register, tmp_path: Path) -> None:
    register("plain")
    cfg = config(tmp_path, "plain")
    before = first_items(cfg, 3)
    MetadataCatalog.get("plain").set(thing_classes=list("abc"), labeled_thing_classes=list("abc"))
    assert_same(first_items(cfg, 3), before)


def test_targets_without_class_names_are_skipped(register: Register, tmp_path: Path) -> None:
    """Their number is then that of MODEL.SEM_SEG_HEAD.NUM_CLASSES."""
    register("unnamed", 4)
    MetadataCatalog.remove("unnamed")
    MetadataCatalog.get("unnamed").set(sem_seg_root="x", json_file="y")
    assert len(first_items(config(tmp_path, "unnamed"), 1)) == 4
    assert shared_classes(["unnamed"], "stuff_classes", where="sem_seg_root") is None


def test_negative_seed_is_random_and_kept_for_resumed_runs(
    register: Register, tmp_path: Path
) -> None:
    register("drawn")
    runs = [config(tmp_path / name, "drawn", SEED=-1) for name in ("one", "two")]
    first, second = (first_items(cfg, 6) for cfg in runs)
    assert [item["image_id"] for item in first] != [item["image_id"] for item in second]
    assert_same(first_items(runs[0], 3, start_iteration=3), first[12:])


def test_task_without_targets(register: Register, tmp_path: Path) -> None:
    for record in register("mute"):
        del record["captions"]
    cfg = config(tmp_path, "mute")
    message = "TASKS has caption, but no image of mute has such targets"
    with pytest.raises(DataError, match=message):
        build_tokenizer(cfg)
    tokenizer = Tokenizer.train(["words from elsewhere"], vocab_size=30)
    with pytest.raises(DataError, match=message):
        build_train_loader(cfg, tokenizer=tokenizer)


@pytest.mark.parametrize("workers", [0, 2])
def test_test_loader(register: Register, tmp_path: Path, workers: int) -> None:
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


def test_unknown_mapper(register: Register, tmp_path: Path) -> None:
    register("mapped", 2)
    cfg = config(tmp_path, "mapped", INPUT__DATASET_MAPPER_NAME="mine")
    with pytest.raises(ValueError, match=r"INPUT\.DATASET_MAPPER_NAME"):
        first_items(cfg, 1)


def test_tokenizer_from_a_file_or_from_the_captions(register: Register, tmp_path: Path) -> None:
    register("spoken")
    trained = build_tokenizer(config(tmp_path, "spoken"))
    trained.save(tmp_path / "t.model")
    cfg = config(tmp_path, "spoken", TOKENIZER__MODEL=str(tmp_path / "t.model"))
    assert build_tokenizer(cfg) == trained
    assert trained.decode(trained.encode("Picture number 7")) == "picture number 7"


def test_identifying_keys_are_plain_data(register: Register, tmp_path: Path) -> None:
    """The keys that identify a sample have JSON values."""
    register("plain", 4)
    for item in first_items(config(tmp_path, "plain"), 1):
        json.dumps({key: item[key] for key in ("file_name", "image_id", "height", "width")})
