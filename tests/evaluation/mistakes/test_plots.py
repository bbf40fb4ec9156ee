"""Plots show the given numbers; confusion counts by hand."""

from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
import pytest

from tests.data.coco_files import Album
from yolor_d2.evaluation.coco.evaluator import InstanceEvaluator
from yolor_d2.evaluation.mistakes.box_confusion import box_confusion
from yolor_d2.evaluation.mistakes.plots import draw_confusion, draw_precision_recall

from ..predictions import make_instances

CAT, DOG = 5, 2


def entry(category: int, *box: float, score: float = 0.9, image: int = 1, **more: int) -> dict:
    return {"image_id": image, "category_id": category, "bbox": box, "score": score, **more}


def test_confusion_by_hand() -> None:
    objects = [
        entry(CAT, 0, 0, 10, 10),
        entry(DOG, 20, 0, 10, 10),
        entry(DOG, 40, 0, 10, 10),
        entry(CAT, 60, 0, 40, 40, iscrowd=1),
        entry(CAT, 0, 0, 10, 10, image=2),
    ]
    results = [
        entry(CAT, 0, 0, 10, 8),
        entry(CAT, 0, 0, 10, 9),  # the better of two
        entry(CAT, 21, 0, 10, 10),
        entry(DOG, 40, 0, 10, 10, score=0.1),
        entry(DOG, 61, 1, 10, 10),  # on the crowd
        entry(DOG, 0, 30, 10, 10),
    ]
    #                          cat dog nothing
    assert box_confusion(objects, results, [CAT, DOG]).tolist() == [
        [1, 0, 1],  # cats: one found, one (in the second image) missed
        [1, 0, 1],  # dogs: one predicted as a cat, one missed
        [1, 1, 0],  # no object: the second result on a cat, a dog on the background
    ]


def test_no_results_and_no_objects() -> None:
    assert box_confusion([], [], [CAT]).tolist() == [[0, 0], [0, 0]]
    assert box_confusion([], [entry(CAT, 0, 0, 1, 1)], [CAT]).tolist() == [[0, 0], [1, 0]]


def test_precision_recall_curves(tmp_path: Path) -> None:
    """The curve of a better class is higher; classes without objects have none."""
    backend = mpl.get_backend()
    path = tmp_path / "new/precision_recall.png"
    precision = np.stack([np.full(101, 0.9), np.full(101, 0.2), np.full(101, -1)])

    draw_precision_recall(path, precision, ["good", "bad", "absent"])

    picture = cv2.imread(str(path)).astype(int)
    axes = picture[:, : picture.shape[1] * 2 // 3]
    colored = np.ptp(axes, axis=2).max(axis=1) > 60  # rows with the color of a class
    rows = np.flatnonzero(colored)
    assert len(rows) > 0
    assert rows.min() < 0.25 * len(picture) < 0.6 * len(picture) < rows.max()
    assert mpl.get_backend() == backend


@pytest.mark.parametrize("classes", [0, 1, 80])
def test_any_number_of_classes(tmp_path: Path, classes: int) -> None:
    names = [str(number) for number in range(classes)]
    draw_precision_recall(tmp_path / "curves.png", np.full((classes, 101), 0.5), names)
    draw_confusion(tmp_path / "confusion.png", np.eye(classes + 1, dtype=int), [*names, "nothing"])
    assert all(cv2.imread(str(path)) is not None for path in tmp_path.iterdir())


def test_confusion_matrices_are_normalized_by_row(tmp_path: Path) -> None:
    """A row with 1000 of 1000 looks like one with 1 of 1."""
    draw_confusion(tmp_path / "a.png", np.array([[1000, 0], [0, 1]]), ["a", "b"])
    draw_confusion(tmp_path / "b.png", np.array([[1, 0], [0, 1000]]), ["a", "b"])
    draw_confusion(tmp_path / "c.png", np.array([[0, 1], [1, 0]]), ["a", "b"])
    first, second, third = (cv2.imread(str(tmp_path / f"{name}.png")) for name in "abc")
    assert np.array_equal(first, second)
    assert not np.array_equal(first, third)


def test_evaluators_draw_on_request(album: Album, tmp_path: Path) -> None:
    album.register("album", "instances")
    for plots in (False, True):
        evaluator = InstanceEvaluator(
            "album", tasks=("bbox",), output_dir=str(tmp_path), plots=plots
        )
        evaluator.reset()
        instances = make_instances((24, 32), [[4, 5, 20, 15]], [0])
        evaluator.process([{"image_id": 3}], [{"instances": instances}])
        evaluator.evaluate()
        drawn = {path.name for path in (tmp_path / "bbox").glob("*.png")}
        assert drawn == ({"precision_recall.png", "confusion.png"} if plots else set())
