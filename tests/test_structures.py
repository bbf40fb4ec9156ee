"""Run-length masks behave like a tensor of masks in detectron2."""

import copy
import json
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.structures import Boxes, Instances
from detectron2.utils.visualizer import ColorMode, Visualizer
from pycocotools import mask as coco_mask
from torch import Tensor

from yolor_d2.structures import RLEMasks

NUMBER, HEIGHT, WIDTH = 5, 30, 40


def run_lengths(masks: Tensor) -> RLEMasks:
    planes = masks.numpy().astype(np.uint8)
    rles = [coco_mask.encode(np.asfortranarray(plane)) for plane in planes]
    rles = [{**rle, "counts": rle["counts"].decode()} for rle in rles]
    return RLEMasks(rles, height=masks.shape[1], width=masks.shape[2])


@pytest.fixture
def dense() -> Tensor:
    blobs = torch.rand(NUMBER, 3, 4, generator=torch.Generator().manual_seed(0)) > 0.5
    return blobs.repeat_interleave(10, 1).repeat_interleave(10, 2)  # (NUMBER, HEIGHT, WIDTH)


def instances(masks: Tensor | RLEMasks) -> Instances:
    corner = torch.tensor([10.0, 5, 30, 25])
    return Instances(
        (HEIGHT, WIDTH),
        pred_boxes=Boxes(corner.repeat(len(masks), 1)),
        scores=torch.linspace(0.9, 0.1, len(masks)),
        pred_classes=torch.arange(len(masks)),
        pred_masks=masks,
    )


@pytest.mark.parametrize("item", [2, -1, np.int64(3), torch.tensor(4)])
def test_an_index_returns_one_mask(dense: Tensor, item: Any) -> None:
    mask = run_lengths(dense)[item]
    assert mask.dtype == torch.bool
    assert torch.equal(mask, dense[int(item)])


@pytest.mark.parametrize(
    "item",
    [
        slice(1, 4),
        slice(0, 0),
        [3, 1],
        torch.tensor([4, 0, 0]),
        torch.tensor([True, False, True, False, False]),
        np.array([False, True, True, False, True]),
        torch.zeros(0, dtype=torch.int64),
    ],
)
def test_several_indices_return_run_lengths(dense: Tensor, item: Any) -> None:
    some = run_lengths(dense)[item]
    assert isinstance(some, RLEMasks)
    assert torch.equal(torch.from_numpy(np.asarray(some)), dense[item])


def test_wrong_indices_are_refused(dense: Tensor) -> None:
    with pytest.raises(IndexError):
        run_lengths(dense)[NUMBER]
    with pytest.raises(IndexError):
        run_lengths(dense)[torch.tensor([True, False])]


def test_length_iteration_union_copies_and_json(dense: Tensor) -> None:
    masks = run_lengths(dense)
    assert len(masks) == NUMBER
    assert [mask.shape for mask in masks] == [(HEIGHT, WIDTH)] * NUMBER
    assert all(torch.equal(a, b) for a, b in zip(masks, dense, strict=True))
    assert np.asarray(masks, dtype=np.uint8).dtype == np.uint8
    assert torch.equal(masks.any(dim=0), dense.any(dim=0))
    with pytest.raises(ValueError, match="dim 0"):
        masks.any(dim=1)
    for other in (copy.deepcopy(masks), pickle.loads(pickle.dumps(masks)), masks.to("cpu")):
        assert other == masks
    json.dumps(masks.rles)


def test_masks_are_decoded_onto_a_device(dense: Tensor) -> None:
    moved = run_lengths(dense).to(dtype=torch.bool, device=torch.device("meta"))
    assert moved[0].device.type == moved[1:][0].device.type == "meta"


def test_instances_are_selected_and_concatenated(dense: Tensor) -> None:
    found = instances(run_lengths(dense))
    kept = found[found.scores > 0.4]
    assert np.array_equal(np.asarray(kept.pred_masks), dense[:3])
    joined = Instances.cat([kept, found[3:], found[:0]])
    assert np.array_equal(np.asarray(joined.pred_masks), dense)
    assert np.array_equal(np.asarray(found[2].pred_masks), dense[2:3])
    with pytest.raises(ValueError, match="different sizes"):
        RLEMasks.cat([run_lengths(dense), run_lengths(dense[:, 1:])])


def test_detectron2_writes_the_same_predictions(dense: Tensor) -> None:
    lines = instances_to_coco_json(instances(run_lengths(dense)), 7)
    assert len(lines) == NUMBER
    assert lines == instances_to_coco_json(instances(dense), 7)


@pytest.mark.parametrize("mode", [ColorMode.IMAGE, ColorMode.IMAGE_BW])
@pytest.mark.parametrize("number", [0, 1, NUMBER])
def test_detectron2_draws_the_same_picture(dense: Tensor, mode: ColorMode, number: int) -> None:
    def picture(masks: Tensor | RLEMasks) -> np.ndarray:
        np.random.seed(0)  # noqa: NPY002 - the Visualizer draws colors from it
        image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
        drawing = Visualizer(image, instance_mode=mode).draw_instance_predictions(instances(masks))
        return drawing.get_image()

    assert np.array_equal(picture(run_lengths(dense[:number])), picture(dense[:number]))
