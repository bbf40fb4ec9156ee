"""A view of a batch: images and targets on one canvas."""

import pytest
import torch
from detectron2.structures import Boxes, Instances, PolygonMasks

from yolor_d2.modeling.views import STRONG, WEAK, View, make_view

from .factory import random_instances

CPU = torch.device("cpu")
ALL = frozenset({"detection", "mask", "semantic", "caption"})


def view_of(batch, prefix=STRONG, tasks=ALL) -> View:
    return make_view(batch, prefix=prefix, tasks=tasks, divisor=32, device=CPU)


def images(*sizes, key="image"):
    return [{key: torch.full((3, *size), 7, dtype=torch.uint8)} for size in sizes]


def test_images_are_padded_with_gray_at_the_right_and_bottom() -> None:
    view = view_of(images((33, 20), (16, 64)))

    assert view.size == (64, 64)
    assert (view.images[0, :, :33, :20] == 7).all()
    assert (view.images[0, :, 33:] == 114).all()
    assert (view.images[0, :, :, 20:] == 114).all()
    assert not view.is_weak


def test_a_view_has_the_targets_of_its_tasks_only() -> None:
    view = view_of(images((32, 32)), tasks=frozenset({"caption"}))
    assert view.objects is view.masks is view.labels is None
    assert view.captions is not None


def test_the_weak_view_has_its_own_keys() -> None:
    batch = images((32, 32), key="weak_image")
    batch[0]["weak_instances"] = random_instances(2, size=(32, 32), rng=torch.Generator())
    batch[0]["weak_mask_stride"] = 4
    view = view_of(batch, WEAK)
    assert view.is_weak
    assert view.objects_complete
    assert len(view.objects.boxes) == len(view.masks.masks) == 2


@pytest.mark.parametrize("stride", [1, 4])
def test_masks_of_images_of_several_sizes(stride: int) -> None:
    rng = torch.Generator().manual_seed(0)
    sizes = [(33, 20), (16, 64), (5, 7)]
    batch = images(*sizes)
    for sample, size in zip(batch[:2], sizes, strict=False):
        sample["instances"] = random_instances(2, size=size, stride=stride, rng=rng)
        sample["mask_stride"] = stride

    view = view_of(batch)

    assert view.masks.known.tolist() == [True, True, False]
    assert not view.objects_complete
    assert view.masks.masks.shape == (4, 64 // stride, 64 // stride)
    rows, columns = -(-33 // stride), -(-20 // stride)
    planes = batch[0]["instances"].gt_masks.tensor
    assert torch.equal(view.masks.masks[:2, :rows, :columns], planes)
    assert view.masks.masks[:2].sum() == planes.sum()


def test_objects_without_masks_keep_their_place() -> None:
    batch = images((32, 32), (32, 32))
    for sample, count in zip(batch, (3, 1), strict=True):
        sample["instances"] = random_instances(count, size=(32, 32), rng=torch.Generator())
    batch[0]["instances"].remove("gt_masks")
    batch[1]["mask_stride"] = 4

    masks = view_of(batch).masks

    assert masks.known.tolist() == [False, True]
    assert masks.masks.shape == (4, 8, 8)
    assert torch.equal(masks.masks[3], batch[1]["instances"].gt_masks.tensor[0])


def test_polygons_become_bitmasks() -> None:
    instances = Instances((32, 32))
    instances.gt_boxes = Boxes(torch.tensor([[4.0, 8.0, 12.0, 16.0]]))
    instances.gt_classes = torch.tensor([0])
    instances.gt_masks = PolygonMasks([[[4, 8, 12, 8, 12, 16, 4, 16]]])
    batch = images((32, 32))
    batch[0]["instances"] = instances

    masks = view_of(batch).masks.masks

    assert masks.shape == (1, 32, 32)
    assert masks[0, 8:16, 4:12].all()
    assert masks.sum() == 64


def test_no_objects_at_all() -> None:
    assert view_of(images((32, 32), (32, 32))).masks.masks.shape == (0, 8, 8)


def test_missing_labels_and_padding_are_ignored() -> None:
    batch = images((33, 20), (16, 64))
    batch[0] |= {"sem_seg": torch.full((9, 5), 3), "sem_seg_stride": 4}

    labels = view_of(batch).labels

    assert labels.shape == (2, 16, 16)
    assert (labels[0, :9, :5] == 3).all()
    assert (labels[0] != 255).sum() == 45
    assert (labels[1] == 255).all()


def test_targets_of_two_strides_are_refused() -> None:
    batch = images((64, 64), (64, 64))
    for sample, stride in zip(batch, (4, 1), strict=True):
        sample["sem_seg"] = torch.zeros(64 // stride, 64 // stride, dtype=torch.int64)
        sample["sem_seg_stride"] = stride
    with pytest.raises(ValueError, match=r'"sem_seg_stride" of \[1, 4\]'):
        view_of(batch)


def test_targets_of_another_stride_are_refused() -> None:
    """Without the key, targets have the size of their image, as those of detectron2's mappers."""
    batch = images((64, 64))
    batch[0]["sem_seg"] = torch.zeros(16, 16, dtype=torch.int64)
    with pytest.raises(ValueError, match=r'\(16, 16\).*"sem_seg_stride" 1'):
        view_of(batch)


def test_captions_are_padded() -> None:
    batch = images((32, 32), (32, 32), (32, 32))
    batch[0] |= {"caption_ids": torch.tensor([1, 9, 2]), "image_id": 7}
    batch[2] |= {"caption_ids": [1, 2], "image_id": "x"}

    captions = view_of(batch).captions

    assert captions.ids.tolist() == [[[1, 9, 2]], [[0, 0, 0]], [[1, 2, 0]]]
    assert captions.known.tolist() == [True, False, True]
    assert captions.image_ids == [7, None, "x"]


def test_an_image_may_have_several_captions() -> None:
    batch = images((32, 32), (32, 32))
    batch[0]["caption_ids"] = torch.tensor([[1, 9, 2], [1, 2, 0]])
    batch[1]["caption_ids"] = [[1, 8, 7, 2]]

    ids = view_of(batch).captions.ids

    assert ids.tolist() == [[[1, 9, 2, 0], [1, 2, 0, 0]], [[1, 8, 7, 2], [0, 0, 0, 0]]]
