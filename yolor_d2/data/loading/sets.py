"""PyTorch data sets of mapped records."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from detectron2.data import DatasetFromList
from torch.utils.data import Dataset

from ...errors import BadFileError, DataError
from ..files.images import BadFiles
from ..views.mapper import MultiTaskMapper, known_targets
from ..views.partners import PartnerPool
from ..views.reading import Record
from ..views.strong_view import Draw
from .detectron2_mapper import call_detectron2_mapper
from .sampling import SampleRequest, sample_generator

Mapper = Callable[..., Record | None]

MAX_REPLACEMENTS = 100


class TrainingSet(Dataset[Record]):
    """Makes requested training samples; images that cannot be used are replaced.

    Args:
        datasets: the records of each data set.
        mapper: a MultiTaskMapper or a mapper of detectron2 (record -> sample or None).
        seed: random seed of the run.
        ratios: share of the samples from each data set; None weights all images equally.
        bad_files: list of the files that cannot be used.
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
        tasks = mapper.strong_tasks if isinstance(mapper, MultiTaskMapper) else frozenset()
        self.partners = PartnerPool(_required_targets(records, tasks), sources, ratios=ratios)
        self.object_counts = np.array([_count_objects(record) for record in records])
        self.records = DatasetFromList(records, copy=False, serialize=True)
        self._batch: tuple[int, ...] = ()
        self._shared: dict[int, Record] = {}  # records of the current batch, if samples share them

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

    def hardest(self, number: int) -> list[Record]:
        """Return samples of the images with the most objects, which take the most memory."""
        images = np.argsort(-self.object_counts, kind="stable")[:number]
        requests = (SampleRequest(k, int(i), mosaic=True) for k, i in enumerate(images))
        return [self[request] for request in requests]

    def _make(self, index: int, request: SampleRequest, rng: np.random.Generator) -> Record | None:
        if not isinstance(self.mapper, MultiTaskMapper):
            seed = int(rng.integers(2**31))
            return call_detectron2_mapper(self.mapper, self.records[index], seed=seed)
        batch = request.batch if self.mapper.shares_files else ()
        partners = (self._record(k, batch) for k in self.partners.partners(index, batch, rng))
        draw = Draw(rng, partners, request.mosaic, self.bad_files.report, batch)
        return self.mapper(self._record(index, batch), draw)

    def _record(self, index: int, batch: tuple[int, ...]) -> Record:
        """Return a record; those of a batch are unpickled once."""
        if batch != self._batch or not batch:
            self._batch, self._shared = batch, {}
        if index not in self._shared:
            self._shared[index] = self.records[index]
        return self._shared[index]


def _count_objects(record: Record) -> int:
    return len(record.get("annotations") or record.get("segments_info") or ())


def _required_targets(records: Sequence[Record], tasks: frozenset[str]) -> list[frozenset[str]]:
    """Return the targets that the partners of each image need: tasks and, if any, labeled classes.

    Captions are excluded: they are always those of the sample's own image.
    """
    number = max((len(record.get("labeled_classes", ())) for record in records), default=0)

    @functools.cache  # so that the images of a data set share one object
    def required(known: frozenset[str], labeled: tuple[bool, ...] | None) -> frozenset[str]:
        if "detection" not in known:
            return known
        classes = (i for i in range(number) if labeled is None or labeled[i])
        return known | {f"class {i}" for i in classes}

    tasks = tasks - {"caption"}
    return [required(known_targets(r) & tasks, r.get("labeled_classes")) for r in records]


def with_mask_flags(records: Sequence[Record]) -> Iterator[Record]:
    """Set `has_masks` of images without objects: whether objects of their data set have masks."""
    annotated = [r["annotations"] for r in records if r.get("annotations")]
    has_masks = not annotated or any("segmentation" in a for anns in annotated for a in anns)
    for record in records:
        is_empty = "annotations" in record and not record["annotations"]
        yield {**record, "has_masks": has_masks} if is_empty else record


class TestSet(Dataset[Record | None]):
    """Test images; None where the file cannot be used."""

    __test__ = False  # keeps pytest from collecting it

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
            return call_detectron2_mapper(self.mapper, record, seed=index)
        except BadFileError as error:
            self.bad_files.report(error)
            return None
