"""detectron2's own architectures with our backbone, from configurations in configs/reuse."""

from typing import Any

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import nn

from yolor_d2.model_zoo import config_folder, get_config
from yolor_d2.modeling.backbone import GELAN, GELANPAN, PAN, YOLORELAN

SIZE = (64, 96)
BACKBONES = pytest.mark.parametrize("backbone", ["yolor_elan", "gelan"])


def from_yaml(name: str, *overrides: Any) -> nn.Module:
    """A narrow network from a YAML file."""
    cfg = get_config(f"reuse/{name}.yaml")
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.YOLOR_ELAN.WIDTH = cfg.MODEL.GELAN.WIDTH = 0.125
    cfg.merge_from_list(list(overrides))
    torch.manual_seed(0)
    return build_model(cfg)


def fcos(backbone: str) -> nn.Module:
    """A narrow network from a LazyConfig."""
    lazy = LazyConfig.load(str(config_folder() / "reuse" / f"fcos_{backbone}.py"))
    lazy.model.backbone.bottom_up.width = 0.125
    torch.manual_seed(0)
    return instantiate(lazy.model)


def objects() -> Instances:
    """Three objects of different sizes, with masks that fill their boxes."""
    boxes = torch.tensor([[4.0, 8.0, 20.0, 24.0], [30.0, 10.0, 70.0, 50.0], [0.0, 0.0, 96.0, 64.0]])
    masks = torch.zeros(3, *SIZE, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y0:y1, x0:x1] = True
    return Instances(
        SIZE,
        gt_boxes=Boxes(boxes),
        gt_classes=torch.tensor([1, 5, 79]),
        gt_masks=BitMasks(masks),
    )


def samples() -> list[dict[str, Any]]:
    rng = torch.Generator().manual_seed(0)
    return [
        {
            "image": torch.randint(256, (3, *SIZE), generator=rng, dtype=torch.uint8),
            "instances": objects(),
            "sem_seg": torch.randint(54, SIZE, generator=rng),
            "height": 2 * SIZE[0],
            "width": 2 * SIZE[1],
        }
        for _ in range(2)
    ]


def train_one_step(model: nn.Module) -> set[str]:
    """Names of the losses; checks that every parameter of our backbone gets a gradient."""
    model.train()
    backbone = model.backbone
    ours = backbone if isinstance(backbone, PAN | GELANPAN) else backbone.bottom_up
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with EventStorage():
        losses = model(samples())
    sum(losses.values()).backward()
    optimizer.step()
    assert all(parameter.grad is not None for parameter in backbone.parameters())
    for name, parameter in ours.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name
    assert all(loss.isfinite() for loss in losses.values())
    return set(losses)


@torch.no_grad()
def predict(model: nn.Module) -> list[dict[str, Any]]:
    model.eval()
    results = model(samples())
    assert len(results) == 2
    return results


def assert_boxes(results: list[dict[str, Any]], classes: int) -> None:
    for result in results:
        instances = result["instances"]
        assert isinstance(instances, Instances)
        assert instances.image_size == (2 * SIZE[0], 2 * SIZE[1])
        assert instances.pred_boxes.tensor.shape == (len(instances), 4)
        assert instances.scores.shape == (len(instances),)
        assert not len(instances) or int(instances.pred_classes.max()) < classes


@BACKBONES
def test_retinanet(backbone: str) -> None:
    model = from_yaml(f"retinanet_{backbone}_fpn", "MODEL.RETINANET.SCORE_THRESH_TEST", 0.0)

    assert train_one_step(model) == {"loss_cls", "loss_box_reg"}
    results = predict(model)
    assert_boxes(results, classes=80)
    assert len(results[0]["instances"]) > 0
    assert list(model.backbone.bottom_up.output_shape()) == ["c3", "c4", "c5"]


@BACKBONES
def test_mask_rcnn(backbone: str) -> None:
    model = from_yaml(f"mask_rcnn_{backbone}_fpn", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0)

    assert {"loss_mask", "loss_rpn_cls", "loss_box_reg"} <= train_one_step(model)
    results = predict(model)
    assert_boxes(results, classes=80)
    instances = results[0]["instances"]
    assert instances.pred_masks.shape == (len(instances), 2 * SIZE[0], 2 * SIZE[1])
    assert len(instances) > 0


@BACKBONES
def test_fcos_from_a_lazy_configuration(backbone: str) -> None:
    model = fcos(backbone)

    assert isinstance(model.backbone.bottom_up, YOLORELAN if backbone == "yolor_elan" else GELAN)
    assert train_one_step(model) == {"loss_fcos_cls", "loss_fcos_loc", "loss_fcos_ctr"}
    model.test_score_thresh = 0.0
    results = predict(model)
    assert_boxes(results, classes=80)
    assert len(results[0]["instances"]) > 0


@BACKBONES
@pytest.mark.parametrize("head", ["UConvHead", "SemSegFPNHead"])
def test_semantic_segmentor(backbone: str, head: str) -> None:
    model = from_yaml(f"semantic_segmentor_{backbone}_pan", "MODEL.SEM_SEG_HEAD.NAME", head)

    train_one_step(model)
    for result in predict(model):
        assert result["sem_seg"].shape == (54, 2 * SIZE[0], 2 * SIZE[1])
