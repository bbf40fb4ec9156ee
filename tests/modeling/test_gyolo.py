"""A network with the parts of gyolo: training, deployment, what captions read of other heads."""

from typing import Any

import pytest
import torch
from torch import Tensor

from yolor_d2.modeling.caption_inputs import head_outputs
from yolor_d2.modeling.deploy import deploy
from yolor_d2.modeling.meta_arch import YOLOR
from yolor_d2.tasks import TASKS

from .factory import random_batch, tiny_model
from .gyolo import GYOLO


def make_model(*overrides: Any, tasks: tuple[str, ...] = TASKS) -> YOLOR:
    return tiny_model(tasks, *GYOLO, *overrides)


@pytest.fixture(scope="module")
def model() -> YOLOR:
    return make_model().eval()


@pytest.mark.parametrize("samples", [0, 2])
def test_two_steps_train_every_parameter(samples: int) -> None:
    model = make_model("MODEL.CAPTION_HEAD.SCST.SAMPLES", samples)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for seed in range(2):
        optimizer.zero_grad()
        losses = model(random_batch(seed=seed), reward=lambda _, ids: torch.rand(ids.shape[:2]))
        sum(losses.values()).backward()
        optimizer.step()
        missing = [name for name, p in model.named_parameters() if p.grad is None]
        assert missing == []
    assert all(torch.isfinite(p).all() for p in model.parameters())


@pytest.mark.parametrize("weak_tasks", [["caption"], []])
def test_captions_train_no_other_head(weak_tasks: list[str]) -> None:
    model = make_model("INPUT.WEAK_VIEW_TASKS", weak_tasks)
    model(random_batch())["loss_caption"].backward()
    trained = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert trained == {"backbone", "caption_head"}


def test_captions_do_not_change_the_statistics_of_other_heads() -> None:
    model = make_model("INPUT.WEAK_VIEW_TASKS", list(TASKS))
    model.detection_head.requires_grad_(False)
    features = model.extract(torch.rand(2, 3, 64, 96), model.in_features(frozenset(TASKS)))
    heads = (model.detection_head, model.semantic_head)
    before = [[buffer.clone() for buffer in head.buffers()] for head in heads]
    model.visual_tokens(features, None)
    for head, buffers in zip(heads, before, strict=True):
        assert all(map(torch.equal, head.buffers(), buffers))


@torch.no_grad()
def test_captions_read_the_branches_that_predict(model: YOLOR) -> None:
    features = model.extract(torch.rand(1, 3, 64, 96), model.in_features(frozenset(TASKS)))
    for one_to_one in (True, False):
        model.detection_head.predicts_one_to_one = one_to_one
        chosen = model.detection_head(features).logits
        found = {}
        for training in (True, False):
            model.detection_head.train(training)
            # Batch statistics would differ between the modes.
            for module in model.detection_head.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.eval()
            found[training] = head_outputs(model.heads, features, None).class_logits
        assert torch.equal(found[True], chosen)
        assert torch.equal(found[False], chosen)
    model.eval().detection_head.predicts_one_to_one = True


@torch.no_grad()
def test_deployed_network_predicts_the_same(model: YOLOR) -> None:
    batch = [{"image": sample["image"]} for sample in random_batch()]
    raw, other = (m.raw_outputs(images(batch)) for m in (model, deploy(model)))
    for one, two in zip(
        (raw.semantic, *raw.mask, *raw.caption, raw.detection.logits),
        (other.semantic, *other.mask, *other.caption, other.detection.logits),
        strict=True,
    ):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)


def images(batch: list[dict[str, Any]]) -> Tensor:
    return torch.stack([sample["image"] for sample in batch]).float()


def test_semantic_map_is_the_heads_own(model: YOLOR) -> None:
    """It is computed once for captions and results."""
    image = torch.rand(1, 3, 64, 96) * 255
    features = model.extract(image, model.in_features(frozenset(TASKS)))
    with torch.no_grad():
        raw, expected = model.raw_outputs(image), model.semantic_head.logits(features)
    assert torch.equal(raw.semantic, expected)
    assert raw.semantic.shape[2:] == (16, 24)


def test_results_on_square_canvases() -> None:
    model = make_model("MODEL.YOLOR.TEST_DIVISOR", 128, "MODEL.YOLOR.PAD", "center").eval()
    image = torch.randint(256, (3, 96, 128), dtype=torch.uint8)
    result = model([{"image": image}])[0]
    padded = torch.full((1, 3, 128, 128), 114.0)
    padded[:, :, 16:112] = image
    expected = model.raw_outputs(padded)
    captions = model.caption_head.generate(expected.caption)
    assert result["caption_ids"] == captions.ids[0, : captions.lengths[0]].tolist()
    assert result["sem_seg"].shape[1:] == (96, 128)


@pytest.mark.parametrize(
    ("tasks", "overrides", "message"),
    [
        (("detection", "caption"), [], "MODEL.YOLOR.TASKS has no semantic"),
        (("semantic", "caption"), [], "MODEL.YOLOR.TASKS has no detection"),
        (TASKS, ["MODEL.SEM_SEG_HEAD.NAME", "UConvHead"], "a map that UConvHead does not share"),
        (TASKS, ["MODEL.CAPTION_HEAD.SPECIAL_IDS", [0, 1]], "SPECIAL_IDS needs 3 different ids"),
        (
            TASKS,
            ["MODEL.MASK_HEAD.PROTOTYPE_NET", "x"],
            "PROTOTYPE_NET must be one of convolutions",
        ),
        (TASKS, ["MODEL.YOLOR.TEST_DIVISOR", 0], "MODEL.YOLOR.TEST_DIVISOR is 0"),
    ],
)
def test_wrong_settings(tasks: tuple[str, ...], overrides: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_model(*overrides, tasks=tasks)


def test_missing_heads() -> None:
    model = make_model()
    with pytest.raises(ValueError, match="GridRegionCaptionHead reads heads that are missing"):
        YOLOR(backbone=model.backbone, caption_head=model.caption_head)


def test_missing_detection_head_of_object_tokens() -> None:
    model = tiny_model(TASKS, "MODEL.CAPTION_HEAD.REGION_FEATURE", "c2")
    with pytest.raises(
        ValueError, match="TransformerCaptionHead reads heads that are missing: det"
    ):
        YOLOR(backbone=model.backbone, caption_head=model.caption_head)
