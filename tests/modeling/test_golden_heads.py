"""The whole network, trunk and three heads, against the published one."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from yolor_d2.checkpoint.published import convert_state_dict
from yolor_d2.modeling.backbone import PAN, pan_shapes
from yolor_d2.modeling.deploy import deploy
from yolor_d2.modeling.heads import AnchorFreeHead, PrototypeMaskHead, UConvHead

from .golden import golden_arrays, golden_input, reference_state_dict

TAG = "64x96"
SIZES = {"p3": (8, 12), "p4": (4, 6), "p5": (2, 3)}
# Absolute tolerances of a float32 run; boxes are in pixels.
TOLERANCES = {f"raw_{level}": 1e-3 for level in SIZES} | {
    "mask_coef": 1e-3,
    "proto": 1e-3,
    "semantic": 1e-3,
    "pred": 2e-2,
}


@pytest.fixture(scope="module")
def published(shared_dir: Path) -> nn.ModuleDict:
    """The network at full size with all golden parameters."""
    shapes = pan_shapes()
    network = nn.ModuleDict(
        {
            "backbone": PAN(),
            "detection_head": AnchorFreeHead(input_shape=shapes, num_classes=80),
            "mask_head": PrototypeMaskHead(input_shape=shapes),
            "semantic_head": UConvHead(input_shape=shapes, in_features=["p3"], num_classes=173),
        }
    )
    network.load_state_dict(convert_state_dict(reference_state_dict(shared_dir), "yolov7-af-pan"))
    return network.eval()


@torch.no_grad()
def raw_outputs(network: nn.ModuleDict, dtype: torch.dtype) -> dict[str, Tensor]:
    """Outputs of the heads, in the published layout."""
    features = network["backbone"](golden_input(64, 96).to(dtype))
    points = network["detection_head"](features)
    masks = network["mask_head"](features)
    joined = torch.cat([points.bins, points.logits], dim=-1).transpose(1, 2)  # (1, 144, A)
    levels = joined.split([height * width for height, width in SIZES.values()], dim=-1)
    outputs = {
        f"raw_{name}": level.unflatten(-1, size)
        for (name, size), level in zip(SIZES.items(), levels, strict=True)
    }
    outputs["mask_coef"] = masks.coefficients.transpose(1, 2)
    outputs["proto"] = masks.prototypes
    outputs["semantic"] = network["semantic_head"].logits(features)
    first, last = network["detection_head"].boxes(points).transpose(1, 2).chunk(2, dim=1)
    scores = points.logits.sigmoid().transpose(1, 2)
    outputs["pred"] = torch.cat(
        [(first + last) / 2, last - first, scores, outputs["mask_coef"]], dim=1
    )  # (1, 116, A)
    return outputs


@pytest.mark.parametrize("name", TOLERANCES)
def test_outputs_are_the_published_ones(published, shared_dir, name) -> None:
    output = raw_outputs(published, torch.float32)[name]
    expected = golden_arrays(shared_dir)[f"{TAG}/{name}"]
    np.testing.assert_allclose(output, expected, atol=TOLERANCES[name], rtol=0)


def test_double_precision_outputs_agree_to_nine_digits(published, shared_dir) -> None:
    golden = golden_arrays(shared_dir)
    outputs = raw_outputs(copy.deepcopy(published).double(), torch.float64)
    assert set(outputs) == set(TOLERANCES)
    for name, output in outputs.items():
        some = output.flatten()[golden[f"{TAG}/idx/{name}"]]
        np.testing.assert_allclose(some, golden[f"{TAG}/val64/{name}"], atol=1e-9, rtol=0)


def test_folding_keeps_the_outputs(published) -> None:
    network = copy.deepcopy(published).double()
    folded = deploy(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    expected = raw_outputs(network, torch.float64)
    for name, output in raw_outputs(folded, torch.float64).items():
        torch.testing.assert_close(output, expected[name], atol=1e-10, rtol=0)
