"""Several captions of an image have the loss of an image that is repeated for each of them."""

import torch

from .factory import CAPTIONS, make_features, make_head, targets

# Two captions of the first image, one of the second, none of the third.
SEVERAL = torch.stack([CAPTIONS, torch.tensor([[1, 8, 2, 0, 0], [0] * 5, [0] * 5])], dim=1)


def test_loss_equals_that_of_repeated_images() -> None:
    head = make_head(dropout=0.0).train()
    once, repeated = make_features(), {}
    for name, feature in once.items():
        feature.requires_grad_()
        repeated[name] = feature.detach().repeat_interleave(2, dim=0).requires_grad_()

    ours = head.losses(head(once), targets(SEVERAL))["loss_caption"]
    theirs = head.losses(head(repeated), targets(SEVERAL.flatten(0, 1)))["loss_caption"]

    torch.testing.assert_close(ours, theirs)
    ours.backward()
    theirs.backward()
    for name in head.in_features:
        gradient = repeated[name].grad.unflatten(0, (3, 2)).sum(1)
        assert gradient.any()
        torch.testing.assert_close(once[name].grad, gradient)


def test_captions_of_unknown_images_are_ignored() -> None:
    head = make_head()
    tokens = head(make_features())
    expected = head.losses(
        tokens, targets(SEVERAL[:1].expand(3, -1, -1).contiguous(), [True, False, False])
    )
    ids = SEVERAL.clone()
    ids[1] = SEVERAL[0]  # present, but not known
    found = head.losses(tokens, targets(ids, [True, False, True]))
    assert torch.equal(found["loss_caption"], expected["loss_caption"])
