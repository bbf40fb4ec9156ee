"""Whole published networks, built from their configurations, against the published numbers."""

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from torch import Tensor

from yolor_d2.checkpoint.published import NETWORKS, convert_state_dict
from yolor_d2.checkpoint.published.configuration import configuration_of
from yolor_d2.modeling import YOLOR, deploy
from yolor_d2.modeling.heads.detection.geometry import expected_distances

from .golden import golden_arrays, golden_input, reference_state_dict

TAG = "64x96"
SIZES = {"p3": (8, 12), "p4": (4, 6), "p5": (2, 3)}
# Manifest of each network; its arrays have the same name.
MANIFESTS = {
    "yolov7-u6": "yolov7-u6",
    "v9-s": "mit-v9-s",
    "v9-c": "mit-v9-c",
    "gelan-c-pan": "gelan-c-pan",
}
RAW = tuple(f"raw_{level}" for level in SIZES)
MIT_OUTPUTS = tuple(f"{kind}_{n}" for n in SIZES for kind in ("bins", "logits", "distances"))
OUTPUTS = {
    "yolov7-u6": (*RAW, "pred"),
    "v9-s": MIT_OUTPUTS,
    "v9-c": MIT_OUTPUTS,
    "gelan-c-pan": (*RAW, "mask_coef", "proto", "semantic", "pred"),
}


def arrays(shared_dir: Path, name: str) -> dict[str, np.ndarray]:
    return golden_arrays(shared_dir, MANIFESTS[name].replace("-", "_"))


@functools.cache
def published(shared_dir: Path, name: str) -> YOLOR:
    """The network of the configuration with all golden parameters."""
    weights = convert_state_dict(reference_state_dict(shared_dir, MANIFESTS[name], TAG), name)
    cfg = configuration_of(NETWORKS[name], weights)
    cfg.MODEL.DEVICE = "cpu"
    model = build_model(cfg)
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected
    assert all(name.startswith("panoptic.") for name in missing)  # tables of the data set
    return model.eval()


@torch.no_grad()
def raw_outputs(model: YOLOR, dtype: torch.dtype) -> dict[str, Tensor]:
    """Outputs of the heads, in the published layout."""
    model.pixel_std.fill_(1)  # golden images are in 0..1
    raw = model.to(dtype).raw_outputs(golden_input(64, 96).to(dtype))
    points = raw.detection
    by_level = [height * width for height, width in SIZES.values()]
    distances = expected_distances(points.bins)
    outputs: dict[str, Tensor] = {}
    for kind, values in (
        ("bins", points.bins),
        ("logits", points.logits),
        ("distances", distances),
        ("raw", torch.cat([points.bins, points.logits], dim=-1)),
    ):
        levels = values.transpose(1, 2).split(by_level, dim=-1)
        outputs |= {
            f"{kind}_{level}": part.unflatten(-1, size)
            for (level, size), part in zip(SIZES.items(), levels, strict=True)
        }
    first, last = model.detection_head.boxes(points).transpose(1, 2).chunk(2, dim=1)
    pred = [(first + last) / 2, last - first, points.logits.sigmoid().transpose(1, 2)]
    if raw.mask is not None:
        outputs["mask_coef"] = raw.mask.coefficients.transpose(1, 2)
        outputs["proto"] = raw.mask.prototypes
        pred.append(outputs["mask_coef"])
    outputs["pred"] = torch.cat(pred, dim=1)
    if model.semantic_head is not None:
        features = model.extract(
            golden_input(64, 96).to(dtype), set(model.semantic_head.in_features)
        )
        outputs["semantic"] = model.semantic_head.class_maps(features)  # of all 173 classes
    return outputs


@pytest.mark.parametrize("name", MANIFESTS)
def test_outputs_are_the_published_ones(shared_dir: Path, name: str) -> None:
    golden = arrays(shared_dir, name)
    outputs = raw_outputs(published(shared_dir, name).float(), torch.float32)
    for output in OUTPUTS[name]:
        tolerance = 2e-2 if output == "pred" else 1e-3  # boxes are in pixels
        np.testing.assert_allclose(
            outputs[output], golden[f"{TAG}/{output}"], atol=tolerance, rtol=0, err_msg=output
        )


@pytest.mark.parametrize("name", MANIFESTS)
def test_double_precision_outputs_agree_to_nine_digits(shared_dir: Path, name: str) -> None:
    golden = arrays(shared_dir, name)
    model = published(shared_dir, name)
    for network in (model, deploy(model.double())):  # as trained, and fused
        outputs = raw_outputs(network, torch.float64)
        for output in OUTPUTS[name]:
            some = outputs[output].flatten()[golden[f"{TAG}/idx/{output}"]]
            expected = golden[f"{TAG}/val64/{output}"]
            np.testing.assert_allclose(some, expected, atol=1e-9, rtol=0, err_msg=output)


def test_vectors_before_the_tower_remain_after_fusing(shared_dir: Path) -> None:
    deployed = deploy(published(shared_dir, "yolov7-u6"))
    left = [name for name, _ in deployed.named_parameters() if "implicit" in name]
    assert len(left) == 6
    assert all("towers" in name for name in left)


def test_fused_parameters_are_the_published_number(shared_dir: Path) -> None:
    deployed = deploy(published(shared_dir, "gelan-c-pan"))
    own = sum(parameter.numel() for parameter in deployed.parameters())
    bins = 16  # the published network counts the constants of the box distributions
    assert own + bins == int(arrays(shared_dir, "gelan-c-pan")["fused_params"])
