"""Self-critical training with rewards of sampled captions, and word dropout."""

from collections.abc import Hashable, Sequence
from typing import Any

import pytest
import torch

from yolor_d2.modeling.heads.caption import SelfCritical, TransformerCaptionHead
from yolor_d2.modeling.heads.caption.self_critical import advantages

from .factory import CAPTIONS, IMAGE_IDS, PAD, make_features, make_head, targets

REWARDED = 7


def count_rewarded(image_ids: Sequence[Hashable], ids: torch.Tensor) -> torch.Tensor:
    """A reward: how often a caption has one token."""
    assert len(image_ids) == len(ids)
    return (ids == REWARDED).sum(dim=2).double()


def constant_reward(image_ids: Sequence[Hashable], ids: torch.Tensor) -> torch.Tensor:
    return torch.full(ids.shape[:2], 0.3, dtype=torch.float64)


def self_critical_head(samples: int = 6, **options: Any) -> TransformerCaptionHead:
    options = {"self_critical": SelfCritical(samples=samples, **options)}
    return make_head(dropout=0.0, max_tokens=6, **options).train()


def test_advantages() -> None:
    rewards = torch.tensor([[1.0, 2.0, 6.0], [5.0, 5.0, 5.0]])
    expected = [[1 - 4.0, 2 - 3.5, 6 - 1.5], [0.0, 0, 0]]
    torch.testing.assert_close(advantages(rewards), torch.tensor(expected))


def test_loss_and_gradient() -> None:
    """Mean over the sampled tokens of -advantage x log-probability."""
    head = self_critical_head()
    tokens = head(make_features())
    sampled: list[torch.Tensor] = []

    def reward(image_ids: Sequence[Hashable], ids: torch.Tensor) -> torch.Tensor:
        assert image_ids == IMAGE_IDS
        sampled.append(ids)
        return count_rewarded(image_ids, ids)

    loss = head.losses(tokens, targets(), reward)["loss_caption"]
    found = torch.autograd.grad(loss, list(head.decoder.parameters()), retain_graph=True)

    ids = sampled[0]
    weights = advantages(count_rewarded(IMAGE_IDS, ids)).float()
    logits = head.text_logits(tokens, ids[..., :-1].flatten(0, 1)).log_softmax(-1)
    log_probs = logits.view(3, 6, 5, -1).gather(3, ids[..., 1:, None])[..., 0]
    is_target = (ids[..., 1:] != PAD) & torch.tensor([True, True, False])[:, None, None]
    is_target[..., -1] = False
    expected = -(log_probs * weights[..., None] * is_target).sum() / is_target.sum()
    torch.testing.assert_close(loss, expected)
    wanted = torch.autograd.grad(expected, list(head.decoder.parameters()))
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_rewarded_tokens_become_more_frequent() -> None:
    torch.manual_seed(0)
    head = self_critical_head()
    features = make_features()
    optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
    counts = []
    for _ in range(30):
        optimizer.zero_grad()
        head.losses(head(features), targets(), count_rewarded)["loss_caption"].backward()
        optimizer.step()
        ids = head.generate(head(features), top_p=1.0, seed=0).ids[:2]
        counts.append(int((ids == REWARDED).sum()))
    assert counts[-1] > counts[0]


def test_images_without_captions_have_no_gradient() -> None:
    head = self_critical_head()
    features = {name: map_.requires_grad_() for name, map_ in make_features().items()}
    head.losses(head(features), targets(), count_rewarded)["loss_caption"].backward()
    gradient = features["p5"].grad
    assert gradient[0].any()
    assert not gradient[2].any()  # its caption is padding


def test_cross_entropy_is_added() -> None:
    head = self_critical_head()
    tokens = head(make_features())
    torch.manual_seed(5)
    alone = head.losses(tokens, targets(), count_rewarded)["loss_caption"]
    cross_entropy = head.eval().losses(tokens, targets())["loss_caption"]
    head.train().self_critical = SelfCritical(samples=6, ce_weight=0.25)
    torch.manual_seed(5)
    both = head.losses(tokens, targets(), count_rewarded)["loss_caption"]
    torch.testing.assert_close(both, alone + 0.25 * cross_entropy)


@pytest.mark.parametrize(("samples", "options"), [(1, {}), (3, {"ce_weight": -0.1})])
def test_invalid_options_are_refused(samples: int, options: dict) -> None:
    with pytest.raises(ValueError, match=r"MODEL\.CAPTION_HEAD\.SCST\."):
        self_critical_head(samples, **options)


def test_equal_rewards_have_no_gradient() -> None:
    head = self_critical_head()
    head.losses(head(make_features()), targets(), constant_reward)["loss_caption"].backward()
    gradients = [p.grad for p in head.parameters() if p.grad is not None]
    assert gradients
    assert max(gradient.abs().max() for gradient in gradients) < 1e-7


def test_batch_without_captions_has_zero_loss() -> None:
    head = self_critical_head()
    captions = targets(torch.full_like(CAPTIONS, PAD))
    loss = head.losses(head(make_features()), captions, count_rewarded)["loss_caption"]
    loss.backward()
    assert loss == 0
    assert not any(p.grad.any() for p in head.parameters() if p.grad is not None)


def test_loss_is_cross_entropy_in_evaluation_and_of_plain_heads() -> None:
    head, plain = self_critical_head(), make_head(dropout=0.0)
    tokens = head(make_features())
    expected = plain.losses(tokens, targets())["loss_caption"]
    assert head.eval().losses(tokens, targets())["loss_caption"] == expected
    found = plain.train().losses(tokens, targets(), count_rewarded)["loss_caption"]
    assert found == expected


def test_training_without_a_reward_is_refused() -> None:
    head = self_critical_head()
    with pytest.raises(ValueError, match=r"SCST\.SAMPLES is not 0: training needs a reward"):
        head.losses(head(make_features()), targets())


def test_word_dropout_in_training_only() -> None:
    """Dropping all tokens gives the loss of a decoder input that is padding after the begin."""
    head = make_head(word_dropout=1.0, dropout=0.0)
    plain = make_head(dropout=0.0)
    tokens = head(make_features())
    assert torch.equal(
        head.losses(tokens, targets())["loss_caption"],
        plain.losses(tokens, targets())["loss_caption"],
    )
    decoder_input = CAPTIONS[:, :-1].clone()
    decoder_input[:, 1:] = PAD
    logits = plain.text_logits(tokens, decoder_input)
    expected = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), CAPTIONS[:, 1:].flatten(), ignore_index=PAD
    )
    torch.testing.assert_close(head.train().losses(tokens, targets())["loss_caption"], expected)


def test_half_precision() -> None:
    """The loss is in single precision."""
    head = self_critical_head()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = head.losses(head(make_features()), targets(), count_rewarded)["loss_caption"]
    assert loss.dtype == torch.float32
    loss.backward()
    assert all(p.grad.isfinite().all() for p in head.parameters() if p.grad is not None)
