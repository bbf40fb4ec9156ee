"""Loaders: records of the catalogue -> batches that follow from configuration and position."""

import ctypes
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, DatasetFromList, DatasetMapper, MetadataCatalog
from detectron2.data.samplers import InferenceSampler
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset

from ..tokenizer import Tokenizer
from .errors import BadFileError, DataError
from .foreign import call_foreign
from .images import BadFiles
from .mapper import MultiTaskMapper, known_targets
from .partners import PartnerPool
from .reading import Record
from .sampling import IndexStream, RunSampler, SampleRequest, check_ratios, sample_generator
from .strong_view import Draw

Mapper = Callable[..., Record | None]

MAX_REPLACEMENTS = 100


class TrainingSet(Dataset[Record]):
    """Makes the sample that is requested; one that cannot be made is replaced by a comparable one.

    Args:
        datasets: the records of each data set.
        mapper: a MultiTaskMapper, or any of detectron2's kind (record -> sample or None).
        seed: of everything random.
        ratios: share of the samples from each data set; None counts all images alike.
        bad_files: keeps the list of files that cannot be used.
    """

    def __init__(
        self,
        datasets: Sequence[Sequence[Record]],
        *,
        mapper: Mapper,
        seed: int,
        ratios: Sequence[float] | None,
        bad_files: BadFiles,
    ) -> None:
        self.mapper = mapper
        self.seed = seed
        self.bad_files = bad_files
        records = [record for dataset in datasets for record in with_mask_flags(dataset)]
        sources = np.repeat(np.arange(len(datasets)), [len(dataset) for dataset in datasets])
        wanted = mapper.strong_tasks if isinstance(mapper, MultiTaskMapper) else frozenset()
        kinds = [known_targets(record) & wanted - {"caption"} for record in records]
        self.partners = PartnerPool(kinds, sources, ratios=ratios)
        self.records = DatasetFromList(records, copy=False, serialize=True)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, request: SampleRequest) -> Record:
        rng = sample_generator(self.seed, request.position)
        index = request.image
        for _ in range(MAX_REPLACEMENTS):
            try:
                item = self._make(index, request, rng)
            except BadFileError as error:
                self.bad_files.report(error)
                item = None
            if item is not None:
                return item
            index = self.partners.draw(index, rng)
        raise DataError(f"{MAX_REPLACEMENTS} images in a row gave no sample, the last one {index}")

    def _make(self, index: int, request: SampleRequest, rng: np.random.Generator) -> Record | None:
        record = self.records[index]
        if isinstance(self.mapper, MultiTaskMapper):

            def partner(rng: np.random.Generator) -> Record:
                return self.records[self.partners.draw(index, rng)]

            return self.mapper(record, Draw(rng, partner, request.mosaic))
        return call_foreign(self.mapper, record, seed=int(rng.integers(2**31)))


def with_mask_flags(records: Sequence[Record]) -> Iterator[Record]:
    """Say of images without objects whether masks are known: as elsewhere in their data set."""
    annotated = [r["annotations"] for r in records if r.get("annotations")]
    has_masks = not annotated or any("segmentation" in a for anns in annotated for a in anns)
    for record in records:
        is_empty = "annotations" in record and not record["annotations"]
        yield {**record, "has_masks": has_masks} if is_empty else record


def build_train_loader(
    cfg: CfgNode,
    *,
    mapper: Mapper | None = None,
    tokenizer: Tokenizer | None = None,
    start_iteration: int = 0,
) -> DataLoader[Record]:
    """An endless loader of training batches, each a list of samples.

    Args:
        cfg: with DATASETS, DATALOADER, INPUT, SOLVER, SEED (a negative one counts as 0).
        mapper: by default what INPUT.DATASET_MAPPER_NAME says.
        tokenizer: for the task "caption".
        start_iteration: of the first batch; what follows is exactly what a loader that started at
            0 would give from there on.
    """
    names = cfg.DATASETS.TRAIN
    datasets = [_training_records(cfg, name) for name in names]
    ratios = list(cfg.DATASETS.TRAIN_RATIOS) or None
    if ratios is not None:
        check_ratios(ratios, len(datasets))
    _check_targets(cfg, datasets)
    bad_files = BadFiles(
        path=Path(cfg.OUTPUT_DIR) / "bad_files.txt",
        total=sum(len(records) for records in datasets),
        max_fraction=cfg.DATALOADER.MAX_BAD_FILES,
    )
    if start_iteration == 0:
        _reset(bad_files)
    if mapper is None:
        mapper = _build_train_mapper(cfg, tokenizer, bad_files)
    seed = max(cfg.SEED, 0)
    dataset = TrainingSet(datasets, mapper=mapper, seed=seed, ratios=ratios, bad_files=bad_files)
    batch_size = cfg.SOLVER.IMS_PER_BATCH
    sizes = [len(records) for records in datasets]
    sampler = RunSampler(
        IndexStream(sizes, ratios=ratios, seed=seed),
        batch_size=batch_size,
        rank=comm.get_rank(),
        world_size=comm.get_world_size(),
        start=start_iteration * batch_size,
        mosaic_until=(cfg.SOLVER.MAX_ITER - cfg.INPUT.CLOSE_MOSAIC_ITERS) * batch_size,
    )
    return DataLoader(
        dataset,
        batch_size=batch_size // comm.get_world_size(),
        sampler=sampler,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=list,
        worker_init_fn=use_one_thread,
        # Its own generator, so that making an iterator draws nothing from the global one.
        generator=torch.Generator(),
    )


def build_test_loader(
    cfg: CfgNode, dataset_name: str, *, mapper: Mapper | None = None, batch_size: int = 1
) -> "TestLoader":
    """The images of a data set once, in order, each process its part; bad files are left out."""
    if mapper is None:
        mapper = _mapper_class(cfg)(cfg, is_train=False)
    records = DatasetFromList(DatasetCatalog.get(dataset_name), copy=False, serialize=True)
    bad_files = BadFiles(
        path=Path(cfg.OUTPUT_DIR) / f"bad_files_{dataset_name}.txt",
        total=len(records),
        max_fraction=cfg.DATALOADER.MAX_BAD_FILES,
    )
    _reset(bad_files)
    return TestLoader(
        DataLoader(
            TestSet(records, mapper=mapper, bad_files=bad_files),
            batch_size=batch_size,
            sampler=InferenceSampler(len(records)),
            num_workers=cfg.DATALOADER.NUM_WORKERS,
            collate_fn=_without_none,
            worker_init_fn=use_one_thread,
            generator=torch.Generator(),
        )
    )


class TestSet(Dataset[Record | None]):
    """Test images; None where the file cannot be used."""

    __test__ = False  # no test case, whatever pytest thinks of the name

    def __init__(self, records: Any, *, mapper: Mapper, bad_files: BadFiles) -> None:
        self.records = records
        self.mapper = mapper
        self.bad_files = bad_files

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Record | None:
        record = self.records[index]
        try:
            if isinstance(self.mapper, MultiTaskMapper):
                return self.mapper(record)
            return call_foreign(self.mapper, record, seed=index)
        except BadFileError as error:
            self.bad_files.report(error)
            return None


def _without_none(items: list[Record | None]) -> list[Record]:
    return [item for item in items if item is not None]


class TestLoader:
    """A loader without its empty batches, which models do not expect."""

    __test__ = False

    def __init__(self, loader: DataLoader[Record | None]) -> None:
        self.loader = loader
        self.dataset = loader.dataset

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[list[Record]]:
        return (batch for batch in self.loader if batch)


def build_tokenizer(cfg: CfgNode) -> Tokenizer:
    """The tokenizer of TOKENIZER.MODEL, or one trained from the captions of the training sets."""
    if cfg.TOKENIZER.MODEL:
        return Tokenizer.load(cfg.TOKENIZER.MODEL)
    records = (record for name in cfg.DATASETS.TRAIN for record in DatasetCatalog.get(name))
    captions = [caption for record in records for caption in record.get("captions", [])]
    return Tokenizer.train(captions, vocab_size=cfg.TOKENIZER.VOCAB_SIZE)


def use_one_thread(worker_id: int = 0) -> None:
    """Workers are many: each keeps to one thread, and to memory that it has."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    keep_freed_memory()


def keep_freed_memory(limit: int = 32 << 20) -> None:
    """Let glibc reuse blocks up to this many bytes instead of returning them to the system.

    Images are such blocks, and the system clears each page anew: a few percent of a sample's time.
    """
    try:
        set_option = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another system or C library
        return
    for option in (-3, -1):  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
        set_option(option, limit)


def _training_records(cfg: CfgNode, name: str) -> list[Record]:
    records = DatasetCatalog.get(name)
    if cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS:
        records = [
            r
            for r in records
            if "annotations" not in r or any(not a.get("iscrowd", 0) for a in r["annotations"])
        ]
    if not records:
        raise DataError(f"{name}: there is no image to train on")
    return records


def _build_train_mapper(cfg: CfgNode, tokenizer: Tokenizer | None, bad_files: BadFiles) -> Mapper:
    mapper_class = _mapper_class(cfg)
    if mapper_class is not MultiTaskMapper:
        return mapper_class(cfg, is_train=True)
    sem_seg_classes = shared_classes(cfg.DATASETS.TRAIN, "stuff_classes", where="sem_seg_root")
    return MultiTaskMapper(
        cfg,
        is_train=True,
        tokenizer=tokenizer,
        num_sem_seg_classes=len(sem_seg_classes) if sem_seg_classes else None,
        bad_files=bad_files,
    )


def _mapper_class(cfg: CfgNode) -> type:
    known = {"multitask": MultiTaskMapper, "detectron2": DatasetMapper}
    name = cfg.INPUT.DATASET_MAPPER_NAME
    if name not in known:
        raise ValueError(f"INPUT.DATASET_MAPPER_NAME must be one of {', '.join(known)}, not {name}")
    return known[name]


def _reset(bad_files: BadFiles) -> None:
    """Forget an earlier run's bad files before any process finds one."""
    if comm.is_main_process():
        bad_files.reset()
    comm.synchronize()


def _check_targets(cfg: CfgNode, datasets: Sequence[Sequence[Record]]) -> None:
    """Every task has something to learn from, and data sets do not number classes differently."""
    shared_classes(cfg.DATASETS.TRAIN, "thing_classes", where="json_file")
    if cfg.DATALOADER.SAMPLER_TRAIN != "TrainingSampler":
        raise ValueError(
            f"DATALOADER.SAMPLER_TRAIN {cfg.DATALOADER.SAMPLER_TRAIN} is not supported; "
            "DATASETS.TRAIN_RATIOS says how often data sets come"
        )
    if cfg.INPUT.DATASET_MAPPER_NAME != "multitask":
        return
    wanted = set(cfg.MODEL.YOLOR.TASKS)
    for record in (record for records in datasets for record in records):
        wanted -= known_targets(record)
        if not wanted:
            return
    names = ", ".join(cfg.DATASETS.TRAIN)
    tasks = ", ".join(sorted(wanted))
    raise DataError(f"MODEL.YOLOR.TASKS has {tasks}, but no image of {names} has such targets")


def shared_classes(names: Sequence[str], key: str, *, where: str) -> list[str] | None:
    """The classes that data sets have in common; an error when they differ.

    Args:
        names: of the data sets.
        key: of the metadata that lists the classes.
        where: key of the metadata without which a data set has no such targets and does not count.
    """
    found = {}
    for name in names:
        metadata = MetadataCatalog.get(name)
        if metadata.get(where) is not None:
            found[name] = tuple(metadata.get(key))
    if len(set(found.values())) > 1:
        raise DataError(f"the {key} of {' and '.join(found)} differ")
    return list(next(iter(found.values()))) if found else None
