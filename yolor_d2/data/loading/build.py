"""Builds the data loaders; batches depend only on the configuration and the position in the run."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from random import SystemRandom

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetFromList, DatasetMapper
from detectron2.data.samplers import InferenceSampler
from detectron2.utils import comm
from torch.utils.data import DataLoader

from ...errors import ConfigError, DataError
from ...tasks import TASKS
from ...tokenizer import Tokenizer
from ..catalog.records import COMPLETE, read_metadata, read_records
from ..catalog.shared_classes import warn_about_unlabeled
from ..files.images import BadFiles
from ..views.mapper import MultiTaskMapper, known_targets
from ..views.reading import Record
from .sampling import IndexStream, RunSampler, check_ratios
from .sets import Mapper, TestSet, TrainingSet
from .workers import prepare_worker

SEED_FILE = "data_seed.txt"


def build_train_loader(
    cfg: CfgNode,
    *,
    mapper: Mapper | None = None,
    tokenizer: Tokenizer | None = None,
    start_iteration: int = 0,
) -> DataLoader[Record]:
    """Call `make_train_loader` with the settings of a configuration.

    Args:
        cfg: an iteration is an optimizer step of SOLVER.ACCUM_STEPS batches.
        mapper: None builds the one of INPUT.DATASET_MAPPER_NAME.
        tokenizer: required for the task "caption".
        start_iteration: iteration of the first batch.
    """
    if cfg.DATALOADER.SAMPLER_TRAIN != "TrainingSampler":
        raise ConfigError(
            f"DATALOADER.SAMPLER_TRAIN {cfg.DATALOADER.SAMPLER_TRAIN} is not supported; "
            "DATASETS.TRAIN_RATIOS sets the share of each data set"
        )
    per_iteration = cfg.SOLVER.IMS_PER_BATCH * cfg.SOLVER.ACCUM_STEPS
    teacher = cfg.SOLVER.TEACHER
    return make_train_loader(
        cfg.DATASETS.TRAIN,
        mapper=mapper or _build_train_mapper(cfg, tokenizer),
        batch_size=cfg.SOLVER.IMS_PER_BATCH,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        seed=cfg.SEED,
        ratios=cfg.DATASETS.TRAIN_RATIOS,
        start=start_iteration * per_iteration,
        mosaic_until=(cfg.SOLVER.MAX_ITER - cfg.INPUT.CLOSE_MOSAIC_ITERS) * per_iteration,
        filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
        output_dir=cfg.OUTPUT_DIR,
        max_bad_files=cfg.DATALOADER.MAX_BAD_FILES,
        taught=(teacher.TASKS or TASKS) if teacher.WEIGHTS else (),
    )


def make_train_loader(
    names: Sequence[str],
    *,
    mapper: Mapper,
    batch_size: int,
    num_workers: int,
    seed: int = 0,
    ratios: Sequence[float] = (),
    start: int = 0,
    mosaic_until: int,
    filter_empty: bool = False,
    output_dir: str,
    max_bad_files: float = 0.05,
    taught: Collection[str] = (),
) -> DataLoader[Record]:
    """Build an endless loader of training batches, each a list of samples.

    Args:
        names: names of the data sets.
        mapper: maps a record to a sample.
        batch_size: batch size over all processes.
        num_workers: workers per process.
        seed: random seed of the run; negative: drawn at the start of the run, and kept in a file
            in output_dir, so that a resumed run has the same samples.
        ratios: share of the samples from each data set; empty weights all images equally.
        start: index of the first sample in the run; each sample depends only on its own index.
        mosaic_until: position from which no mosaics are made.
        filter_empty: leave out images without objects.
        output_dir: folder of the list of files that cannot be used, and of a drawn seed.
        max_bad_files: largest share of such images before the run stops.
        taught: tasks with a teacher, for which no image needs labels; captions are no such task.
    """
    datasets = [_training_records(name, filter_empty=filter_empty) for name in names]
    if ratios:
        check_ratios(ratios, len(datasets))
    _check_targets(names, datasets, mapper, taught)
    sizes = [len(records) for records in datasets]
    total, is_new = sum(sizes), start == 0
    bad_files = _bad_files(output_dir, "bad_files.txt", total, max_bad_files, is_new=is_new)
    seed = seed if seed >= 0 else _drawn_seed(Path(output_dir) / SEED_FILE, is_new=is_new)
    shares = list(ratios) or None
    sampler = RunSampler(
        IndexStream(sizes, ratios=shares, seed=seed),
        batch_size=batch_size,
        rank=comm.get_rank(),
        world_size=comm.get_world_size(),
        start=start,
        mosaic_until=mosaic_until,
    )
    return DataLoader(
        TrainingSet(datasets, mapper=mapper, seed=seed, ratios=shares, bad_files=bad_files),
        batch_size=batch_size // comm.get_world_size(),
        sampler=sampler,
        num_workers=num_workers,
        collate_fn=list,
        worker_init_fn=prepare_worker,
        # With its own generator, creating an iterator does not draw from the global one.
        generator=torch.Generator(),
        pin_memory=torch.cuda.is_available(),
    )


def _drawn_seed(path: Path, *, is_new: bool) -> int:
    """The random seed of a run, the same in all processes; 0 for a run without a file."""
    seed = 0  # as in earlier versions
    if comm.is_main_process():
        if is_new:
            seed = SystemRandom().getrandbits(31)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{seed}\n")
        elif path.is_file():
            seed = int(path.read_text())
    return comm.all_gather(seed)[0]


def build_test_loader(
    cfg: CfgNode, dataset_name: str, *, mapper: Mapper | None = None, batch_size: int = 1
) -> "TestLoader":
    """Call `make_test_loader` with the settings and, by default, the mapper of a configuration."""
    return make_test_loader(
        dataset_name,
        mapper=mapper or _mapper_class(cfg)(cfg, is_train=False),
        batch_size=batch_size,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        output_dir=cfg.OUTPUT_DIR,
        max_bad_files=cfg.DATALOADER.MAX_BAD_FILES,
    )


def make_test_loader(
    dataset_name: str,
    *,
    mapper: Mapper,
    batch_size: int = 1,
    num_workers: int,
    output_dir: str,
    max_bad_files: float = 0.05,
    max_images: int = 0,
) -> "TestLoader":
    """Build a loader that yields each image once, in order; unusable files are left out.

    The images are divided among the processes.

    Args:
        dataset_name: name of the data set.
        mapper: maps a record to a sample.
        batch_size: batch size per process.
        num_workers: workers per process.
        output_dir, max_bad_files: see `make_train_loader`.
        max_images: number of images, evenly spread over the data set; 0 takes all.
    """
    records = read_records(dataset_name)
    if max_images:
        number = min(max_images, len(records))
        records = [records[k * len(records) // number] for k in range(number)]
    records = DatasetFromList(records, copy=False, serialize=True)
    name = f"bad_files_{dataset_name}.txt"
    bad_files = _bad_files(output_dir, name, len(records), max_bad_files, is_new=True)
    return TestLoader(
        DataLoader(
            TestSet(records, mapper=mapper, bad_files=bad_files),
            batch_size=batch_size,
            sampler=InferenceSampler(len(records)),
            num_workers=num_workers,
            collate_fn=_without_none,
            worker_init_fn=prepare_worker,
            generator=torch.Generator(),
            pin_memory=torch.cuda.is_available(),
        )
    )


def _without_none(items: list[Record | None]) -> list[Record]:
    return [item for item in items if item is not None]


class TestLoader:
    """Skips the empty batches of a loader, which models do not accept."""

    __test__ = False

    def __init__(self, loader: DataLoader[Record | None]) -> None:
        self.loader = loader
        self.dataset = loader.dataset

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[list[Record]]:
        return (batch for batch in self.loader if batch)


def build_tokenizer(cfg: CfgNode) -> Tokenizer:
    """Load the tokenizer of TOKENIZER.MODEL, or train one on the captions of the training sets."""
    if cfg.TOKENIZER.MODEL:
        return Tokenizer.load(cfg.TOKENIZER.MODEL)
    return train_tokenizer(cfg.DATASETS.TRAIN, vocab_size=cfg.TOKENIZER.VOCAB_SIZE)


def train_tokenizer(names: Sequence[str], *, vocab_size: int) -> Tokenizer:
    """Train a tokenizer on the captions of data sets."""
    records = (record for name in names for record in read_records(name))
    captions = [caption for record in records for caption in record.get("captions", [])]
    if not captions:
        raise DataError(
            f"MODEL.YOLOR.TASKS has caption, but no image of {', '.join(names)} has such targets"
        )
    return Tokenizer.train(captions, vocab_size=vocab_size)


def _training_records(name: str, *, filter_empty: bool) -> list[Record]:
    records = read_records(name)
    if filter_empty:
        records = [
            r
            for r in records
            if "annotations" not in r or any(not a.get("iscrowd", 0) for a in r["annotations"])
        ]
    if not records:
        raise DataError(f"{name}: there is no image to train on")
    return records


def _build_train_mapper(cfg: CfgNode, tokenizer: Tokenizer | None) -> Mapper:
    mapper_class = _mapper_class(cfg)
    if mapper_class is not MultiTaskMapper:
        return mapper_class(cfg, is_train=True)
    return build_multitask_mapper(cfg, cfg.DATASETS.TRAIN, tokenizer=tokenizer)


def build_multitask_mapper(
    cfg: CfgNode, names: Sequence[str], *, tokenizer: Tokenizer | None
) -> MultiTaskMapper:
    """Build the training mapper for data sets, which must share the classes of semantic maps."""
    classes = shared_classes(names, "stuff_classes", where="sem_seg_root")
    return MultiTaskMapper(
        cfg,
        is_train=True,
        tokenizer=tokenizer,
        num_sem_seg_classes=len(classes) if classes else None,
    )


def _mapper_class(cfg: CfgNode) -> type:
    known = {"multitask": MultiTaskMapper, "detectron2": DatasetMapper}
    name = cfg.INPUT.DATASET_MAPPER_NAME
    if name not in known:
        raise ConfigError(
            f"INPUT.DATASET_MAPPER_NAME must be one of {', '.join(known)}, not {name}"
        )
    return known[name]


def _bad_files(
    folder: str, name: str, total: int, max_fraction: float, *, is_new: bool
) -> BadFiles:
    """The list of bad files; that of an earlier run is cleared before any process adds to it."""
    bad_files = BadFiles(path=Path(folder) / name, total=total, max_fraction=max_fraction)
    if is_new:
        if comm.is_main_process():
            bad_files.reset()
        comm.synchronize()
    return bad_files


def _check_targets(
    names: Sequence[str],
    datasets: Sequence[Sequence[Record]],
    mapper: Mapper,
    taught: Collection[str],
) -> None:
    """Check that every task has targets or a teacher, and that data sets share their classes."""
    shared_classes(names, "thing_classes", where="json_file")
    warn_about_unlabeled(names)
    if not isinstance(mapper, MultiTaskMapper):
        return
    missing = set(mapper.tasks) - (set(taught) - {"caption"})
    for record in (record for records in datasets for record in records):
        if not missing:
            return
        missing -= known_targets(record)
    if missing:
        raise DataError(
            f"MODEL.YOLOR.TASKS has {', '.join(sorted(missing))}, but no image of "
            f"{', '.join(names)} has such targets"
        )


def shared_classes(names: Sequence[str], key: str, *, where: str) -> list[str] | None:
    """Return the classes of data sets, which must be the same; None if no data set has any.

    Args:
        names: names of the data sets.
        key: metadata key of the classes.
        where: metadata key of the targets. Data sets of `register_coco_multitask` without it are
            skipped, others without classes.
    """
    found = {}
    for name in names:
        metadata = read_metadata(name)
        is_complete = metadata.get("evaluator_type") == COMPLETE
        if metadata.get(where if is_complete else key) is not None and metadata.get(key):
            found[name] = tuple(metadata.get(key))
    if len(set(found.values())) > 1:
        hint = "; DATASETS.THING_CLASSES matches them by name" * (key == "thing_classes")
        raise DataError(f"the {key} of {' and '.join(found)} differ{hint}")
    return list(next(iter(found.values()))) if found else None
