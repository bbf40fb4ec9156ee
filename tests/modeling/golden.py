"""Parameters and inputs of the golden runs, from their recipe."""

import functools
import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor


def golden_input(height: int, width: int) -> Tensor:
    """The input image of the golden runs."""
    image = np.random.RandomState(0).rand(1, 3, height, width)
    return torch.from_numpy(image.astype(np.float32))  # (1, 3, H, W)


@functools.cache
def golden_arrays(shared_dir: Path, name: str = "yolov7_af_pan") -> dict[str, np.ndarray]:
    """Arrays of one of the golden .npz files."""
    with np.load(shared_dir / "golden" / f"{name}.npz") as file:
        return {key: file[key] for key in file.files}


@functools.cache
def manifest(shared_dir: Path, model: str) -> dict[str, dict[str, Any]]:
    """Shape, dtype and kind of the entries of a published model's state dict, by name."""
    return json.loads((shared_dir / "golden" / "manifests" / f"{model}.json").read_text())


def reference_state_dict(
    shared_dir: Path, model: str = "yolov7-af-pan", tag: str = "64x96"
) -> dict[str, Tensor]:
    """State dict of the golden runs, with the published names; tensors are shared, do not modify.

    Args:
        shared_dir: the fixture of that name.
        model: name of a manifest. Without a calibration of its own, that of yolov7-af-pan is used,
            which contains the other two.
        tag: size "HxW" of the input that the running statistics were calibrated with.
    """
    return dict(_reference_state_dict(shared_dir, model, tag))


@functools.cache
def _reference_state_dict(shared_dir: Path, model: str, tag: str) -> dict[str, Tensor]:
    calibration = shared_dir / "golden" / f"calibration_{model.replace('-', '_')}.json"
    if not calibration.exists():
        calibration = calibration.with_name("calibration_yolov7_af_pan.json")
    scales = json.loads(calibration.read_text())[tag]
    return {
        key: _entry(key, entry["shape"], scales.get(key.rpartition(".")[0]))
        for key, entry in manifest(shared_dir, model).items()
    }


def _entry(key: str, shape: list[int], scale: float | None) -> Tensor:
    """One entry; `scale` is the calibration of its batch norm."""
    if key.endswith("num_batches_tracked"):
        return torch.zeros((), dtype=torch.int64)
    if "dfl" in key or "anc2vec" in key:
        return torch.arange(16.0).view(shape)
    noise = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape)
    name = key.rpartition(".")[2]
    if name == "implicit":  # ia is added, im multiplies
        values = 0.1 * noise + (".im" in key)
    elif name == "running_mean":
        values = 0.1 * noise * math.sqrt(scale)
    elif name == "running_var":
        values = scale * (1 + 0.1 * np.abs(noise))
    elif name == "weight" and len(shape) >= 2:
        values = noise * math.sqrt(2 / math.prod(shape[1:]))
    elif name == "weight":
        values = 1 + 0.1 * noise
    else:
        values = 0.1 * noise
    return torch.from_numpy(np.asarray(values, np.float32))
