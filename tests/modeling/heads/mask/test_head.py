"""The mask head: layers, order of points, loss and inference."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.layers import ShapeSpec
from torch import Tensor

from yolor_d2.letterbox import Content
from yolor_d2.modeling.deploy import deploy
from yolor_d2.modeling.heads.mask.head import MaskPredictions, PrototypeMaskHead
from yolor_d2.modeling.heads.registry import build_mask_head
from yolor_d2.modeling.objects import Assignment, GroundTruthMasks, Objects
from yolor_d2.structures import RLEMasks

from ...factory import default_config, random_maps
from ...golden import manifest

SHAPES = {
    "p3": ShapeSpec(channels=16, stride=8),
    "p4": ShapeSpec(channels=24, stride=16),
    "p5": ShapeSpec(channels=32, stride=32),
}
HEIGHT, WIDTH = 64, 96
POINTS = 8 * 12 + 4 * 6 + 2 * 3


def head(**arguments: Any) -> PrototypeMaskHead:
    torch.manual_seed(0)
    return PrototypeMaskHead(input_shape=SHAPES, **{"num_prototypes": 8, **arguments})


def features() -> dict[str, Tensor]:
    return random_maps(SHAPES, size=(HEIGHT, WIDTH), seed=1)


def test_published_parameters(shared_dir: Path) -> None:
    """Shapes of branch cv4 and of the prototype net of the published head."""
    channels = {"p3": (256, 8), "p4": (512, 16), "p5": (1024, 32)}
    shapes = {name: ShapeSpec(channels=c, stride=s) for name, (c, s) in channels.items()}
    own = build_mask_head(default_config("MODEL.YOLOR.IMPLICIT", False), shapes).state_dict()
    published = manifest(shared_dir, "yolov7-af-seg")
    head_of_all = list(published)[-1].split(".")[1]  # "model.<index>." of the last layer
    parts = tuple(f"model.{head_of_all}.{part}." for part in ("cv4", "proto"))
    theirs = [entry["shape"] for name, entry in published.items() if name.startswith(parts)]
    assert len(theirs) > 40
    assert sorted(list(value.shape) for value in own.values()) == sorted(theirs)
    prefixes = {name.split(".")[0] for name in own}
    assert prefixes == {"coefficient_towers", "coefficient_predictors", "prototype_net"}
    for name in (
        "coefficient_towers.p3.1.conv.weight",
        "coefficient_predictors.p5.bias",
        "prototype_net.enter.conv.weight",
        "prototype_net.refine.norm.bias",
        "prototype_net.project.conv.weight",
    ):
        assert name in own


def test_points_are_in_the_order_of_maps_and_rows() -> None:
    mask_head, maps = head().eval(), features()
    coefficients, prototypes = mask_head(maps)
    assert coefficients.shape == (2, POINTS, 8)
    assert prototypes.shape == (2, 8, HEIGHT // 4, WIDTH // 4)
    tower, predictor = mask_head.coefficient_towers["p4"], mask_head.coefficient_predictors["p4"]
    row_3_column_5 = predictor(tower(maps["p4"]))[:, :, 3, 5]
    torch.testing.assert_close(coefficients[:, 8 * 12 + 3 * 6 + 5], row_3_column_5)
    assert mask_head.in_features == ["p3", "p4", "p5"]


def test_prototypes_from_another_map() -> None:
    mask_head = head(in_features=["p4", "p5"], proto_feature="p3").eval()
    assert mask_head.in_features == ["p3", "p4", "p5"]
    assert mask_head.stride == 4
    coarse = head(in_features=["p3"], proto_feature="p4").eval()
    assert coarse.in_features == ["p3", "p4"]
    assert coarse.stride == 8
    coefficients, prototypes = coarse(features())
    assert coefficients.shape == (2, 8 * 12, 8)
    assert prototypes.shape == (2, 8, HEIGHT // 8, WIDTH // 8)


@pytest.mark.parametrize("counts", [[2, 1], [0, 0]])
def test_every_parameter_gets_a_gradient(counts: list[int]) -> None:
    mask_head = head()
    image = torch.arange(2).repeat_interleave(torch.tensor(counts))
    number = len(image)
    objects = Objects(
        boxes=torch.tensor([[8.0, 8, 60, 50]]).repeat(number, 1),
        classes=torch.zeros(number, dtype=torch.int64),
        image=image,
        known=torch.ones(2, dtype=torch.bool),
    )
    points = torch.tensor([3, 100, 125])[:number]
    assignment = Assignment(image, points, torch.arange(number), torch.ones(number), counts)
    masks = torch.ones(number, HEIGHT // 4, WIDTH // 4, dtype=torch.bool)
    truth = GroundTruthMasks(masks, torch.ones(2, dtype=torch.bool))
    losses = mask_head.losses(mask_head(features()), objects, assignment, truth)
    assert list(losses) == ["loss_mask"]
    losses["loss_mask"].backward()
    assert all(parameter.grad is not None for parameter in mask_head.parameters())
    assert mask_head.prototype_net.enter.conv.weight.grad.any() == (number > 0)
    heavier = head(loss_weight=5.0)
    twice = heavier.losses(heavier(features()), objects, assignment, truth)["loss_mask"]
    torch.testing.assert_close(twice, 2 * losses["loss_mask"])


@pytest.mark.parametrize("resolution", ["input", "fast"])
def test_inference_takes_the_coefficients_of_the_points(resolution: str) -> None:
    """Point 7 of the second image predicts the left half, point 20 the right half."""
    prototypes = torch.zeros(2, 8, HEIGHT // 4, WIDTH // 4)
    prototypes[1, 0, :, : WIDTH // 8] = 1
    prototypes[1, 0, :, WIDTH // 8 :] = -1
    coefficients = torch.zeros(2, POINTS, 8)
    coefficients[1, 7, 0], coefficients[1, 20, 0] = 9, -9
    arguments = {
        "image": 1,
        "boxes": torch.tensor([[0.0, 0, WIDTH, HEIGHT]] * 2),
        "point_index": torch.tensor([20, 7]),
        "content": Content(0, 0, WIDTH, HEIGHT),
        "height": 2 * HEIGHT,
        "width": 2 * WIDTH,
    }
    predictions = MaskPredictions(coefficients, prototypes)
    masks = head(resolution=resolution).inference(predictions, **arguments)
    expected = torch.zeros(2, 2 * HEIGHT, 2 * WIDTH, dtype=torch.bool)
    expected[0, :, WIDTH:] = expected[1, :, :WIDTH] = True
    assert torch.equal(masks, expected)
    runs = head(resolution=resolution, mask_format="rle").inference(predictions, **arguments)
    assert isinstance(runs, RLEMasks)
    assert torch.equal(torch.stack(list(runs)), expected)


def test_folding_keeps_the_predictions() -> None:
    mask_head = head().eval()
    with torch.no_grad():
        for module in mask_head.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
        folded = deploy(mask_head)
        for a, b in zip(mask_head(features()), folded(features()), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert not any("norm" in name or "implicit" in name for name in folded.state_dict())


def test_copied_pickled_compiled_and_channels_last_heads_predict_the_same() -> None:
    mask_head, maps = head().eval(), features()
    with torch.no_grad():
        expected = mask_head(maps)
        others = [copy.deepcopy(mask_head), pickle.loads(pickle.dumps(mask_head))]
        others.append(torch.compile(mask_head, backend="eager", fullgraph=True))
        others.append(copy.deepcopy(mask_head).to(memory_format=torch.channels_last))
        for other in others:
            for a, b in zip(other(maps), expected, strict=True):
                torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("NUM_PROTOTYPES", 0),
        ("PROTO_FEATURE", "p2"),
        ("RESOLUTION", "full"),
        ("MASK_FORMAT", "polygon"),
    ],
)
def test_errors_name_the_key(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"MODEL\.MASK_HEAD\.{key}"):
        build_mask_head(default_config(f"MODEL.MASK_HEAD.{key}", value), SHAPES)
