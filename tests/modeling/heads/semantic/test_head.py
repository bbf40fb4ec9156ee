"""Semantic heads: parameters, interface of detectron2, losses and predictions."""

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone, SemanticSegmentor, build_sem_seg_head
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead
from torch import Tensor, nn

from yolor_d2.modeling.deploy import deploy
from yolor_d2.modeling.heads.semantic.head import (
    MultiScaleSemanticHead,
    PlainSemanticHead,
    SemanticHead,
    UConvHead,
)

from ...factory import count_parameters, default_config, random_maps

PUBLISHED = {
    "p3": ShapeSpec(channels=256, stride=8),
    "p4": ShapeSpec(channels=512, stride=16),
    "p5": ShapeSpec(channels=1024, stride=32),
}
SMALL = {
    "p3": ShapeSpec(channels=8, stride=8),
    "p4": ShapeSpec(channels=12, stride=16),
    "p5": ShapeSpec(channels=16, stride=32),
}
LEVELS = {UConvHead: ["p3"], PlainSemanticHead: ["p3"], MultiScaleSemanticHead: [*SMALL]}
HEADS = list(LEVELS)
CLASSES = 7


def make_head(kind: type[SemanticHead], num_classes: int = CLASSES, **options: object) -> nn.Module:
    torch.manual_seed(0)
    return kind(
        input_shape=SMALL, in_features=LEVELS[kind], num_classes=num_classes, **options
    ).train()


def random_features(height: int = 64, width: int = 96, batch: int = 2) -> dict[str, Tensor]:
    return random_maps(SMALL, images=batch, size=(height, width))


def random_labels(height: int = 64, width: int = 96, classes: int = CLASSES) -> Tensor:
    labels = torch.randint(
        0, classes, (2, height, width), generator=torch.Generator().manual_seed(1)
    )
    labels[:, :8] = 255
    return labels


class StubBackbone(Backbone):
    """Computes each of the three maps with one convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.ModuleDict(
            {n: nn.Conv2d(3, s.channels, s.stride, s.stride) for n, s in SMALL.items()}
        )

    @property
    def size_divisibility(self) -> int:
        return 32

    def output_shape(self) -> dict[str, ShapeSpec]:
        return SMALL

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {name: conv(x) for name, conv in self.maps.items()}


def test_numbers_of_parameters() -> None:
    def build(kind: type[SemanticHead], *, implicit: bool) -> nn.Module:
        levels = LEVELS[kind]
        return kind(input_shape=PUBLISHED, in_features=levels, num_classes=173, implicit=implicit)

    assert count_parameters(build(UConvHead, implicit=False)) == 158_829
    assert count_parameters(build(UConvHead, implicit=True)) == 158_829 + 237
    assert count_parameters(build(PlainSemanticHead, implicit=False)) == 44_461  # "44.5 K"
    assert count_parameters(build(MultiScaleSemanticHead, implicit=False)) == pytest.approx(
        778_800, rel=0.002
    )


def test_uconv_head_computes_the_published_function() -> None:
    head = make_head(UConvHead, implicit=False).eval()
    features = random_features()
    assert set(head.state_dict()) >= {
        "tower.conv.weight",
        "tower.norm.running_var",
        "predictor.weight",
        "predictor.bias",
    }
    x = F.conv2d(features["p3"], head.tower.conv.weight, padding=1)
    norm = head.tower.norm
    x = F.batch_norm(
        x, norm.running_mean, norm.running_var, norm.weight, norm.bias, training=False, eps=1e-3
    )
    x = F.conv2d(F.silu(x), head.predictor.weight, head.predictor.bias)
    expected = F.interpolate(x, size=(16, 24), mode="bilinear", align_corners=True)
    torch.testing.assert_close(head.logits(features), expected)


@pytest.mark.parametrize(
    ("kind", "options", "stride"),
    [
        (UConvHead, {}, 4),
        (PlainSemanticHead, {"upsample": True}, 4),
        (PlainSemanticHead, {"upsample": False}, 8),
        (MultiScaleSemanticHead, {}, 8),
    ],
)
def test_strides_of_logits_and_predictions(
    kind: type[SemanticHead], options: dict[str, bool], stride: int
) -> None:
    head = make_head(kind, **options).eval()
    assert head.common_stride == stride
    features = random_features()
    logits = head.logits(features)
    assert logits.shape == (2, CLASSES, 64 // stride, 96 // stride)
    full, losses = head(features, random_labels())
    assert losses == {}
    expected = F.interpolate(logits, size=(64, 96), mode="bilinear", align_corners=False)
    torch.testing.assert_close(full, expected)


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("known", [True, False])
def test_every_parameter_gets_a_gradient(kind: type[SemanticHead], known: bool) -> None:
    head = make_head(kind)
    labels = random_labels() if known else torch.full((2, 16, 24), 255)
    if kind is MultiScaleSemanticHead:
        labels = labels[:, ::2, ::2]
    logits, losses = head(random_features(), labels)
    assert logits is None
    assert set(losses) == {"loss_sem_focal", "loss_sem_dice"}
    sum(losses.values()).backward()
    for name, parameter in head.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert (parameter.grad != 0).any() == known, name


def test_losses_are_weighted() -> None:
    features, labels = random_features(), random_labels()
    plain = make_head(UConvHead, focal_weight=1, dice_weight=1)(features, labels)[1]
    heavy = make_head(UConvHead, focal_weight=3, dice_weight=5, loss_weight=2)(features, labels)[1]
    torch.testing.assert_close(heavy["loss_sem_focal"], 6 * plain["loss_sem_focal"])
    torch.testing.assert_close(heavy["loss_sem_dice"], 10 * plain["loss_sem_dice"])


def test_targets_of_several_sizes_and_dtypes() -> None:
    features, labels = random_features(), random_labels()
    full = make_head(UConvHead)(features, labels)[1]
    for targets in (labels[:, ::4, ::4], labels.byte(), labels[:, ::2, ::2].int()):
        torch.testing.assert_close(make_head(UConvHead)(features, targets)[1], full)
    with pytest.raises(ValueError, match=r"INPUT\.SEM_SEG_STRIDE"):
        make_head(UConvHead)(features, labels[:, ::8, ::8])


def test_training_without_targets_is_refused() -> None:
    with pytest.raises(ValueError, match="sem_seg"):
        make_head(UConvHead)(random_features(), None)


def test_unnamed_classes_are_never_predicted() -> None:
    head = make_head(UConvHead, num_named_classes=5)
    with torch.no_grad():
        head.predictor.bias[5:] = 100.0
    features = random_features()
    losses = head(features, random_labels(classes=5))[1]
    sum(losses.values()).backward()
    assert (head.predictor.bias.grad[5:] > 0).all()  # trained as absent
    head.eval()
    assert head.logits(features).shape == (2, 5, 16, 24)
    assert head(features)[0].shape == (2, 5, 64, 96)
    assert head.class_maps(features).shape[1] == CLASSES


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", HEADS)
def test_losses_under_autocast_are_finite(kind: type[SemanticHead], dtype: torch.dtype) -> None:
    head = make_head(kind)
    with torch.autocast("cpu", dtype=dtype):
        losses = head(random_features(), random_labels())[1]
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in head.parameters())


@pytest.mark.parametrize("kind", HEADS)
def test_copies_predict_the_same(kind: type[SemanticHead]) -> None:
    head = make_head(kind)
    head(random_features(), random_labels())  # updates the running statistics
    features = random_features(32, 64)
    expected = head.eval().logits(features)
    in_other_layout = copy.deepcopy(head).to(memory_format=torch.channels_last)
    for same in (pickle.loads(pickle.dumps(head)), in_other_layout, deploy(head)):
        torch.testing.assert_close(same.logits(features), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        head.double().logits({k: v.double() for k, v in features.items()}).float(), expected
    )


@pytest.mark.parametrize("kind", HEADS)
def test_compiles_in_one_graph(kind: type[SemanticHead]) -> None:
    head = make_head(kind).eval()
    features = random_features(64, 64, batch=1)
    compiled = torch.compile(head.logits, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(features), head.logits(features))


@pytest.fixture
def cfg() -> CfgNode:
    cfg = default_config()
    cfg.DATASETS.TRAIN = ("coco_2017_train_semantic171",)
    cfg.MODEL.SEM_SEG_HEAD.NAME = "UConvHead"
    cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES = ["p3"]
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 0
    return cfg


@pytest.mark.parametrize("kind", HEADS)
def test_config_and_constructor_build_the_same_head(cfg: CfgNode, kind: type[SemanticHead]) -> None:
    node = cfg.MODEL.SEM_SEG_HEAD
    node.NAME, node.IN_FEATURES, node.NUM_CLASSES = kind.__name__, LEVELS[kind], 173
    node.IGNORE_VALUE, node.LOSS_WEIGHT, node.UPSAMPLE = 200, 2.0, False
    built = build_sem_seg_head(cfg, SMALL)
    options = {"upsample": False} if kind is PlainSemanticHead else {}
    explicit = make_head(
        kind, 173, num_named_classes=171, ignore_value=200, loss_weight=2.0, **options
    )
    shapes = {name: value.shape for name, value in explicit.state_dict().items()}
    assert {name: value.shape for name, value in built.state_dict().items()} == shapes
    for attribute in (
        *("num_classes", "num_named_classes", "common_stride", "in_features"),
        *("ignore_value", "focal_weight", "dice_weight"),
    ):
        assert getattr(built, attribute) == getattr(explicit, attribute)
    assert (explicit.focal_weight, explicit.dice_weight) == (50.0, 2.5)


@pytest.mark.parametrize(
    ("configured", "data", "classes", "named"),
    [
        (0, "coco_2017_train_semantic171", 171, 171),
        (173, "coco_2017_train_semantic171", 173, 171),
        (9, "no_such_data", 9, 9),
    ],
)
def test_number_of_classes(
    cfg: CfgNode, configured: int, data: str, classes: int, named: int
) -> None:
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = configured
    cfg.DATASETS.TRAIN = (data,)
    head = build_sem_seg_head(cfg, SMALL)
    assert (head.num_classes, head.num_named_classes) == (classes, named)
    assert head.predictor.out_channels == classes


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("NUM_CLASSES", 54, "NUM_CLASSES is 54, but the data have 171"),
        ("NUM_CLASSES", -1, "NUM_CLASSES is -1"),
        ("IN_FEATURES", ["p2"], "IN_FEATURES has p2; it may have p3, p4, p5"),
        ("IN_FEATURES", ["p3", "p4"], "IN_FEATURES must be one map for UConvHead"),
        ("IN_FEATURES", [], "IN_FEATURES is empty"),
    ],
)
def test_errors_name_the_key(cfg: CfgNode, key: str, value: object, message: str) -> None:
    cfg.MODEL.SEM_SEG_HEAD[key] = value
    with pytest.raises(ValueError, match=f"MODEL.SEM_SEG_HEAD.{message}"):
        build_sem_seg_head(cfg, SMALL)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "is empty"),
        (["p9"], "has p9; it may have p3, p4, p5"),
        (["p4", "p3"], "must be ordered from fine to coarse"),
    ],
)
def test_multi_scale_head_requires_ordered_maps(names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=rf"MODEL.SEM_SEG_HEAD.IN_FEATURES {message}"):
        MultiScaleSemanticHead(input_shape=SMALL, in_features=names, num_classes=3)


def segmentor(head: nn.Module) -> SemanticSegmentor:
    return SemanticSegmentor(
        backbone=StubBackbone(),
        sem_seg_head=head,
        pixel_mean=[0.0, 0.0, 0.0],
        pixel_std=[255.0, 255.0, 255.0],
    )


def detectron2_head() -> nn.Module:
    return SemSegFPNHead(
        {"p3": SMALL["p3"]}, num_classes=CLASSES, conv_dims=8, common_stride=4, ignore_value=255
    )


@pytest.mark.parametrize("make", [lambda: make_head(UConvHead), detectron2_head])
def test_heads_train_and_predict_in_detectron2(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    model = segmentor(make()).train()
    sizes = [(50, 90), (64, 70)]
    batch = [
        {"image": torch.randint(0, 256, (3, h, w)).byte(), "sem_seg": torch.randint(0, 7, (h, w))}
        for h, w in sizes
    ]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    values = []
    for _ in range(8):
        loss = sum(model(batch).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < values[0]
    model.eval()
    for sample in batch:
        sample.update(height=100, width=120)
    with torch.no_grad():
        results = model(batch)
    assert [result["sem_seg"].shape for result in results] == [(CLASSES, 100, 120)] * 2


@pytest.mark.parametrize("make", [lambda: make_head(UConvHead), detectron2_head])
def test_heads_have_the_interface_of_the_meta_architecture(make: Callable[[], nn.Module]) -> None:
    head = make()
    assert list(head.in_features) == ["p3"]
    assert head.ignore_value == 255
    assert head.common_stride == 4
    logits, losses = head(random_features(), random_labels())
    assert logits is None
    assert all(name.startswith("loss") and loss.ndim == 0 for name, loss in losses.items())
    logits, losses = head.eval()(random_features(), None)
    assert (logits.shape, losses) == ((2, CLASSES, 64, 96), {})
