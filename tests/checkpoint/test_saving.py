"""Writing and reading checkpoints: exact content, one-line errors."""

import errno
import hashlib
import logging
import os
import pickle
import re
import subprocess
import zipfile
from collections import OrderedDict, defaultdict
from enum import IntEnum
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from torch import nn

from yolor_d2.checkpoint import saving
from yolor_d2.checkpoint.saving import load_checkpoint, save_checkpoint
from yolor_d2.errors import CheckpointError, DamagedError

OLD = Path(__file__).parent / "data/format_1.pth"


def same(found: Any, expected: Any) -> bool:
    """Whether two contents are equal in bits and types."""
    if isinstance(expected, torch.Tensor):
        return (
            type(found) is torch.Tensor
            and found.dtype == expected.dtype
            and found.stride() == expected.stride()
            and found.device.type == "cpu"
            and torch.equal(found, expected)
        )
    if type(found) is not type(expected):
        return False
    if isinstance(expected, dict):
        return list(found) == list(expected) and all(same(found[k], expected[k]) for k in expected)
    if isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(map(same, found, expected))
    return found == expected


def some_content() -> dict[str, Any]:
    """All entries of a checkpoint of format 1, with fixed values."""
    return {
        "format": 1,
        "iteration": 1000,
        "model": {
            "conv.weight": torch.arange(24.0)
            .view(2, 3, 2, 2)
            .to(memory_format=torch.channels_last),
            "norm.num_batches_tracked": torch.tensor(1000),
        },
        "ema": {"model": {"conv.weight": torch.full((2, 3, 2, 2), 0.5)}, "updates": 998},
        "optimizer": {
            "state": {0: {"step": torch.tensor(998.0), "exp_avg": torch.full((2,), -1e-30)}},
            "param_groups": [{"lr": 0.01, "betas": (0.9, 0.999), "foreach": None, "params": [0]}],
        },
        "scaler": {"scale": 65536.0, "_growth_tracker": 7},
        "hooks": {"best": {"score": 41.25, "iteration": 500}, "history": {"a": [1, 2]}},
        "random": [{"python": (3, (2147483648, 624), None), "torch": torch.arange(9).byte()}],
        "tokenizer": torch.tensor([0, 10, 255], dtype=torch.uint8),
        "provenance": {"config": "VERSION: 2\n", "commit": None, "classes": {"thing_classes": []}},
    }


def test_round_trip(tmp_path: Path) -> None:
    content = some_content()
    save_checkpoint(content, tmp_path / "x.pth")
    assert same(load_checkpoint(tmp_path / "x.pth"), content)
    assert sorted(os.listdir(tmp_path)) == ["x.pth", "x.pth.sha256"]


def test_checkpoint_of_format_1_loads() -> None:
    """The file was written once by save_checkpoint(some_content(), OLD); never rewrite it."""
    assert OLD.stat().st_size < 100_000
    assert same(load_checkpoint(OLD), some_content())


def test_state_dicts_become_plain(tmp_path: Path) -> None:
    state = nn.BatchNorm2d(2).state_dict()
    assert type(state) is OrderedDict
    save_checkpoint({"model": state}, tmp_path / "x.pth")
    assert same(load_checkpoint(tmp_path / "x.pth")["model"], dict(state))


def test_parameters_and_slices_become_independent_tensors(tmp_path: Path) -> None:
    parameter = nn.Parameter(torch.ones(3))
    save_checkpoint({"a": parameter, "b": torch.zeros(100_000)[:2]}, tmp_path / "x.pth")
    found = load_checkpoint(tmp_path / "x.pth")
    assert same(found["a"], torch.ones(3))
    assert not found["a"].requires_grad
    assert (tmp_path / "x.pth").stat().st_size < 10_000


class Color(IntEnum):
    RED = 1


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (np.float64(0.5), "numpy.float64"),  # a subclass of float
        (np.zeros(2), "numpy.ndarray"),
        (Path("x"), "pathlib.PosixPath"),
        (Color.RED, f"{__name__}.Color"),
        ({1, 2}, "builtins.set"),
        (b"x", "builtins.bytes"),
        (defaultdict(list), "collections.defaultdict"),
        (torch.Size([1]), "torch.Size"),
        (torch.float32, "torch.dtype"),
        (len, "builtins.builtin_function_or_method"),
    ],
)
def test_other_types_are_refused_by_place(tmp_path: Path, value: Any, kind: str) -> None:
    content = {"hooks": {"best": [1.0, value]}}
    place = re.escape("checkpoint: ['hooks']['best'][1] is a " + kind)
    with pytest.raises(CheckpointError, match=f"{place}; only tensors and plain data"):
        save_checkpoint(content, tmp_path / "x.pth")
    assert os.listdir(tmp_path) == []


def test_other_keys_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"\['hooks'\] has the key \(1, 2\)"):
        save_checkpoint({"hooks": {(1, 2): 3}}, tmp_path / "x.pth")


def test_checksum_matches_sha256sum(tmp_path: Path) -> None:
    path = tmp_path / "x y.pth"
    for number in range(2):
        save_checkpoint({"a": number}, path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert (tmp_path / "x y.pth.sha256").read_text() == f"{digest}  x y.pth\n"
    subprocess.run(["sha256sum", "-c", "x y.pth.sha256"], cwd=tmp_path, check=True)


def test_parts_are_synced_in_order(tmp_path: Path) -> None:
    """Contents before names, the checksum before the file, the folder last."""
    save_checkpoint({"a": 1}, tmp_path / "x.pth")
    calls = []
    fsync, replace = os.fsync, os.replace

    def watched_fsync(descriptor: int) -> None:
        calls.append(("fsync", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))
        fsync(descriptor)

    def watched_replace(source: Path, target: Path) -> None:
        calls.append(("replace", target.name))
        replace(source, target)

    with (
        mock.patch.object(os, "fsync", watched_fsync),
        mock.patch.object(os, "replace", watched_replace),
    ):
        save_checkpoint({"a": 2}, tmp_path / "x.pth")

    folder = ("fsync", tmp_path.name)
    suffix = f"{os.getpid()}.tmp"
    checksum = [("fsync", f".x.pth.sha256.{suffix}"), ("replace", "x.pth.sha256"), folder]
    file = [("fsync", f".x.pth.{suffix}"), ("replace", "x.pth"), folder]
    assert calls == [*checksum, *file, *checksum]


def test_folder_without_fsync(tmp_path: Path) -> None:
    """Some network file systems do not support it; other errors are raised."""
    fsync = os.fsync

    def fail(number: int) -> Any:
        def of_folders(descriptor: int) -> None:
            if os.path.isdir(f"/proc/self/fd/{descriptor}"):
                raise OSError(number, os.strerror(number))
            fsync(descriptor)

        return mock.patch.object(os, "fsync", of_folders)

    with fail(errno.EINVAL):
        save_checkpoint({"a": 1}, tmp_path / "x.pth")
    assert load_checkpoint(tmp_path / "x.pth")["a"] == 1
    with fail(errno.EIO), pytest.raises(CheckpointError, match=r"x\.pth: .*Input/output error"):
        save_checkpoint({"a": 2}, tmp_path / "x.pth")


def test_failure_leaves_no_file(tmp_path: Path) -> None:
    """Not even the checksum, which is written before the file."""
    replace = os.replace

    def fail(source: Path, target: Path) -> None:
        if target.suffix == ".pth":
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        replace(source, target)

    message = r"x\.pth: cannot be written: Disk quota exceeded$"
    with mock.patch.object(os, "replace", fail), pytest.raises(CheckpointError, match=message):
        save_checkpoint({"a": 1}, tmp_path / "x.pth")
    assert os.listdir(tmp_path) == []


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"a/x\.pth: cannot be written: No such file"):
        save_checkpoint({}, tmp_path / "a/x.pth")


def test_renamed_checkpoint_keeps_its_checksum(tmp_path: Path) -> None:
    save_checkpoint({"a": 1}, tmp_path / "x.pth")
    for suffix in (".pth", ".pth.sha256"):
        (tmp_path / f"x{suffix}").rename(tmp_path / f"y{suffix}")
    assert load_checkpoint(tmp_path / "y.pth")["a"] == 1


def test_without_a_checksum(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Like a file copied by hand, also over another."""
    save_checkpoint({"a": 1}, tmp_path / "x.pth")
    (tmp_path / "x.pth.sha256").unlink()
    with caplog.at_level(logging.INFO):
        assert load_checkpoint(tmp_path / "x.pth")["a"] == 1
    assert "x.pth: has no checksum beside it" in caplog.text

    save_checkpoint({"a": 2}, tmp_path / "x.pth")
    assert load_checkpoint(tmp_path / "x.pth")["a"] == 2


@pytest.mark.parametrize("with_checksum", [True, False])
def test_damage_is_found_at_any_position(tmp_path: Path, with_checksum: bool) -> None:
    path = tmp_path / "x.pth"
    content = {"format": 1, "a": torch.arange(100.0), "b": "text"}
    save_checkpoint(content, path)
    if not with_checksum:
        saving.sidecar_path(path).unlink()
    whole = path.read_bytes()
    damaged = [whole[:end] for end in range(0, len(whole), 50)] + [
        whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :]
        for place in range(0, len(whole), 7)
    ]
    quiet, messages = 0, set()
    for data in damaged:
        path.write_bytes(data)
        try:
            found = load_checkpoint(path)
        except DamagedError as error:
            messages.add(str(error))
        else:  # in the metadata of the zip file
            assert same(found, content)
            quiet += 1
    expected = re.compile(re.escape(str(path)) + ": (damaged|cannot be read).*")
    assert all(map(expected.fullmatch, messages))
    assert quiet == 0 if with_checksum else quiet < len(damaged) / 2


@pytest.mark.parametrize(
    "data",
    [b"", b"\0" * 3000, b"<!DOCTYPE html><html>404</html>", b"PK\x03\x04" + b"x" * 99],
    ids=["empty", "zeros", "a page", "a false zip"],
)
def test_files_that_are_no_checkpoints(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(data)
    with pytest.raises(DamagedError, match=r"x\.pth: damaged, or not a checkpoint of yolor_d2$"):
        load_checkpoint(path)


class Hostile:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("checksum", [True, False])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_in_a_file_is_not_run(tmp_path: Path, checksum: bool) -> None:
    path, marker = tmp_path / "x.pth", tmp_path / "marker"
    hostile = {"format": 1, "model": Hostile(marker)}
    for write in (torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))):
        write(hostile, path)
        if checksum:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            saving.sidecar_path(path).write_text(f"{digest}  x.pth\n")
        problem = "is not a checkpoint" if checksum else "damaged, or not a checkpoint"
        with pytest.raises(CheckpointError, match=rf"x\.pth: {problem} of yolor_d2") as caught:
            load_checkpoint(path)
        assert isinstance(caught.value, DamagedError) != checksum
    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": {}}, r"is not a checkpoint of yolor_d2 \(it has no format version\)"),
        ([1], "is not a checkpoint of yolor_d2"),
        ({"format": "1"}, "is not a checkpoint of yolor_d2"),
        ({"format": 0}, "is not a checkpoint of yolor_d2"),
        ({"format": 2}, r"was written by a newer version of yolor_d2 \(format 2; .* up to 1\)"),
    ],
)
def test_detectron2_checkpoints(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=rf"x\.pth: {message}") as caught:
        load_checkpoint(tmp_path / "x.pth")
    assert type(caught.value) is CheckpointError  # intact, so no other checkpoint is tried


def test_older_formats_are_upgraded_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    upgrades = {1: lambda c: {**c, "two": c["iteration"]}, 2: lambda c: {**c, "three": c["two"]}}
    monkeypatch.setattr(saving, "UPGRADES", upgrades)
    monkeypatch.setattr(saving, "FORMAT", 3)
    assert load_checkpoint(OLD)["three"] == 1000


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"x\.pth: cannot be read: No such file"):
        load_checkpoint(tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="cannot be read: Is a directory"):
        load_checkpoint(tmp_path)


def test_detectron2_loads_them(tmp_path: Path) -> None:
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    save_checkpoint({"model": model.state_dict(), "iteration": 7}, tmp_path / "x.pth")
    DetectionCheckpointer(other).load(str(tmp_path / "x.pth"))
    assert torch.equal(other.weight, model.weight)


def test_file_is_a_zip_file(tmp_path: Path) -> None:
    save_checkpoint(some_content(), tmp_path / "x.pth")
    assert zipfile.is_zipfile(tmp_path / "x.pth")
