"""Two processes with different numbers of images give the results of one."""

import json
from pathlib import Path

import numpy as np
import torch
from detectron2.data import DatasetCatalog
from detectron2.utils import comm

from tests.data.coco_files import SIZES, Album
from tests.processes import in_two_processes
from yolor_d2.evaluation.coco.evaluator import InstanceEvaluator
from yolor_d2.evaluation.panoptic.evaluator import PanopticEvaluator
from yolor_d2.evaluation.semantic import SemanticEvaluator
from yolor_d2.structures import SemanticMap

from .predictions import make_instances


def outputs(image_id: int) -> dict:
    """Partly correct outputs of a model."""
    width, height = SIZES[image_id]
    rng = torch.Generator().manual_seed(image_id)
    labels = torch.randint(3, (height, width), generator=rng)
    masks = torch.zeros(2, height, width, dtype=torch.bool)
    masks[0, 5:15, 4:19] = masks[1, 2:20, 20:30] = True
    boxes = [[4, 5, 19, 15], [20, 2, 30, 20]]
    ids = torch.zeros(height, width, dtype=torch.int32)
    ids[9:20, 5:25] = 1
    return {
        "instances": make_instances((height, width), boxes, [0, 1], [0.5, 0.8], masks),
        "sem_seg": SemanticMap(labels, 3),
        "panoptic_seg": (ids, [{"id": 1, "category_id": 1, "isthing": True}]),
    }


def evaluate_share(folder: Path) -> None:
    """Evaluate the share of one process, every second of three images."""
    torch.set_num_threads(1)
    own_folder = folder / f"album{comm.get_rank()}"
    own_folder.mkdir(parents=True)
    Album(own_folder).register("album", "instances", "captions", "semantic", "panoptic")
    records = sorted(DatasetCatalog.get("album"), key=lambda record: record["image_id"])
    results = {}
    for evaluator_type in (InstanceEvaluator, SemanticEvaluator, PanopticEvaluator):
        evaluator = evaluator_type("album")
        evaluator.reset()
        for record in records[comm.get_rank() :: comm.get_world_size()]:
            evaluator.process([record], [outputs(record["image_id"])])
        results |= evaluator.evaluate()
    (folder / f"rank{comm.get_rank()}.json").write_text(json.dumps(results))


def read(folder: Path, rank: int) -> dict:
    return json.loads((folder / f"rank{rank}.json").read_text())


def test_two_processes_give_the_results_of_one(tmp_path, catalogs) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    evaluate_share(one)
    in_two_processes(evaluate_share, two)

    together = read(two, 0)
    assert read(two, 1) == {}
    assert together.keys() == {"bbox", "segm", "sem_seg", "panoptic_seg"}
    for task, metric in (("bbox", "AP"), ("sem_seg", "mIoU"), ("panoptic_seg", "PQ")):
        assert 0 < together[task][metric] < 100
    for task, numbers in read(one, 0).items():
        np.testing.assert_equal(together[task], numbers)
