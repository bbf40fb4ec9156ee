"""A process reads and hashes the file that it starts from once."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from yolor_d2.checkpoint import saving
from yolor_d2.engine.main import main

from ..small_runs import Configure
from . import test_lazy, test_main

Start = Callable[..., None]
CAPTIONS = ("MODEL.YOLOR.TASKS", ["detection", "caption"], "SOLVER.MAX_ITER", 2)


@pytest.fixture(params=["yaml", "lazy"])
def start(
    request: pytest.FixtureRequest,
    configure: Configure,
    toy_sets: tuple[str, str],
    tmp_path: Path,
) -> Start:
    """Starts a run in a folder of tmp_path, with flags, from weights, if given."""

    def start_yaml(folder: str, *flags: str, weights: str = "") -> None:
        cfg = configure(folder, *CAPTIONS, "MODEL.WEIGHTS", weights)
        main(test_main.arguments(cfg, tmp_path / "c.yaml", *flags))

    def start_lazy(folder: str, *flags: str, weights: str = "") -> None:
        more = ("run.max_iter=2", "run.loss_period=0", f"init.weights={weights}")
        test_lazy.run_lazy(toy_sets, tmp_path / folder, "mtl", *more, flags=flags)

    return start_yaml if request.param == "yaml" else start_lazy


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, str]]:
    """How often each file was read with its tensors, and hashed."""
    counter: Counter[tuple[str, str]] = Counter()
    load, digest = torch.load, saving.file_digest

    def counted_load(path: Any, **options: Any) -> Any:
        if not options.get("mmap"):  # which reads no tensors
            counter["read", Path(path).name] += 1
        return load(path, **options)

    def counted_digest(path: Path) -> str:
        counter["hashed", path.name] += 1
        return digest(path)

    monkeypatch.setattr(torch, "load", counted_load)
    monkeypatch.setattr(saving, "file_digest", counted_digest)
    return counter


def test_file_is_read_once(start: Start, calls: Counter[tuple[str, str]], tmp_path: Path) -> None:
    start("run")
    assert not calls

    def once(name: str) -> bool:
        found = dict(calls)
        calls.clear()
        return found == {("read", name): 1, ("hashed", name): 1}

    start("run", "--resume")
    assert once("model_0000001.pth")
    start("run", "--resume", "--eval-only")
    assert once("model_0000001.pth")
    weights = str(tmp_path / "run/model_final.pth")
    start("tuned", weights=weights)
    assert once("model_final.pth")
    start("evaluated", "--eval-only", weights=weights)
    assert once("model_final.pth")
