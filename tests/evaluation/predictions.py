"""Partly wrong predictions, and their reference scores by pycocotools."""

import contextlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.structures import Boxes, Instances
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from yolor_d2.structures import RLEMasks

Json = dict[str, Any]


def make_instances(
    size: tuple[int, int],
    boxes: Sequence[Sequence[float]] = (),
    classes: Sequence[int] = (),
    scores: Sequence[float] | None = None,
    masks: torch.Tensor | RLEMasks | None = None,
) -> Instances:
    """Predicted instances of an image of (height, width); boxes are x0, y0, x1, y1."""
    instances = Instances(size)
    instances.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    instances.pred_classes = torch.tensor(classes, dtype=torch.int64)
    instances.scores = torch.tensor([0.9] * len(boxes) if scores is None else scores)
    if masks is not None:
        instances.pred_masks = masks
    return instances


def perturbed_instances(path: Path, *, seed: int = 0, images: int | None = None) -> Json:
    """Predictions of a mediocre detector for the images of a COCO file, by image id."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(path))
    rng = np.random.default_rng(seed)
    index = {category: number for number, category in enumerate(sorted(coco.cats))}
    predictions = {}
    for image in coco.dataset["images"][:images]:
        height, width = image["height"], image["width"]
        boxes, classes, scores, rles = [], [], [], []
        for annotation in coco.imgToAnns[image["id"]]:
            for _ in range(rng.integers(0, 4)):  # missed, detected or duplicated
                x, y, w, h = np.array(annotation["bbox"]) + rng.normal(0, 2, 4)
                boxes.append([x, y, x + max(w, 1), y + max(h, 1)])
                same = rng.random() < 0.8
                classes.append(index[annotation["category_id"]] if same else rng.integers(80))
                scores.append(rng.integers(1, 20) / 20)  # with ties
                moved = np.roll(coco.annToMask(annotation), rng.integers(-3, 4, 2), (0, 1))
                rle = coco_mask.encode(np.asfortranarray(moved))
                rles.append({"size": rle["size"], "counts": rle["counts"].decode()})
        masks = RLEMasks(rles, height, width)
        predictions[image["id"]] = make_instances((height, width), boxes, classes, scores, masks)
    return predictions


def dense(instances: Instances) -> Instances:
    """Copy of the instances with a mask tensor."""
    copy = Instances(instances.image_size, **instances.get_fields())
    copy.pred_masks = torch.from_numpy(np.asarray(instances.pred_masks))
    return copy


def samples_of(predictions: Json) -> list[Json]:
    return [{"image_id": image_id} for image_id in predictions]


def outputs_of(predictions: Json) -> list[Json]:
    return [{"instances": instances} for instances in predictions.values()]


def reference_scores(path: Path, results: list[Json], task: str) -> COCOeval:
    """Score results with pycocotools."""
    if task == "segm":
        results = [{k: v for k, v in result.items() if k != "bbox"} for result in results]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        evaluation = COCOeval(truth, truth.loadRes(json.loads(json.dumps(results))), task)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation
