"""Objects as visual tokens: which objects, and how they are encoded."""

import warnings
from typing import Any

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.structures import Boxes, Instances
from torchvision.ops import batched_nms, box_iou

from yolor_d2.modeling.heads.caption.regions import Regions, found_regions, true_regions
from yolor_d2.modeling.heads.caption.visual_tokens import CountingAttention, RegionTokens
from yolor_d2.modeling.meta_arch import YOLOR
from yolor_d2.modeling.objects import Objects

from ...factory import THINGS, random_batch, random_instances, tiny_model

REGIONS = ("MODEL.CAPTION_HEAD.REGION_FEATURE", "c2", "MODEL.CAPTION_HEAD.MAX_REGIONS", 7)
BOTH = ("detection", "caption")
ONE_VIEW = ("INPUT.WEAK_VIEW_TASKS", ["detection", "caption"])


def region_model(*overrides: Any) -> YOLOR:
    return tiny_model(BOTH, *REGIONS, *overrides)


def one_view_batch(**options: Any) -> list[dict[str, Any]]:
    return [{f"weak_{k}": v for k, v in s.items()} | s for s in random_batch(**options)]


def logits_of(scores: list[list[float]]) -> torch.Tensor:
    return torch.tensor([scores]).logit()


class TestFound:
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30], [50, 0, 60, 5]]])

    def test_duplicates_are_dropped_and_the_best_come_first(self) -> None:
        logits = logits_of([[0.6, 0.1], [0.7, 0.2], [0.3, 0.9], [0.05, 0.05]])
        regions = found_regions(logits, self.boxes, count=3)
        torch.testing.assert_close(regions.boxes[0, :2], self.boxes[0, [2, 1]])
        torch.testing.assert_close(regions.scores[0, :2], torch.tensor([[0.3, 0.9], [0.7, 0.2]]))
        assert regions.padding.tolist() == [[False, False, True]]
        assert not regions.boxes[0, 2].any()

    def test_count_is_a_maximum(self) -> None:
        logits = logits_of([[0.6], [0.7], [0.9], [0.8]])
        assert found_regions(logits, self.boxes, count=1).boxes.tolist() == [[[20, 20, 30, 30]]]

    def test_no_object(self) -> None:
        regions = found_regions(torch.full((2, 4, 3), -9.0), self.boxes.expand(2, -1, -1), count=5)
        assert regions.boxes.shape == (2, 4, 4)
        assert regions.padding.all()

    def test_separate_objects_as_by_non_maximum_suppression(self) -> None:
        """Clusters of boxes around ten places: one box of each cluster is kept."""
        rng = torch.Generator().manual_seed(0)
        places = torch.arange(10)[:, None, None] * 50 + torch.tensor([0.0, 0, 40, 40])
        boxes = (places + torch.rand(10, 6, 4, generator=rng) * 2).flatten(0, 1)
        scores = torch.rand(60, generator=rng) * 0.8 + 0.15
        regions = found_regions(scores.logit()[None, :, None], boxes[None], count=20)
        kept = batched_nms(boxes, scores, torch.zeros(60), 0.5)
        assert (~regions.padding).sum() == len(kept) == 10
        torch.testing.assert_close(regions.boxes[0, :10], boxes[kept])
        assert box_iou(regions.boxes[0, :10], regions.boxes[0, :10]).triu(1).max() < 0.5

    def test_traced_function_takes_any_number_of_predictions(self) -> None:
        """Fewer than `count`, fewer than are compared, and more."""

        def predictions(points: int) -> tuple[torch.Tensor, torch.Tensor]:
            corners = torch.rand(2, points, 2, generator=rng) * 50
            return torch.randn(2, points, 3, generator=rng), torch.cat([corners, corners + 9], 2)

        def found(logits: torch.Tensor, boxes: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(found_regions(logits, boxes, count=5))

        rng = torch.Generator().manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            traced = torch.jit.trace(found, predictions(100), check_trace=False)
        for points in (3, 5, 40, 50, 200):
            inputs = predictions(points)
            assert all(map(torch.equal, traced(*inputs), found(*inputs)))


def test_true_regions() -> None:
    instances = []
    for count in (2, 0, 4):
        item = Instances((64, 96))
        item.gt_boxes = Boxes(torch.arange(4 * count).view(count, 4) + torch.tensor([0, 0, 9, 9]))
        item.gt_classes = torch.arange(count)
        instances.append(item)
    objects = Objects.from_instances(instances, device=torch.device("cpu"))
    regions = true_regions(objects, count=3, num_classes=5)
    assert regions.padding.tolist() == [[False, False, True], [True] * 3, [False] * 3]
    assert torch.equal(regions.boxes[0, :2], instances[0].gt_boxes.tensor.float())
    assert torch.equal(regions.boxes[2], instances[2].gt_boxes.tensor[:3].float())
    assert torch.equal(regions.scores[2], torch.eye(5)[:3])
    assert not regions.scores[regions.padding].any()


@pytest.mark.parametrize(("counts", "expected"), [((2, 0, 4), 4), ((0, 0), 1), ((30, 1), 20)])
def test_true_regions_have_little_padding(counts: tuple[int, ...], expected: int) -> None:
    objects = Objects.from_instances(
        [random_instances(n, size=(64, 96), rng=torch.Generator()) for n in counts],
        device=torch.device("cpu"),
    )
    regions = true_regions(objects, count=20, num_classes=THINGS)
    assert regions.padding.shape == (len(counts), expected)


@pytest.mark.parametrize("layers", [0, 1])
def test_positions_are_added_after_the_encoder(layers: int) -> None:
    keys = ("MODEL.CAPTION_HEAD.ENCODER_LAYERS", layers)
    plain = region_model(*keys).eval()
    placed = region_model(*keys, "MODEL.CAPTION_HEAD.REGION_POSITION_SCALE", 2.0).eval()
    placed.load_state_dict(plain.state_dict())
    features = plain.extract(torch.rand(2, 3, 64, 96) * 255, {"c2", "p5"})
    boxes = torch.tensor([[[0.0, 0, 20, 30], [60, 10, 90, 50], [0, 0, 0, 0]]] * 2)
    padding = torch.tensor([[False, False, True]] * 2)
    regions = Regions(boxes, torch.rand(2, 3, THINGS), padding)
    before, after = (m.caption_head(features, None, regions) for m in (plain, placed))
    added = 2 * plain.caption_head.regions.positions(features["c2"], regions, None)
    torch.testing.assert_close(after.tokens[:, :3], before.tokens[:, :3] + added)
    assert torch.equal(after.tokens[:, 3:], before.tokens[:, 3:])
    assert added[:, :2].abs().amax(dim=2).min() > 0.5
    assert not added[:, 2].any()


class TestTokens:
    def tokens(self, *, boxes: list[list[float]], feature: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(0)
        layer = RegionTokens(ShapeSpec(channels=2, stride=4), num_classes=3, dim=16)
        count = len(boxes)
        regions = Regions(
            torch.tensor([boxes]), torch.zeros(1, count, 3), torch.zeros(1, count).bool()
        )
        return layer(feature, regions, None).tokens[0]

    def test_token_depends_on_the_pixels_of_its_box(self) -> None:
        boxes = [[8.0, 8, 24, 24], [40, 8, 56, 24]]
        feature = torch.randn(1, 2, 16, 16)
        changed = feature.clone()
        changed[..., 2:6, 2:6] += 1  # within the first box
        for box, same in zip(boxes, (False, True), strict=True):
            before, after = (self.tokens(boxes=[box], feature=f) for f in (feature, changed))
            assert torch.equal(before, after) == same

    @pytest.mark.parametrize("side", range(4))
    def test_token_depends_on_each_side_of_its_box(self, side: int) -> None:
        box = [8.0, 8, 24, 24]
        other = [value + 1 * (number == side) for number, value in enumerate(box)]
        first, second = self.tokens(boxes=[box, other], feature=torch.ones(1, 2, 16, 16))
        assert not torch.allclose(first, second)

    def test_padding_has_no_influence(self) -> None:
        """Boxes and scores of padding do not change the logits of captions."""
        model = region_model("MODEL.CAPTION_HEAD.ENCODER_LAYERS", 1).eval()
        features = model.extract(torch.rand(1, 3, 64, 96) * 255, {"c2", "p5"})
        padding = torch.tensor([[False, True]])
        texts = []
        for value in (0.0, 5.0):
            boxes = torch.tensor([[[8.0, 8, 24, 24], [value] * 4]])
            scores = torch.full((1, 2, 10), value)
            scores[:, 0] = 0.3
            tokens = model.caption_head(features, None, Regions(boxes, scores, padding))
            texts.append(model.caption_head.text_logits(tokens, torch.tensor([[1, 5, 6]])))
        assert torch.equal(*texts)


def test_counting_attention_counts_equal_objects() -> None:
    """Softmax attention would return the same for one object and for two equal objects."""
    torch.manual_seed(0)
    counting = CountingAttention(16)
    one = torch.randn(1, 1, 16)
    two, padding = one.expand(1, 2, 16), torch.tensor([[False, True]])
    alone = counting(one, torch.zeros(1, 1).bool())[:, 0] - counting.output.bias
    doubled = counting(two, torch.zeros(1, 2).bool())[:, 0] - counting.output.bias
    padded = counting(two, padding)[:, 0] - counting.output.bias
    torch.testing.assert_close(doubled, 2 * alone)
    torch.testing.assert_close(padded, alone)


def test_training_uses_true_objects_if_all_images_have_them() -> None:
    model = region_model(*ONE_VIEW).train()
    regions: list[Regions] = []
    model.caption_head.register_forward_pre_hook(lambda _, args: regions.append(args[2]))
    batch = one_view_batch(objects=3)
    model(batch)
    assert (~regions[0].padding).sum(1).tolist() == [3, 3]
    torch.testing.assert_close(regions[0].boxes[0, :3], batch[0]["instances"].gt_boxes.tensor)

    del batch[1]["weak_instances"]
    model(batch)  # a new network detects nothing
    assert regions[1].padding.all()


def test_captions_do_not_change_the_detection_head() -> None:
    """No gradient and no statistic of it changes; the backbone gets a gradient through regions."""
    model = region_model("MODEL.CAPTION_HEAD.IN_FEATURES", ["p5"]).train()
    for predictor in model.detection_head.class_predictors.values():
        torch.nn.init.zeros_(predictor.bias)  # scores of 0.5
    batch = random_batch(weak_size=(64, 64))
    only_captions = [{k: v for k, v in s.items() if k != "instances"} for s in batch]
    before = {k: v.clone() for k, v in model.detection_head.state_dict().items()}
    stem = next(model.backbone.parameters())

    model(only_captions)["loss_caption"].backward()

    assert all(p.grad is None or not p.grad.any() for p in model.detection_head.parameters())
    assert model.caption_head.regions.look.weight.grad.any()
    assert stem.grad.any()
    alone = tiny_model(("detection",)).train()
    alone.load_state_dict(model.state_dict(), strict=False)
    for detector in (model.detection_head, alone.detection_head):
        detector.load_state_dict(before)
    with_captions, without = model(batch), alone(batch)
    for name in without:
        torch.testing.assert_close(with_captions[name], without[name])
    after = alone.detection_head.state_dict()
    for name, value in model.detection_head.state_dict().items():
        if "num_batches" not in name:
            torch.testing.assert_close(value, after[name])


def test_detection_head_runs_once_for_one_view() -> None:
    model = region_model(*ONE_VIEW).train()
    calls = []
    model.detection_head.register_forward_hook(lambda *_: calls.append(1))
    sum(model(one_view_batch()).values()).backward()
    assert len(calls) == 1
    assert all(p.grad is not None for p in model.parameters())


def test_images_without_objects_have_finite_gradients() -> None:
    model = region_model(*ONE_VIEW).train()
    losses = model(one_view_batch(objects=0))
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_visual_tokens_depend_on_detected_objects() -> None:
    model = region_model().eval()
    image = random_batch()[0]["image"]
    (result,) = model([{"image": image}])
    assert result["caption_ids"]
    without_objects = model.raw_outputs(image[None].float()).caption
    for predictor in model.detection_head.class_predictors.values():
        torch.nn.init.ones_(predictor.bias)
    with_objects = model.raw_outputs(image[None].float()).caption
    assert without_objects.padding[0, :7].all()
    assert not with_objects.padding[0, :7].all()


def test_invalid_options_are_refused() -> None:
    with pytest.raises(ValueError, match="REGION_FEATURE is c2, but no objects are detected"):
        tiny_model(("caption",), *REGIONS)
    with pytest.raises(ValueError, match="REGION_FEATURE has c9"):
        tiny_model(BOTH, "MODEL.CAPTION_HEAD.REGION_FEATURE", "c9")
    with pytest.raises(ValueError, match=r"DIM is 36.*multiple of 8"):
        region_model("MODEL.CAPTION_HEAD.DIM", 36)
    with pytest.raises(ValueError, match="MAX_REGIONS is 0"):
        region_model("MODEL.CAPTION_HEAD.MAX_REGIONS", 0)
