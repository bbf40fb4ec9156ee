"""The class loss of images in which only some of the classes are labeled."""

import pytest
import torch
from torch import Tensor

from yolor_d2.modeling.heads.detection import AnchorFreeHead
from yolor_d2.modeling.heads.detection.losses import sparse_binary_cross_entropy
from yolor_d2.modeling.objects import Objects

from ...factory import random_batch, tiny_model
from ...waiting import Counting
from .cases import head_of, random_objects, random_predictions

LABELED = torch.tensor([[True, False, True], [True, True, True], [False, False, False]])


def logit_gradient(head: AnchorFreeHead, predictions, objects: Objects) -> Tensor:
    """Gradient of all losses."""
    losses = head.losses(predictions, objects, head.assign(predictions, objects))
    return torch.autograd.grad(sum(losses.values()), predictions.logits)[0]


def test_loss_is_the_dense_cross_entropy_of_labeled_and_positive_logits() -> None:
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 20, 3, generator=rng, dtype=torch.double)
    image, point = torch.tensor([0, 0, 2]), torch.tensor([4, 7, 11])
    classes, scores = torch.tensor([0, 1, 2]), torch.tensor([0.9, 0.4, 0.7], dtype=torch.double)
    targets, counted = torch.zeros_like(logits), LABELED[:, None].expand(3, 20, 3).clone()
    targets[image, point, classes] = scores
    counted[image, point, classes] = True
    dense = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")

    loss = sparse_binary_cross_entropy(
        logits, logits[image, point, classes], scores, LABELED, LABELED[image, classes]
    )

    assert loss.item() == pytest.approx((dense * counted).sum().item(), rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_unlabeled_classes_have_no_gradient_and_others_their_own(seed: int) -> None:
    """Exactly none, except at points that an object of an unlabeled class is assigned to."""
    head = head_of(3)
    predictions = random_predictions(images=3, seed=seed)
    everything = random_objects([5, 4, 3], seed=seed)
    partly = everything._replace(labeled=LABELED)
    assignment = head.assign(predictions, everything)

    complete = logit_gradient(head, predictions, everything)
    masked = logit_gradient(head, predictions, partly)

    unlabeled = ~LABELED[:, None].expand_as(masked)
    positive = torch.zeros_like(unlabeled)
    positive[assignment.image, assignment.point, everything.classes[assignment.object]] = True
    assert (masked[unlabeled & ~positive] == 0).all()
    assert (masked[positive] != 0).any()
    counted = positive | ~unlabeled
    assert torch.allclose(masked[counted], complete[counted], rtol=1e-6, atol=1e-9)


def test_a_head_without_the_unlabeled_classes_has_the_same_gradients() -> None:
    """Those of the boxes bit for bit."""
    predictions = random_predictions(images=2)
    objects = random_objects([5, 4], num_classes=2)  # of classes 0 and 1
    labeled = torch.tensor([True, True, False]).expand(2, 3)
    fewer = predictions._replace(logits=predictions.logits.detach()[..., :2].requires_grad_())

    found = []
    for head, each, truth in (
        (head_of(3), predictions, objects._replace(labeled=labeled)),
        (head_of(2), fewer, objects),
    ):
        losses = head.losses(each, truth, head.assign(each, truth))
        found.append(torch.autograd.grad(sum(losses.values()), [each.logits, each.bins]))

    (all_logits, all_bins), (two_logits, two_bins) = found
    assert torch.allclose(all_logits[..., :2], two_logits, rtol=1e-6, atol=1e-9)
    assert torch.equal(all_bins, two_bins)
    assert not all_logits[..., 2].any()


def test_classes_beyond_those_of_the_data_are_negative() -> None:
    """NUM_CLASSES may be larger than the number of classes in the data."""
    head, predictions = head_of(5), random_predictions(num_classes=5)
    objects = random_objects([3, 2])._replace(labeled=torch.tensor([[True, False, True]] * 2))
    gradient = logit_gradient(head, predictions, objects)
    assert (gradient[..., 3:] > 0).all()


def test_the_loss_does_not_wait_for_the_device() -> None:
    head, predictions = head_of(3), random_predictions()
    objects = random_objects([3, 2])._replace(labeled=LABELED[:2])
    assignment = head.assign(predictions, objects)
    with Counting() as counting:
        head.losses(predictions, objects, assignment)
    assert not counting.waits


def test_unlabeled_classes_do_not_train_the_network() -> None:
    """The predictors of a class that no image labels get no gradient, bit for bit."""
    model = tiny_model(("detection",))
    number = model.detection_head.class_predictors["p3"].get_parameter("bias").numel()
    labeled = torch.arange(number) != number - 1
    batch = random_batch()
    for sample in batch:
        instances = sample["instances"]
        sample["instances"] = instances[labeled[instances.gt_classes]]
        sample["labeled_classes"] = labeled

    sum(model(batch).values()).backward()

    for predictor in model.detection_head.class_predictors.values():
        for parameter in (predictor.get_parameter("weight"), predictor.get_parameter("bias")):
            assert not parameter.grad[-1].any()
            assert parameter.grad[:-1].any()


def test_samples_without_the_key_have_all_classes_labeled() -> None:
    labeled = (True, False)  # of a mapper that keeps the keys of records
    device = torch.device("cpu")
    objects = Objects.from_instances([None, None], labeled=[None, labeled], device=device)
    assert objects.labeled.tolist() == [[True, True], [True, False]]
    assert Objects.from_instances([None, None], labeled=[None, None], device=device).labeled is None
