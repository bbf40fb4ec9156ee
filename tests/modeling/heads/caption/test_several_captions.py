"""Several captions of an image count as if the image came once for each of them."""

import torch

from .factory import CAPTIONS, make_features, make_head

# Two captions of the first image, one of the second, none of the third.
SEVERAL = torch.stack([CAPTIONS, torch.tensor([[1, 8, 2, 0, 0], [0] * 5, [0] * 5])], dim=1)


def test_the_loss_is_that_of_repeated_images() -> None:
    head = make_head(dropout=0.0).train()
    once, repeated = make_features(), {}
    for name, feature in once.items():
        feature.requires_grad_()
        repeated[name] = feature.detach().repeat_interleave(2, dim=0).requires_grad_()

    ours = head.losses(head(once), SEVERAL)["loss_caption"]
    theirs = head.losses(head(repeated), SEVERAL.flatten(0, 1))["loss_caption"]

    torch.testing.assert_close(ours, theirs)
    ours.backward()
    theirs.backward()
    for name in head.in_features:
        gradient = repeated[name].grad.unflatten(0, (3, 2)).sum(1)
        assert gradient.any()
        torch.testing.assert_close(once[name].grad, gradient)


def test_an_image_nobody_describes_counts_for_nothing() -> None:
    head = make_head()
    tokens = head(make_features())
    known = torch.tensor([True, False, True])
    expected = head.losses(
        tokens, SEVERAL[:1].expand(3, -1, -1), torch.tensor([True, False, False])
    )
    silent = SEVERAL.clone()
    silent[1] = SEVERAL[0]  # a caption that is there, but not known
    assert torch.equal(head.losses(tokens, silent, known)["loss_caption"], expected["loss_caption"])
