"""The detection head: layers, boxes, losses and detections."""

import copy
import pickle

import numpy as np
import pytest
import torch
from detectron2.config import LazyCall, LazyConfig, instantiate
from detectron2.layers import ShapeSpec
from torch import Tensor

from yolor_d2.modeling.heads.detection import AnchorFreeHead, DetectionLossWeights, Suppression
from yolor_d2.modeling.heads.registry import build_detection_head
from yolor_d2.modeling.layers import ConvBlock
from yolor_d2.modeling.objects import Objects

from ...factory import THINGS, tiny_config
from ...golden import golden_arrays
from ...waiting import Counting
from .cases import (
    features_of,
    golden_case,
    head_of,
    predictions_of,
    random_objects,
    random_predictions,
)

PUBLISHED = {
    name: ShapeSpec(channels=32 * s, stride=s)
    for name, s in zip(("p3", "p4", "p5"), (8, 16, 32), strict=True)
}


def all_losses(head: AnchorFreeHead, predictions, objects: Objects) -> dict[str, Tensor]:
    return head.losses(predictions, objects, head.assign(predictions, objects))


def test_published_widths_and_names() -> None:
    with torch.device("meta"):
        head = AnchorFreeHead(input_shape=PUBLISHED, num_classes=80, implicit=False)
    shapes = {name: tuple(each.shape) for name, each in head.state_dict().items()}
    assert shapes["box_towers.p4.0.conv.weight"] == (64, 512, 3, 3)
    assert shapes["box_towers.p4.1.conv.weight"] == (64, 64, 3, 3)
    assert shapes["box_predictors.p5.weight"] == (64, 64, 1, 1)
    assert shapes["class_towers.p5.0.conv.weight"] == (256, 1024, 3, 3)
    assert shapes["class_towers.p3.1.norm.running_var"] == (256,)
    assert shapes["class_predictors.p3.bias"] == (80,)
    assert len(shapes) == 3 * 2 * (2 * 6 + 2)


@pytest.mark.parametrize(
    ("channels", "num_classes", "reg_max", "widths"),
    [(256, 80, 16, (64, 256)), (64, 80, 16, (64, 128)), (8, 3, 4, (16, 8)), (8, 5, 16, (64, 10))],
)
def test_widths_follow_from_the_finest_map(channels, num_classes, reg_max, widths) -> None:
    head = head_of(num_classes, channels=channels, reg_max=reg_max)
    towers = (head.box_towers["p5"], head.class_towers["p5"])
    assert tuple(tower[1].conv.out_channels for tower in towers) == widths


@pytest.mark.parametrize("implicit", [True, False])
def test_initial_biases_are_the_published_ones(implicit) -> None:
    head = head_of(80, implicit=implicit)
    expected = {"p3": -11.5366, "p4": -10.1503, "p5": -8.7641}
    for level, bias in expected.items():
        assert head.class_predictors[level].bias.tolist() == pytest.approx([bias] * 80, abs=1e-4)
        assert head.box_predictors[level].bias.tolist() == [1] * 64
        assert hasattr(head.class_predictors[level], "implicit_add")
        assert (head.class_predictors[level].implicit_add is not None) == implicit


def test_config_and_constructor_build_the_same_head() -> None:
    cfg = tiny_config(
        ("detection",),
        *("MODEL.DETECTION_HEAD.ASSIGN.TOPK", 7, "MODEL.DETECTION_HEAD.LOSS_WEIGHT.DFL", 3.0),
        *("MODEL.DETECTION_HEAD.TEST.MULTI_LABEL", False, "TEST.DETECTIONS_PER_IMAGE", 5),
    )
    shapes = {name: ShapeSpec(channels=8, stride=spec.stride) for name, spec in PUBLISHED.items()}

    built = build_detection_head(cfg, shapes)
    direct = AnchorFreeHead(input_shape=shapes, num_classes=THINGS)

    assert isinstance(built, AnchorFreeHead)
    assert [(n, p.shape) for n, p in built.named_parameters()] == [
        (n, p.shape) for n, p in direct.named_parameters()
    ]
    assert built.assigner.topk == 7
    assert built.loss_weights == DetectionLossWeights(cls=0.5, box=7.5, dfl=3.0)
    assert direct.loss_weights == DetectionLossWeights(cls=0.5, box=7.5, dfl=1.5)
    assert built.suppression == Suppression(multi_label=False, detections_per_image=5)
    assert direct.suppression == Suppression()
    assert built.in_features == ["p3", "p4", "p5"]


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"num_classes": 0}, "NUM_CLASSES"),
        ({"reg_max": 1}, "REG_MAX"),
        ({"box_groups": 3}, r"BOX_GROUPS is 3; it must divide 4 \* REG_MAX"),
        ({"in_features": ["p3", "p9"]}, "IN_FEATURES has p9; it may have p3, p4, p5"),
        ({"in_features": []}, "IN_FEATURES is empty"),
        ({"in_features": ["p4", "p3"]}, "IN_FEATURES must be ordered from fine to coarse"),
        ({"in_features": ["p3", "p3"]}, "IN_FEATURES must be ordered from fine to coarse"),
    ],
)
def test_errors_name_the_key(settings, key) -> None:
    with pytest.raises(ValueError, match=rf"MODEL\.DETECTION_HEAD\.{key}"):
        AnchorFreeHead(**{"input_shape": PUBLISHED, "num_classes": 80} | settings)


def test_a_negative_loss_weight_is_refused() -> None:
    with pytest.raises(ValueError, match=r"MODEL\.DETECTION_HEAD\.LOSS_WEIGHT\.DFL is -1"):
        head_of(loss_weights=DetectionLossWeights(dfl=-1))


def test_lazy_config_builds_the_groups() -> None:
    node = LazyCall(AnchorFreeHead)(
        input_shape=PUBLISHED,
        num_classes=2,
        loss_weights=LazyCall(DetectionLossWeights)(box=5.0),
        suppression=LazyCall(Suppression)(),
    )
    head = instantiate(LazyConfig.apply_overrides(node, ["suppression.nms_thresh=0.4"]))
    assert head.loss_weights == DetectionLossWeights(box=5.0)
    assert head.suppression == Suppression(nms_thresh=0.4)


def test_points_are_in_the_order_of_maps_and_rows() -> None:
    head, features = head_of().eval(), features_of()
    predictions = head(features)

    coarse = head.class_predictors["p4"](head.class_towers["p4"](features["p4"]))
    index = 8 * 12 + 2 * 6 + 5  # row 2, column 5 of the second map
    assert torch.equal(predictions.logits[1, index], coarse[1, :, 2, 5])
    assert predictions.points[index].tolist() == [88, 40]
    assert predictions.strides[index] == 16
    assert predictions.logits.shape == (2, 126, 3)
    assert predictions.bins.shape == (2, 126, 64)


def test_a_single_map() -> None:
    head = head_of(in_features=["p4"])
    predictions = head(features_of())
    assert predictions.logits.shape == (2, 24, 3)
    assert len(head.inference(predictions)) == 2


def test_boxes_by_hand() -> None:
    bins = torch.full((1, 21, 4, 16), -1e4)
    bins[..., 0] = 0
    bins[0, 16, range(4), [0, 1, 2, 15]] = 2e4  # the first point of stride 16
    predictions = predictions_of(torch.zeros(1, 21, 3), bins.flatten(2), (32, 32))
    boxes = head_of().boxes(predictions)
    assert boxes[0, 16].tolist() == [8, 8 - 16, 8 + 32, 8 + 240]
    assert boxes[0, 0].tolist() == [4, 4, 4, 4]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_points_and_losses_are_never_in_half_precision(dtype) -> None:
    head = head_of(implicit=False)
    with torch.autocast("cpu", dtype=dtype):
        predictions = head(features_of())
        assert predictions.logits.dtype == predictions.bins.dtype == dtype
        losses = all_losses(head, predictions, random_objects([3, 5]))
        found = head.inference(predictions)[0]
    assert predictions.points.dtype == torch.float32
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters())
    assert found.scores.dtype == found.pred_boxes.tensor.dtype == torch.float32


def test_compiles_in_one_graph() -> None:
    head, features = head_of().eval(), features_of()
    with torch.no_grad():
        compiled = torch.compile(head, fullgraph=True, backend="eager")(features)
        for one, other in zip(compiled[:4], head(features)[:4], strict=True):
            assert torch.equal(one, other)


def test_channels_last_copies_pickles_and_folds() -> None:
    head, features = head_of(), features_of()
    head(features)  # updates the running statistics
    expected = head.eval()(features)
    folded = copy.deepcopy(head)
    for module in list(folded.modules()):
        if hasattr(module, "fuse"):
            module.fuse()
    last = copy.deepcopy(head).to(memory_format=torch.channels_last)
    for twin in (folded, last, pickle.loads(pickle.dumps(head))):
        for one, other in zip(twin(features)[:4], expected[:4], strict=True):
            assert torch.allclose(one, other, atol=1e-5)
    assert not any(m.norm.state_dict() for m in folded.modules() if isinstance(m, ConvBlock))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", ["A_perobject", "C_crowded", "E_clamped"])
def test_published_losses_and_gradients(shared_dir, case, dtype) -> None:
    golden = golden_arrays(shared_dir, "losses")
    maps, predictions, objects = golden_case(shared_dir, case, dtype)

    losses = all_losses(head_of(80), predictions, objects)
    (len(predictions.logits) * sum(losses.values())).backward()

    items, rtol = ("items64", 1e-9) if dtype == torch.float64 else ("items", 3e-6)
    box, _, cls, dfl, _, _ = golden[f"{case}/{items}"]
    found = [losses[name].item() for name in ("loss_box", "loss_cls", "loss_dfl")]
    assert found == pytest.approx([box, cls, dfl], rel=rtol)
    for level, raw in zip(("p3", "p4", "p5"), maps, strict=True):
        index = golden[f"{case}/idx/grad_raw_{level}"]
        _, deviation, largest = golden[f"{case}/stats/grad_raw_{level}"]
        np.testing.assert_allclose(
            raw.grad.flatten()[index], golden[f"{case}/val/grad_raw_{level}"], atol=1e-5 * largest
        )
        assert raw.grad.abs().max().item() == pytest.approx(largest, rel=1e-5)
        assert raw.grad.std(correction=0).item() == pytest.approx(deviation, rel=1e-5)


def test_loss_of_an_empty_batch_is_finite_unlike_the_published_one(shared_dir) -> None:
    _, predictions, objects = golden_case(shared_dir, "D_empty", torch.float64)
    losses = all_losses(head_of(80), predictions, objects)
    expected = 0.5 * float(golden_arrays(shared_dir, "losses")["D_empty/cls_bce_sum"])
    assert losses["loss_cls"].item() == pytest.approx(expected, rel=1e-6)
    assert losses["loss_box"] == losses["loss_dfl"] == 0


@pytest.mark.parametrize("counts", [[0, 0], [3, 0], [5, 2], [40, 1]], ids=str)
@pytest.mark.parametrize("known", [[True, True], [True, False], [False, False]], ids=str)
def test_every_parameter_gets_a_finite_gradient(counts, known) -> None:
    head = head_of()
    counts = [count * is_known for count, is_known in zip(counts, known, strict=True)]
    objects = random_objects(counts)._replace(known=torch.tensor(known))
    losses = all_losses(head, head(features_of()), objects)
    assert set(losses) == {"loss_cls", "loss_box", "loss_dfl"}
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())
    assert any(p.grad.any() for p in head.parameters()) == any(known)


def test_an_image_with_unknown_objects_contributes_nothing() -> None:
    head, predictions = head_of(), random_predictions(images=2)
    objects = random_objects([4, 0])._replace(known=torch.tensor([True, False]))

    losses = all_losses(head, predictions, objects)
    gradients = torch.autograd.grad(sum(losses.values()), predictions[:2])

    assert not any(gradient[1].any() for gradient in gradients)
    assert all(gradient[0].any() for gradient in gradients)
    alone = predictions._replace(logits=predictions.logits[:1], bins=predictions.bins[:1])
    expected = all_losses(head, alone, random_objects([4]))
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(
        {name: loss.item() for name, loss in expected.items()}
    )


def test_loss_of_a_batch_is_the_weighted_mean_over_its_images() -> None:
    """All terms are sums over images, divided by the sum of all scores, or by 1 if that is less."""
    head, predictions, objects = head_of(), random_predictions(images=2), random_objects([4, 7])
    together = all_losses(head, predictions, objects)
    scores = head.assign(predictions, objects).score.sum().clamp(min=1)
    parts = []
    for image in range(2):
        mine = objects.image == image
        alone = predictions._replace(
            logits=predictions.logits[image : image + 1], bins=predictions.bins[image : image + 1]
        )
        one = Objects(
            objects.boxes[mine],
            objects.classes[mine],
            torch.zeros(int(mine.sum()), dtype=torch.int64),
            torch.ones(1, dtype=torch.bool),
        )
        score = head.assign(alone, one).score.sum().clamp(min=1)
        parts.append({n: loss * score for n, loss in all_losses(head, alone, one).items()})
    for name, loss in together.items():
        assert loss.item() == pytest.approx((sum(part[name] for part in parts) / scores).item())


def test_losses_are_not_divided_by_a_sum_of_scores_below_1() -> None:
    head, predictions = head_of(), random_predictions(images=1)
    predictions = predictions._replace(logits=predictions.logits.detach() - 100)
    objects = random_objects([1])
    assignment = head.assign(predictions, objects)
    assignment = assignment._replace(score=torch.full_like(assignment.score, 1e-3))
    tenfold = assignment._replace(score=assignment.score * 10)
    small, larger = (
        head.losses(predictions, objects, each)["loss_box"] for each in (assignment, tenfold)
    )
    assert larger.item() == pytest.approx(10 * small.item())


def test_only_the_counts_are_synchronized() -> None:
    head, features, objects = head_of(), features_of(), random_objects([3, 8])
    with Counting() as counting:
        sum(all_losses(head, head(features), objects).values()).backward()
    assert counting.waits == {"tolist": 1}


def test_minimizing_the_losses_finds_the_objects() -> None:
    """The predictions themselves are optimized for three objects."""
    head, objects = head_of(), random_objects([3])
    objects = objects._replace(
        boxes=torch.tensor([[3.0, 5, 33, 25], [40, 10, 90, 60], [5, 30, 30, 63]]),
        classes=torch.tensor([0, 1, 2]),
    )
    predictions = random_predictions(images=1)
    optimizer = torch.optim.Adam(predictions[:2], lr=0.2)
    for _ in range(150):
        optimizer.zero_grad()
        sum(all_losses(head, predictions, objects).values()).backward()
        optimizer.step()
    head.suppression = Suppression(score_thresh=0.5)
    found = head.inference(predictions)[0]
    order = found.pred_classes.argsort()
    assert found.pred_classes[order].tolist() == [0, 1, 2]
    assert (found.pred_boxes.tensor[order] - objects.boxes).abs().max() < 1.5
