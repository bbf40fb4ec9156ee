"""A batch of samples as tensors."""

import pytest
import torch
from detectron2.structures import Boxes, Instances, PolygonMasks

from yolor_d2.modeling.views import (
    WEAK,
    caption_ids,
    make_view,
    view_instances,
    view_masks,
    view_sem_seg,
)

from .factory import random_instances

CPU = torch.device("cpu")


def view_of(batch, prefix=""):
    return make_view(batch, prefix=prefix, tasks=frozenset({"detection"}), divisor=32, device=CPU)


def images(*sizes, key="image"):
    return [{key: torch.full((3, *size), 7, dtype=torch.uint8)} for size in sizes]


def test_images_lie_at_the_top_left_on_grey() -> None:
    view = view_of(images((33, 20), (16, 64)))

    assert view.size == (64, 64)
    assert (view.images[0, :, :33, :20] == 7).all()
    assert (view.images[0, :, 33:] == 114).all()
    assert (view.images[0, :, :, 20:] == 114).all()
    assert not view.is_weak


def test_the_weak_view_has_its_own_keys() -> None:
    batch = images((32, 32), key="weak_image")
    batch[0]["weak_instances"] = random_instances(2, size=(32, 32), rng=torch.Generator())
    view = view_of(batch, WEAK)
    assert view.is_weak
    assert view_instances(batch, view) == [batch[0]["weak_instances"]]


@pytest.mark.parametrize("stride", [1, 4])
def test_masks_of_images_of_several_sizes(stride: int) -> None:
    rng = torch.Generator().manual_seed(0)
    sizes = [(33, 20), (16, 64), (5, 7)]
    batch = images(*sizes)
    instances = [random_instances(2, size=size, stride=stride, rng=rng) for size in sizes]
    view = view_of(batch)

    targets = view_masks([*instances[:2], None], view, device=CPU)

    assert targets.known.tolist() == [True, True, False]
    assert targets.masks.shape == (4, 64 // stride, 64 // stride)
    rows, columns = -(-33 // stride), -(-20 // stride)
    assert torch.equal(targets.masks[:2, :rows, :columns], instances[0].gt_masks.tensor)
    assert targets.masks[:2].sum() == instances[0].gt_masks.tensor.sum()


def test_objects_without_masks_keep_their_place() -> None:
    with_masks = random_instances(1, size=(32, 32), rng=torch.Generator())
    without = random_instances(3, size=(32, 32), rng=torch.Generator())
    without.remove("gt_masks")

    targets = view_masks([without, with_masks], view_of(images((32, 32), (32, 32))), device=CPU)

    assert targets.known.tolist() == [False, True]
    assert targets.masks.shape == (4, 8, 8)
    assert torch.equal(targets.masks[3], with_masks.gt_masks.tensor[0])


def test_polygons_are_drawn() -> None:
    instances = Instances((32, 32))
    instances.gt_boxes = Boxes(torch.tensor([[4.0, 8.0, 12.0, 16.0]]))
    instances.gt_classes = torch.tensor([0])
    instances.gt_masks = PolygonMasks([[[4, 8, 12, 8, 12, 16, 4, 16]]])

    targets = view_masks([instances], view_of(images((32, 32))), device=CPU)

    assert targets.masks.shape == (1, 32, 32)
    assert targets.masks[0, 8:16, 4:12].all()
    assert targets.masks.sum() == 64


def test_no_objects_at_all() -> None:
    targets = view_masks([None, None], view_of(images((32, 32), (32, 32))), device=CPU)
    assert targets.masks.shape == (0, 8, 8)


def test_unknown_labels_and_padding_are_ignored() -> None:
    batch = images((33, 20), (16, 64))
    batch[0]["sem_seg"] = torch.full((9, 5), 3)

    labels = view_sem_seg(batch, view_of(batch), ignore_value=255, device=CPU)

    assert labels.shape == (2, 16, 16)
    assert (labels[0, :9, :5] == 3).all()
    assert (labels[0] != 255).sum() == 45
    assert (labels[1] == 255).all()


def test_targets_of_two_strides_are_refused() -> None:
    batch = images((64, 64), (64, 64))
    for sample, cells in zip(batch, (16, 64), strict=True):
        sample["sem_seg"] = torch.zeros(cells, cells, dtype=torch.int64)
    with pytest.raises(ValueError, match="common stride"):
        view_sem_seg(batch, view_of(batch), ignore_value=255, device=CPU)


def test_captions_are_padded() -> None:
    batch = [{"caption_ids": torch.tensor([1, 9, 2])}, {}, {"caption_ids": [1, 2]}]

    ids, known = caption_ids(batch, pad_id=0, device=CPU)

    assert ids.tolist() == [[[1, 9, 2]], [[0, 0, 0]], [[1, 2, 0]]]
    assert known.tolist() == [True, False, True]


def test_an_image_may_have_several_captions() -> None:
    batch = [{"caption_ids": torch.tensor([[1, 9, 2], [1, 2, 0]])}, {"caption_ids": [[1, 8, 7, 2]]}]

    ids, _ = caption_ids(batch, pad_id=0, device=CPU)

    assert ids.tolist() == [[[1, 9, 2, 0], [1, 2, 0, 0]], [[1, 8, 7, 2], [0, 0, 0, 0]]]
