"""A bench: the baseline's configuration, its data, and where its runs and results are."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode, get_cfg

from yolor_d2.checkpoint.run_folder import RunFolder
from yolor_d2.config import add_yolor_config
from yolor_d2.data.formats.registration import NAMES
from yolor_d2.data.formats.source import TRAIN, VAL
from yolor_d2.engine.config_diff import flatten
from yolor_d2.model_zoo import find_config, load_config
from yolor_d2.modeling.deploy import best_device

from .tables import Table, Variant

# Prefixes of keys that do not change what a run learns.
IRRELEVANT = (
    *("DATALOADER.NUM_WORKERS", "DATALOADER.IMAGE_CACHE_MB", "DATASETS.DATA", "LOG.", "VIS_PERIOD"),
    *("MODEL.DEVICE", "OUTPUT_DIR", "SEED", "SOLVER.CHECKPOINT", "VERSION"),
)

Result = Mapping[str, Any]  # the JSON of a run


@dataclass(frozen=True)
class Bench:
    """All runs of one baseline on one data set.

    Attributes:
        config_file: of the baseline: a path, or a name of the model zoo.
        data: labeled data in a format of docs/reference/data_formats.md; None: those of the
            configuration.
        steps: of each run; None: those of the configuration.
        output: folder of the runs.
        results: folder of their results.
    """

    config_file: str
    data: Path | None
    steps: int | None
    output: Path
    results: Path

    @property
    def name(self) -> str:
        parts = [Path(self.config_file).stem]
        parts += [] if self.data is None else [self.data.stem]
        parts += [] if self.steps is None else [f"{self.steps}_steps"]
        return "_".join(parts)

    def experiments(self, tables: Sequence[Table], seeds: Sequence[int]) -> "Iterator[Experiment]":
        """The runs of tables, each once: of each table, all rows with one seed, then the next."""
        known = set()
        for table in tables:
            for seed in seeds:
                for variant in table.variants:
                    if (variant, seed) not in known:
                        known.add((variant, seed))
                        yield Experiment(self, variant, seed)

    def all_results(self, tables: Sequence[Table], seeds: Sequence[int]) -> list[Result]:
        """The results of finished runs."""
        found = (experiment.result() for experiment in self.experiments(tables, seeds))
        return [result for result in found if result is not None]


@dataclass(frozen=True)
class Experiment:
    """A variant with a seed: one run."""

    bench: Bench
    variant: Variant
    seed: int

    @property
    def name(self) -> str:
        return f"{self.variant.name}, seed {self.seed}"

    @property
    def folder(self) -> Path:
        return self.bench.output / self.bench.name / f"{self.variant.name}_{self.seed}"

    @property
    def result_file(self) -> Path:
        return self.bench.results / self.bench.name / f"{self.variant.name}_{self.seed}.json"

    def config(self) -> CfgNode:
        """The run's configuration.

        Raises:
            ValueError: there is no such file, or an override does not fit it.
        """
        base = Path(find_config(self.bench.config_file))
        ablation = base.parent / "ablations" / f"{self.variant.name}.yaml"
        if ablation.is_file():
            cfg = load_config(str(ablation))
        else:
            pairs = self.variant.overrides.items()
            cfg = load_config(str(base), [part for key, value in pairs for part in (key, value)])
        if self.bench.data is not None:
            cfg.DATASETS.DATA = str(self.bench.data)
            cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (NAMES[TRAIN],), (NAMES[VAL],)
        if self.bench.steps is not None:
            cfg.SOLVER.MAX_ITER = self.bench.steps
        cfg.SEED = self.seed
        cfg.MODEL.DEVICE = best_device()
        cfg.OUTPUT_DIR = str(self.folder)
        return cfg

    def result(self) -> Result | None:
        """The result of the run; None if it is missing, or is that of another configuration."""
        if not self.result_file.is_file():
            return None
        result = json.loads(self.result_file.read_text(encoding="utf-8"))
        return result if result["settings"] == self.settings() else None

    def settings(self) -> dict[str, Any]:
        """What the configuration says about learning, beyond the defaults."""
        return settings(self.config())

    def finished_steps(self) -> int:
        """The steps of the last checkpoint of an unfinished run; 0: there is none."""
        saved = RunFolder(self.folder).regular()
        return int(saved[-1].stem.removeprefix("model_")) + 1 if saved else 0


def settings(cfg: CfgNode) -> dict[str, Any]:
    """What a configuration says about learning, beyond the defaults of detectron2 and yolor_d2."""
    defaults = get_cfg()
    add_yolor_config(defaults)
    known = _as_json(defaults)
    return {
        key: value
        for key, value in sorted(_as_json(cfg).items())
        if value != known.get(key) and not key.startswith(IRRELEVANT)
    }


def _as_json(cfg: CfgNode) -> dict[str, Any]:
    """Values by complete key, as they are after reading them from a JSON file."""
    return json.loads(json.dumps(flatten(cfg)))
