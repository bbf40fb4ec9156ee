"""Losses that teach where the named objects are."""

from typing import Any

import pytest
import torch
from torch import Tensor

from yolor_d2.data.views.mentions import NO_CLASS
from yolor_d2.errors import ConfigError
from yolor_d2.modeling.heads import TransformerCaptionHead
from yolor_d2.modeling.heads.caption.grounding import (
    NO_OBJECT,
    GroundedTokens,
    Grounding,
    KnownObjects,
    _attention_losses,
    _location_losses,
)
from yolor_d2.modeling.heads.caption.options import GroundingOptions
from yolor_d2.modeling.heads.caption.transformer import DecoderLayer
from yolor_d2.modeling.meta_arch import YOLOR

from ...factory import default_config, random_batch, random_instances, tiny_model

GROUNDING = "MODEL.CAPTION_HEAD.GROUNDING"
WEIGHTS = (f"{GROUNDING}.ATTENTION_WEIGHT", 0.5, f"{GROUNDING}.LOCATION_WEIGHT", 2.0)
REGIONS = ("MODEL.CAPTION_HEAD.REGION_FEATURE", "c2", "MODEL.CAPTION_HEAD.DROPOUT", 0.0)
BOTH = ("detection", "caption")
ONE_VIEW = ("INPUT.WEAK_VIEW_TASKS", list(BOTH))
NAMES = {"loss_caption_attention", "loss_caption_location"}


def network(*overrides: Any) -> YOLOR:
    return tiny_model(BOTH, *REGIONS, *ONE_VIEW, *overrides)


def batch_with_mentions() -> list[dict[str, Any]]:
    """Two images; the caption of the first names the class of its first object."""
    batch = random_batch(objects=0)
    for sample in batch:
        rng = torch.Generator().manual_seed(0)
        sample["weak_instances"] = random_instances(3, size=(64, 96), rng=rng)
        sample["caption_mentions"] = torch.full_like(sample["caption_ids"], NO_CLASS)
    batch[0]["caption_mentions"][2] = batch[0]["weak_instances"].gt_classes[0]
    return batch


def test_losses_are_added_in_training_only() -> None:
    plain, grounded = network().train(), network(*WEIGHTS).train()
    grounded.load_state_dict(plain.state_dict(), strict=False)
    before, after = plain(batch_with_mentions()), grounded(batch_with_mentions())
    assert after.keys() - before.keys() == NAMES
    for name, loss in before.items():
        assert torch.equal(loss, after[name]), name
    assert all(after[name] > 0 for name in NAMES)
    grounded.eval()
    assert not NAMES & grounded.training_losses(batch_with_mentions()).keys()


def test_predictions_are_the_same() -> None:
    plain, grounded = network().eval(), network(*WEIGHTS).eval()
    grounded.load_state_dict(plain.state_dict(), strict=False)
    (before, after) = (model(random_batch())[0]["caption_ids"] for model in (plain, grounded))
    assert before == after


def test_weights_scale_the_losses() -> None:
    losses = network(*WEIGHTS).train()(batch_with_mentions())
    doubled = ("MODEL.CAPTION_HEAD.LOSS_WEIGHT", 2.0)
    twice = network(*WEIGHTS, *doubled).train()(batch_with_mentions())
    alone = network(f"{GROUNDING}.LOCATION_WEIGHT", 2.0).train()(batch_with_mentions())
    for name in NAMES:
        torch.testing.assert_close(twice[name], 2 * losses[name])
    assert alone["loss_caption_attention"] == 0
    torch.testing.assert_close(alone["loss_caption_location"], losses["loss_caption_location"])


def test_captions_that_name_no_object_have_no_loss() -> None:
    """All parameters have gradients all the same, as several processes need."""
    model = network(*WEIGHTS).train()
    batch = random_batch(objects=0)
    losses = model(batch)
    sum(losses.values()).backward()
    assert all(losses[name] == 0 for name in NAMES)
    for name, parameter in model.caption_head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_attention_losses() -> None:
    scores = torch.tensor([[[1.0, 2.0, -torch.inf, 0.5]] * 3], requires_grad=True)  # (1, 3, 4)
    named = torch.tensor([[[True, False, False], [True, True, False], [False] * 3]])
    losses = _attention_losses(scores, named)
    shares = scores[0, 0].softmax(0)
    expected = torch.stack([-shares[0].log(), -(shares[0] + shares[1]).log(), torch.tensor(0.0)])
    torch.testing.assert_close(losses[0], expected)
    losses.sum().backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()
    assert not scores.grad[0, 2].any()


def test_location_losses_choose_the_closest_object() -> None:
    places = torch.tensor([[[0.1] * 4, [0.9] * 4, [0.5] * 4]])
    guesses = torch.full((1, 3, 4), 0.6)
    named = torch.tensor([[[True, True, False], [False, False, True], [False] * 3]])
    losses = _location_losses(guesses, places, named)
    torch.testing.assert_close(losses, torch.tensor([[0.3, 0.1, 0.0]]))


def scene(images: int) -> tuple[GroundedTokens, Tensor]:
    """Objects of known classes whose tokens are class and place, and texts of one class each."""
    classes = torch.rand(images, 8).argsort(dim=1)[:, :4]  # (N, 4), different ones
    classes[:, 3] = NO_OBJECT
    places = torch.rand(images, 4, 4)
    kinds = torch.nn.functional.one_hot(classes.clamp(min=0), 8).float()
    tokens = torch.cat([kinds, places, torch.zeros(images, 4, 20)], dim=2)  # (N, 4, 32)
    padding = classes == NO_OBJECT
    return GroundedTokens(tokens, padding, KnownObjects(classes, places)), classes[:, 0]


def test_a_layer_learns_to_find_the_named_object() -> None:
    torch.manual_seed(0)
    layer = DecoderLayer(dim=32, num_heads=4, ffn_dim=64, dropout=0.0)
    grounding = Grounding(32, GroundingOptions(1.0, 1.0))
    words = torch.nn.Embedding(8, 32)
    parameters = [*layer.parameters(), *grounding.parameters(), *words.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=0.003)
    for _ in range(300):
        visual, named = scene(32)
        found = grounding.losses(layer, words(named)[:, None], visual, named[:, None, None])
        optimizer.zero_grad()
        sum(found.values()).backward()
        optimizer.step()
    assert found["loss_caption_attention"] < 0.05
    assert found["loss_caption_location"] < 0.1  # 0.25 if all places are guessed as the center


def test_objects_as_tokens_are_required() -> None:
    cfg = default_config("MODEL.YOLOR.TASKS", list(BOTH), *WEIGHTS)
    shapes = network().backbone.output_shape()
    with pytest.raises(ConfigError, match="GROUNDING has weights, but no objects are visual tok"):
        TransformerCaptionHead(cfg, shapes)

