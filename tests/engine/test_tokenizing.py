"""The tokenizer of a run is always the one that its weights were trained with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from yolor_d2.checkpoint.run_folder import RunFolder
from yolor_d2.checkpoint.saving import save_checkpoint
from yolor_d2.engine.starting_point import StartingPoint, find_starting_point
from yolor_d2.engine.tokenizing import choose_tokenizer, resolve_tokenizer
from yolor_d2.tokenizer import Tokenizer

from ..small_runs import Configure

SIZES = {"run": 50, "weights": 55, "model": 60, "trained": 65}  # different for each source
CAPTIONS = [f"{a} {b} {c}" for a in "abcdefgh" for b in "ijklmnop" for c in "qrstuvwxyz"]


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Tokenizer]:
    return {where: Tokenizer.train(CAPTIONS, vocab_size=size) for where, size in SIZES.items()}


def checkpoint(tokenizer: Tokenizer | None) -> dict[str, Any]:
    data = {"iteration": 1, "model": {"weight": torch.zeros(1)}, "provenance": {}}
    if tokenizer is not None:
        proto = bytearray(tokenizer.model_proto)
        data["tokenizer"] = torch.frombuffer(proto, dtype=torch.uint8)
    return data


@pytest.fixture
def sources(tmp_path: Path, tokenizers: dict[str, Tokenizer]) -> dict[str, str]:
    """All sources of a tokenizer, each with a different one."""
    (tmp_path / "run").mkdir()
    RunFolder(tmp_path / "run").save(checkpoint(tokenizers["run"]), 0)
    save_checkpoint(checkpoint(tokenizers["weights"]), tmp_path / "weights.pth")
    tokenizers["model"].save(tmp_path / "given.model")
    return {
        "resume_from": str(tmp_path / "run"),
        "weights": str(tmp_path / "weights.pth"),
        "model": str(tmp_path / "given.model"),
    }


def choose(
    *, resume_from: str, weights: str, model: str, train: Callable[[], Tokenizer]
) -> Tokenizer:
    start = find_starting_point(resume_from, weights=weights, resume=bool(resume_from))
    return choose_tokenizer(start, model=model, train=train)


@pytest.mark.parametrize(
    ("given", "chosen"),
    [
        (("resume_from", "weights"), "run"),
        (("resume_from",), "run"),
        (("weights",), "weights"),
        (("model",), "model"),
        ((), "trained"),
    ],
)
def test_tokenizer_priority(
    sources: dict[str, str],
    tokenizers: dict[str, Tokenizer],
    given: tuple[str, ...],
    chosen: str,
) -> None:
    trained = []

    def train() -> Tokenizer:
        trained.append(True)
        return tokenizers["trained"]

    found = choose(**{k: v if k in given else "" for k, v in sources.items()}, train=train)
    assert found == tokenizers[chosen]
    assert bool(trained) == (chosen == "trained")  # training takes minutes


def test_folder_without_run_is_ignored(
    sources: dict[str, str], tokenizers: dict[str, Tokenizer], tmp_path: Path
) -> None:
    """--resume starts a new run if there is none."""
    empty = sources | {"resume_from": str(tmp_path / "empty"), "model": ""}
    assert choose(**empty, train=pytest.fail) == tokenizers["weights"]


def test_weights_without_tokenizer_are_ignored(
    sources: dict[str, str], tokenizers: dict[str, Tokenizer], tmp_path: Path
) -> None:
    """As published weights, which have no captions."""
    save_checkpoint(checkpoint(None), tmp_path / "bare.pth")
    bare = sources | {"resume_from": "", "weights": str(tmp_path / "bare.pth")}
    assert choose(**bare, train=pytest.fail) == tokenizers["model"]
    found = choose(**bare | {"model": ""}, train=lambda: tokenizers["trained"])
    assert found == tokenizers["trained"]


def test_captions_of_unknown_words_are_reported(
    tmp_path: Path, tokenizers: dict[str, Tokenizer], caplog: pytest.LogCaptureFixture
) -> None:
    content = checkpoint(None) | {"model": {"caption_head.output.weight": torch.zeros(1)}}
    save_checkpoint(content, tmp_path / "weights.pth")
    start = {"resume_from": "", "weights": str(tmp_path / "weights.pth")}
    tokenizers["model"].save(tmp_path / "given.model")

    given = choose(**start, model=str(tmp_path / "given.model"), train=Tokenizer.train)
    assert given == tokenizers["model"]
    assert "its words are unknown" not in caplog.text

    assert choose(**start, model="", train=lambda: tokenizers["trained"]) == tokenizers["trained"]
    assert "weights.pth has a caption head but no tokenizer: its words are unknown" in caplog.text


def test_resumed_run_has_its_own_tokenizer(
    sources: dict[str, str], tokenizers: dict[str, Tokenizer]
) -> None:
    with pytest.raises(ValueError, match=r"given\.model is not the tokenizer that .*model_0000000"):
        choose(**sources, train=pytest.fail)
    tokenizers["run"].save(sources["model"])
    assert choose(**sources, train=pytest.fail) == tokenizers["run"]
    Path(sources["model"]).unlink()
    assert choose(**sources, train=pytest.fail) == tokenizers["run"]


def test_different_tokenizers_are_refused(
    sources: dict[str, str], tokenizers: dict[str, Tokenizer]
) -> None:
    new = sources | {"resume_from": ""}
    with pytest.raises(ValueError, match=r"given\.model is not the tokenizer that .*weights\.pth"):
        choose(**new, train=pytest.fail)
    save_checkpoint(checkpoint(tokenizers["model"]), Path(new["weights"]))
    assert choose(**new, train=pytest.fail) == tokenizers["model"]


@pytest.mark.parametrize(("resume", "chosen"), [(True, "run"), (False, "weights")])
def test_tokenizer_is_set_in_configuration(
    configure: Configure,
    sources: dict[str, str],
    tokenizers: dict[str, Tokenizer],
    resume: bool,
    chosen: str,
) -> None:
    """Later builders read the run's tokenizer from the configuration."""
    cfg = configure("run", "MODEL.WEIGHTS", sources["weights"])
    weights = cfg.MODEL.WEIGHTS
    resolve_tokenizer(cfg, find_starting_point(cfg.OUTPUT_DIR, weights=weights, resume=resume))
    assert Path(cfg.TOKENIZER.MODEL) == Path(cfg.OUTPUT_DIR, "tokenizer.model")
    assert Tokenizer.load(cfg.TOKENIZER.MODEL) == tokenizers[chosen]


def test_no_tokenizer_without_captions(configure: Configure) -> None:
    cfg = configure("run", "MODEL.YOLOR.TASKS", ["detection"])
    assert resolve_tokenizer(cfg, StartingPoint()) is None
    assert not Path(cfg.OUTPUT_DIR, "tokenizer.model").exists()
