"""Captions that learn from what they earn, and words that are not heard."""

import pytest
import torch

from yolor_d2.modeling.heads.caption.self_critical import SelfCritical, advantages

from .factory import CAPTIONS, PAD, make_features, make_head

IMAGES = ["a.jpg", "b.jpg", "c.jpg"]
FAVOURITE = 7


def mentions(images: list[str], ids: torch.Tensor) -> torch.Tensor:
    """Each favourite word earns 1."""
    assert len(images) == len(ids)
    return (ids == FAVOURITE).sum(dim=2).double()


def critical_head(samples: int = 6, **options: object):
    head = make_head(
        self_critical=SelfCritical(samples=samples, **options), dropout=0.0, max_tokens=6
    )
    head.reward = mentions
    return head.train()


def test_an_advantage_is_over_the_others() -> None:
    rewards = torch.tensor([[1.0, 2.0, 6.0], [5.0, 5.0, 5.0]])
    expected = [[1 - 4.0, 2 - 3.5, 6 - 1.5], [0.0, 0, 0]]
    torch.testing.assert_close(advantages(rewards), torch.tensor(expected))


def test_the_gradient_is_that_of_the_formula() -> None:
    """Mean over the drawn tokens of -advantage x log-probability, of the same draws."""
    head = critical_head()
    tokens = head(make_features())
    drawn: list[torch.Tensor] = []

    def reward(images: list[str], ids: torch.Tensor) -> torch.Tensor:
        drawn.append(ids)
        return mentions(images, ids)

    head.reward = reward
    loss = head.losses(tokens, CAPTIONS, None, IMAGES)["loss_caption"]
    found = torch.autograd.grad(loss, list(head.decoder.parameters()), retain_graph=True)

    ids = drawn[0]
    worth = advantages(mentions(IMAGES, ids)).float()
    logits = head.text_logits(tokens, ids[..., :-1].flatten(0, 1)).log_softmax(-1)
    gains = logits.view(3, 6, 5, -1).gather(3, ids[..., 1:, None])[..., 0]
    said = (ids[..., 1:] != PAD) & torch.tensor([True, True, False])[:, None, None]
    said[..., -1] = False
    expected = -(gains * worth[..., None] * said).sum() / said.sum()
    torch.testing.assert_close(loss, expected)
    wanted = torch.autograd.grad(expected, list(head.decoder.parameters()))
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_what_earns_is_said_more() -> None:
    torch.manual_seed(0)
    head = critical_head()
    features = make_features()
    optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
    earned = []
    for _ in range(30):
        optimizer.zero_grad()
        head.losses(head(features), CAPTIONS, None, IMAGES)["loss_caption"].backward()
        optimizer.step()
        said = head.generate(head(features), top_p=1.0, seed=0).ids[:2]
        earned.append(int((said == FAVOURITE).sum()))
    assert earned[-1] > earned[0]


def test_images_without_captions_teach_nothing() -> None:
    head = critical_head()
    features = {name: map_.requires_grad_() for name, map_ in make_features().items()}
    head.losses(head(features), CAPTIONS, None, IMAGES)["loss_caption"].backward()
    gradient = features["p5"].grad
    assert gradient[0].any()
    assert not gradient[2].any()  # its caption is padding


def test_cross_entropy_beside() -> None:
    head = critical_head()
    tokens = head(make_features())
    torch.manual_seed(5)
    alone = head.losses(tokens, CAPTIONS, None, IMAGES)["loss_caption"]
    truth = head.eval().losses(tokens, CAPTIONS)["loss_caption"]
    head.train().self_critical = SelfCritical(samples=6, ce_weight=0.25)
    torch.manual_seed(5)
    both = head.losses(tokens, CAPTIONS, None, IMAGES)["loss_caption"]
    torch.testing.assert_close(both, alone + 0.25 * truth)


@pytest.mark.parametrize(("samples", "options"), [(1, {}), (3, {"ce_weight": -0.1})])
def test_nonsense_is_refused(samples: int, options: dict) -> None:
    with pytest.raises(ValueError, match=r"MODEL\.CAPTION_HEAD\.SCST\."):
        critical_head(samples, **options)


def test_captions_that_earn_alike_teach_nothing() -> None:
    head = critical_head()
    head.reward = lambda images, ids: torch.full(ids.shape[:2], 0.3, dtype=torch.float64)
    head.losses(head(make_features()), CAPTIONS, None, IMAGES)["loss_caption"].backward()
    gradients = [p.grad for p in head.parameters() if p.grad is not None]
    assert gradients
    assert max(gradient.abs().max() for gradient in gradients) < 1e-7


def test_a_batch_that_nobody_describes_teaches_nothing() -> None:
    head = critical_head()
    nothing = torch.full_like(CAPTIONS, PAD)
    loss = head.losses(head(make_features()), nothing, None, IMAGES)["loss_caption"]
    loss.backward()
    assert loss == 0
    assert not any(p.grad.any() for p in head.parameters() if p.grad is not None)


def test_without_a_reward_it_says_so() -> None:
    head = critical_head()
    head.reward = None
    with pytest.raises(RuntimeError, match="nobody has set the head's reward"):
        head.losses(head(make_features()), CAPTIONS, None, IMAGES)


def test_words_are_dropped_in_training_only() -> None:
    """All words but the begin: the loss is that of texts of silence."""
    head = make_head(word_dropout=1.0, dropout=0.0)
    plain = make_head(dropout=0.0)
    tokens = head(make_features())
    assert torch.equal(
        head.losses(tokens, CAPTIONS)["loss_caption"],
        plain.losses(tokens, CAPTIONS)["loss_caption"],
    )
    texts = CAPTIONS[:, :-1].clone()
    texts[:, 1:] = PAD
    logits = plain.text_logits(tokens, texts)
    expected = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), CAPTIONS[:, 1:].flatten(), ignore_index=PAD
    )
    torch.testing.assert_close(head.train().losses(tokens, CAPTIONS)["loss_caption"], expected)


def test_half_precision() -> None:
    """Rewards are of the drawn ids alone; the loss is in single precision."""
    head = critical_head()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = head.losses(head(make_features()), CAPTIONS, None, IMAGES)["loss_caption"]
    assert loss.dtype == torch.float32
    loss.backward()
    assert all(p.grad.isfinite().all() for p in head.parameters() if p.grad is not None)
