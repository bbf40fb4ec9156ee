"""The detection head without suppression."""

import pytest
import torch
from detectron2.modeling import build_model

from yolor_d2.modeling.deploy import deploy
from yolor_d2.modeling.heads.detection import AnchorFreeHead, OneToOneHead, Suppression
from yolor_d2.modeling.heads.registry import build_detection_head

from ...factory import THINGS, random_batch, tiny_config, tiny_model
from .cases import features_of, head_of, random_objects, shapes_of

ONE_TO_ONE = ("MODEL.DETECTION_HEAD.NAME", "OneToOneHead")


def one_to_one_head(**settings) -> OneToOneHead:
    torch.manual_seed(0)
    return OneToOneHead(input_shape=shapes_of(), num_classes=3, **settings)


def test_both_sets_start_equal() -> None:
    head = one_to_one_head()
    second = head.one_to_one.state_dict()
    assert len(second) == len(head_of().state_dict())
    assert all(torch.equal(head.state_dict()[name], value) for name, value in second.items())


def test_second_set_trains_on_one_point_per_object_and_not_the_maps() -> None:
    head = one_to_one_head()
    features = {name: value.requires_grad_() for name, value in features_of().items()}
    objects = random_objects([4, 2])
    predictions = head(features)
    second = predictions.one_to_one

    assignment = head.one_to_one.assign(second, objects)
    assert len(assignment.object) == len(assignment.object.unique())
    assert len(head.assign(predictions, objects).object) > len(assignment.object)

    losses = head.losses(predictions, objects, head.assign(predictions, objects))
    assert list(losses) == [
        *("loss_cls", "loss_box", "loss_dfl"),
        *("loss_cls_one_to_one", "loss_box_one_to_one", "loss_dfl_one_to_one"),
    ]
    own = sum(value for name, value in losses.items() if name.endswith("_one_to_one"))
    maps, parameters = list(features.values()), list(head.one_to_one.parameters())
    gradients = torch.autograd.grad(own, [*maps, *parameters], allow_unused=True, retain_graph=True)
    assert all(gradient is None for gradient in gradients[: len(maps)])
    assert all(gradient is not None for gradient in gradients[len(maps) :])
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


@pytest.mark.parametrize("second", [True, False])
def test_inference_uses_one_set(second: bool) -> None:
    head = one_to_one_head(predicts_one_to_one=second, suppression=Suppression(nms_thresh=0.5))
    torch.nn.init.normal_(head.one_to_one.class_predictors["p3"].bias)
    head.eval()
    predictions = head(features_of())
    assert predictions.one_to_one is None
    plain = head_of(suppression=head.suppression).eval()
    plain.load_state_dict(
        head.one_to_one.state_dict()
        if second
        else {name: v for name, v in head.state_dict().items() if "one_to_one" not in name}
    )
    expected = plain(features_of())
    assert torch.equal(predictions.logits, expected.logits)
    assert torch.equal(predictions.bins, expected.bins)
    assert head.suppression.nms_thresh == (1.0 if second else 0.5)


def test_without_suppression_the_best_predictions_are_kept_as_they_are() -> None:
    scores = torch.tensor([[0.9, 0.2], [0.8, 0.0005], [0.3, 0.85]])
    boxes = torch.tensor([[0.0, 0.0, 8.0, 8.0]]).expand(3, 4)
    keep_all = Suppression(nms_thresh=1.0, detections_per_image=4)
    point, classes = keep_all.select(scores, boxes, margin=0)
    assert point.tolist() == [0, 2, 1, 2]
    assert classes.tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize("second", [True, False])
def test_deployed_network_has_one_set(second: bool) -> None:
    model = tiny_model(
        ("detection",), *ONE_TO_ONE, "MODEL.DETECTION_HEAD.TEST.ONE_TO_ONE", second
    ).eval()
    images = torch.rand(1, 3, 64, 96) * 255
    deployed = deploy(model)
    before, after = (each.raw_outputs(images).detection for each in (model, deployed))
    assert torch.allclose(before.logits, after.logits, atol=1e-4)
    names = {name.partition(".")[0] for name in deployed.detection_head.state_dict()}
    assert ("one_to_one" in names) == second
    assert ("class_towers" in names) != second


def test_weights_of_one_set_are_copied_to_both() -> None:
    plain, head = head_of(), one_to_one_head()
    head.load_state_dict(plain.state_dict())
    for name, value in plain.state_dict().items():
        assert torch.equal(head.state_dict()[name], value)
        assert torch.equal(head.state_dict()[f"one_to_one.{name}"], value)


def test_losses_in_evaluation_mode() -> None:
    model = tiny_model(("detection", "mask"), *ONE_TO_ONE).eval()
    losses = model.training_losses(random_batch())
    assert "loss_cls_one_to_one" in losses
    assert not model.detection_head.training
    assert "loss_mask" in losses


def test_built_from_the_configuration() -> None:
    cfg = tiny_config(("detection",), *ONE_TO_ONE, "MODEL.DETECTION_HEAD.BOX_GROUPS", 4)
    cfg.MODEL.DETECTION_HEAD.DEPTHWISE_CLASSES = True
    cfg.MODEL.DETECTION_HEAD.NUM_CLASSES = THINGS
    head = build_detection_head(cfg, shapes_of())
    assert isinstance(head, OneToOneHead)
    assert isinstance(head.one_to_one, AnchorFreeHead)
    for each in (head, head.one_to_one):
        assert each.box_predictors["p3"].groups == each.box_towers["p3"][1].conv.groups == 4
        tower = each.class_towers["p4"]
        assert [block.conv.groups for block in tower] == [
            *(tower[0].conv.in_channels, 1, tower[2].conv.in_channels, 1)
        ]
    assert build_model(cfg).detection_head.predicts_one_to_one
