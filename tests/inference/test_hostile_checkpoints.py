"""Checkpoints from strangers: their configurations reach nothing but the network."""

from pathlib import Path

import pytest

from yolor_d2 import Predictor
from yolor_d2.checkpoint.saving import load_checkpoint, save_checkpoint

from ..saved_networks import Saved


def changed(saved: Saved, path: Path, config: str) -> Path:
    """A copy of a checkpoint with another configuration."""
    content = load_checkpoint(saved.path)
    content["provenance"]["config"] = config
    save_checkpoint(content, path)
    return path


@pytest.mark.parametrize("line", ["A: !!python/object/apply:os.mkdir ['{}']", "_BASE_: '{}.yaml'"])
def test_yaml_is_not_run(saved: Saved, tmp_path: Path, line: str) -> None:
    trace = tmp_path / "trace"
    (tmp_path / "trace.yaml").write_text(f"A: !!python/object/apply:os.mkdir ['{trace}']\n")
    path = changed(saved, tmp_path / "evil.pth", f"{saved.cfg.dump()}{line.format(trace)}\n")
    with pytest.raises(ValueError, match=r"evil\.pth: (contains|its) .*configuration"):
        Predictor(path, device="cpu")
    assert not trace.exists()


def test_files_and_addresses_are_not_read(saved: Saved, tmp_path: Path) -> None:
    """Paths in a configuration are those of the training's machine."""
    cfg = saved.cfg.clone()
    cfg.MODEL.WEIGHTS = "http://127.0.0.1:9/weights.pth"
    cfg.TOKENIZER.MODEL = "/dev/full"
    cfg.OUTPUT_DIR = str(tmp_path / "output")
    path = changed(saved, tmp_path / "paths.pth", cfg.dump())
    found = Predictor(path, device="cpu")(str(saved.images[0]))
    assert found.caption == Predictor(saved.path, device="cpu")(str(saved.images[0])).caption
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize("name", ["GeneralizedRCNN", "os.system"])
def test_other_architectures_are_refused(saved: Saved, tmp_path: Path, name: str) -> None:
    cfg = saved.cfg.clone()
    cfg.MODEL.META_ARCHITECTURE = name
    path = changed(saved, tmp_path / "other.pth", cfg.dump())
    with pytest.raises(ValueError, match=rf"MODEL\.META_ARCHITECTURE is {name}; it must be YOLOR"):
        Predictor(path, device="cpu")
