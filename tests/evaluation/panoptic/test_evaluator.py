"""Panoptic quality: by hand, against a slow reference implementation, and on real maps."""

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from tests.data.coco_files import Album
from yolor_d2.data.catalog.categories import COCO_PANOPTIC
from yolor_d2.data.catalog.datasets import register_coco_multitask
from yolor_d2.evaluation.missing import Missing
from yolor_d2.evaluation.panoptic.evaluator import PanopticEvaluator
from yolor_d2.evaluation.panoptic.quality import Quality, Segments, count_segments

CAT, DOG, SKY = range(3)


def segments(rows: list[list[int]], categories: list[int], crowds: tuple[int, ...] = ()):
    """Segments of a small map; crowds are segment numbers from 1 on."""
    numbers = range(1, len(categories) + 1)
    return Segments.of(np.array(rows), list(numbers), categories, [n in crowds for n in numbers])


def count(truth: Segments, predicted: Segments) -> list[list[float]]:
    """Sum of overlaps, matches, missed and false segments of cats, dogs and sky."""
    return count_segments(truth, predicted, 3).T.tolist()


NOTHING = [0, 0, 0, 0]


def test_segments_match_by_more_than_half() -> None:
    truth = segments([[1, 1, 1, 1, 2, 2, 2, 2]], [CAT, SKY])
    # IoU 3/5 for the cat, 3/4 for the sky.
    predicted = segments([[1, 1, 1, 0, 2, 2, 2, 1]], [CAT, SKY])
    assert count(truth, predicted) == [[0.6, 1, 0, 0], NOTHING, [0.75, 1, 0, 0]]


def test_half_is_no_match() -> None:
    truth = segments([[1, 1, 2, 2]], [CAT, SKY])
    predicted = segments([[1, 0, 2, 2]], [CAT, SKY])
    assert count(truth, predicted) == [[0, 0, 1, 1], NOTHING, [1, 1, 0, 0]]


def test_segments_of_different_categories_do_not_match() -> None:
    truth = segments([[1, 1, 2, 2]], [CAT, SKY])
    predicted = segments([[1, 1, 2, 2]], [DOG, SKY])
    assert count(truth, predicted) == [[0, 0, 1, 0], [0, 0, 0, 1], [1, 1, 0, 0]]


def test_pixels_without_ground_truth_do_not_count() -> None:
    """They are not in unions; a prediction that is mostly on them is not false."""
    truth = segments([[1, 1, 0, 0, 0, 0, 2, 2]], [CAT, SKY])
    mostly_known = segments([[1, 1, 1, 1, 2, 2, 2, 3]], [CAT, DOG, SKY])
    assert count(truth, mostly_known) == [[1, 1, 0, 0], NOTHING, [0, 0, 1, 1]]
    half_known = segments([[1, 1, 0, 0, 0, 2, 2, 0]], [CAT, DOG])
    assert count(truth, half_known) == [[1, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]


def test_crowds_need_no_match_and_excuse_their_category() -> None:
    truth = segments([[1, 1, 1, 1, 1, 1, 2, 2]], [CAT, SKY], crowds=(1,))
    predicted = segments([[1, 1, 2, 2, 3, 3, 4, 4]], [CAT, CAT, DOG, SKY])
    assert count(truth, predicted) == [NOTHING, [0, 0, 0, 1], [1, 1, 0, 0]]
    nothing = segments([[0] * 8], [])
    assert count(truth, nothing) == [NOTHING, NOTHING, [0, 0, 1, 0]]


def test_crowd_and_unknown_excuse_together() -> None:
    truth = segments([[1, 0, 2, 2]], [CAT, SKY], crowds=(1,))
    predicted = segments([[1, 1, 1, 2]], [CAT, SKY])
    assert count(truth, predicted) == [NOTHING, NOTHING, [0, 0, 1, 1]]


def test_segments_without_pixels() -> None:
    truth = segments([[1, 1]], [CAT, DOG])
    predicted = segments([[2, 2]], [DOG, CAT])
    assert count(truth, predicted) == [[1, 1, 0, 0], [0, 0, 1, 0], NOTHING]


def test_quality_of_counts() -> None:
    """Cats: two matches, one missed, one false; dogs: one missed; no sky."""
    quality = Quality.of(np.array([[1.6, 0, 0], [2, 0, 0], [1, 1, 0], [1, 0, 0]]))
    np.testing.assert_allclose(quality.segmentation, [80, 0, np.nan])
    np.testing.assert_allclose(quality.recognition, [200 / 3, 0, np.nan])
    np.testing.assert_allclose(quality.panoptic, [160 / 3, 0, np.nan])
    assert quality.means(np.array([True] * 3)) == pytest.approx((80 / 3, 40, 100 / 3))
    assert all(isinstance(m, Missing) for m in quality.means(np.array([False, False, True])))


def slow_count(truth: Segments, predicted: Segments, num_categories: int) -> np.ndarray:
    """Reference implementation with a loop over segments."""
    pairs = Counter(zip(truth.map.ravel().tolist(), predicted.map.ravel().tolist(), strict=True))
    true_areas, areas = Counter(truth.map.ravel().tolist()), Counter(predicted.map.ravel().tolist())
    counts = np.zeros((4, num_categories))
    matched_true, matched = set(), set()
    for (t, p), common in pairs.items():
        if t == 0 or p == 0 or truth.is_crowd[t - 1]:
            continue
        category = truth.categories[t - 1]
        overlap = common / (true_areas[t] + areas[p] - common - pairs[0, p])
        if category == predicted.categories[p - 1] and overlap > 0.5:
            counts[:2, category] += overlap, 1
            matched_true.add(t)
            matched.add(p)
    for t, category in enumerate(truth.categories, start=1):
        counts[2, category] += t not in matched_true and not truth.is_crowd[t - 1]
    for p, category in enumerate(predicted.categories, start=1):
        if p in matched or areas[p] == 0:
            continue
        excused = pairs[0, p] + sum(
            pairs[t, p]
            for t, (true_category, crowd) in enumerate(
                zip(truth.categories, truth.is_crowd, strict=True), start=1
            )
            if crowd and true_category == category
        )
        counts[3, category] += excused / areas[p] <= 0.5
    return counts


def random_segments(rng: np.random.Generator, *, like: np.ndarray | None = None) -> Segments:
    """Overlapping rectangles; with `like`, the rectangles of that map, slightly moved."""
    number = int(rng.integers(1, 8))
    ids = np.zeros((24, 32), int)
    if like is not None:
        ids = np.roll(like % (number + 1), rng.integers(-2, 3, 2), (0, 1))
    for k in range(1, number + 1) if like is None else ():
        y, x, h, w = rng.integers(0, (20, 28, 16, 20))
        ids[y : y + h, x : x + w] = k
    categories = (np.arange(number) % 3).tolist()
    return Segments.of(ids, list(range(1, number + 1)), categories, rng.random(number) < 0.2)


def test_counts_equal_the_reference_implementation() -> None:
    rng = np.random.default_rng(0)
    total = np.zeros(4)
    for _ in range(200):
        truth = random_segments(rng)
        predicted = random_segments(rng, like=truth.map)
        ours, slow = (f(truth, predicted, 3) for f in (count_segments, slow_count))
        np.testing.assert_allclose(ours, slow, rtol=1e-12)
        total += ours.sum(axis=1)
    assert total.min() > 50  # all counts occur


# Real maps.


@pytest.fixture
def sample(shared_dir: Path, catalogs: None) -> list[dict]:
    """Records of two images, with ids and segments in the form of a model's output."""
    folder = shared_dir / "data/coco-panoptic-sample"
    register_coco_multitask(
        "sample",
        folder / "input_images",
        panoptic_json=folder / "panoptic_examples.json",
        panoptic_root=folder / "panoptic_examples",
        panoptic=COCO_PANOPTIC,
    )
    records = DatasetCatalog.get("sample")
    for record in records:
        colors = np.asarray(Image.open(record["pan_seg_file_name"]), np.int64)
        record["ids"] = torch.from_numpy(colors @ (1, 256, 65536)).int()
    return records


def evaluate(evaluator: PanopticEvaluator, records: list[dict]) -> dict:
    evaluator.reset()
    for r in records:
        evaluator.process([r], [{"panoptic_seg": (r["ids"], r["segments_info"])}])
    return evaluator.evaluate()["panoptic_seg"]


def test_ground_truth_scores_100(sample) -> None:
    results = evaluate(PanopticEvaluator("sample"), sample)
    headline = {key: number for key, number in results.items() if "-" not in key}
    assert headline == {f"{n}{s}": 100 for n in ("PQ", "SQ", "RQ") for s in ("", "_th", "_st")}
    assert results["PQ-person"] == results["SQ-tree-merged"] == 100
    assert math.isnan(results["PQ-banana"])


def test_a_changed_and_a_missed_segment(sample) -> None:
    """In the first image the tree becomes a wall, in the second one person is missed."""
    evaluator = PanopticEvaluator("sample")
    tree = COCO_PANOPTIC.names.index("tree-merged")
    people = [
        s for r in sample for s in r["segments_info"] if s["category_id"] == 0 and not s["iscrowd"]
    ]
    trees = [s for r in sample for s in r["segments_info"] if s["category_id"] == tree]
    found = {s["category_id"] for r in sample for s in r["segments_info"] if not s["iscrowd"]}
    first, second = sample
    changed = next(s for s in first["segments_info"] if s["category_id"] == tree)
    changed["category_id"] = COCO_PANOPTIC.names.index("wall-brick")
    person = next(s for s in second["segments_info"] if s["category_id"] == 0)
    second["segments_info"].remove(person)
    assert COCO_PANOPTIC.names.index("wall-brick") not in found

    results = evaluate(evaluator, sample)

    recall = 1 - 1 / len(people)
    assert results["RQ-person"] == pytest.approx(100 * 2 * recall / (1 + recall))
    assert results["SQ-person"] == 100
    precision_like = (len(trees) - 1) / (len(trees) - 0.5)
    assert results["PQ-tree-merged"] == pytest.approx(100 * precision_like)
    assert results["PQ-wall-brick"] == 0
    lost = (1 - 2 * recall / (1 + recall)) + (1 - precision_like)
    assert results["PQ"] == pytest.approx(100 * (len(found) - lost) / (len(found) + 1))


def test_segments_of_images_without_results_are_missed(sample, caplog) -> None:
    results = evaluate(PanopticEvaluator("sample"), sample[:1])
    people = [
        sum(s["category_id"] == 0 and not s["iscrowd"] for s in record["segments_info"])
        for record in sample
    ]
    assert results["RQ-person"] == pytest.approx(100 * people[0] / (people[0] + people[1] / 2))
    assert "1 of 2 images were not evaluated" in caplog.text


def test_predictions_are_written_in_coco_format(sample, tmp_path) -> None:
    evaluate(PanopticEvaluator("sample", output_dir=str(tmp_path)), sample)
    assert list(tmp_path.iterdir()) == []
    evaluator = PanopticEvaluator("sample", output_dir=str(tmp_path), save_predictions=True)

    evaluate(evaluator, sample)

    folder = tmp_path / "panoptic_seg"
    written = json.loads((folder / "predictions.json").read_text())["annotations"]
    for entry, record in zip(written, sample, strict=True):
        colors = np.asarray(Image.open(folder / entry["file_name"]), np.int64)
        assert np.array_equal(colors @ (1, 256, 65536), record["ids"])
        assert entry["image_id"] == record["image_id"]
        ids = [COCO_PANOPTIC.ids[s["category_id"]] for s in record["segments_info"]]
        assert [s["category_id"] for s in entry["segments_info"]] == ids


def test_results_of_unlisted_images_do_not_count(album: Album, caplog) -> None:
    """Image 7 is in other files only; the output for image 3 has no panoptic map."""
    album.register("album", "instances", "panoptic")
    evaluator = PanopticEvaluator("album")
    nothing = (torch.zeros(30, 40, dtype=torch.int32), [])
    evaluator.process([{"image_id": 7}, {"image_id": 3}], [{"panoptic_seg": nothing}, {}])
    assert evaluator.evaluate() == {}
    assert "no panoptic map was evaluated" in caplog.text


@pytest.mark.parametrize(
    ("damage", "reason"),
    [("size", "its shape is (30, 40, 3), the image's (24, 32)"), ("bytes", "cannot be read")],
)
def test_segments_of_a_broken_map_are_missed(album: Album, caplog, damage, reason) -> None:
    """Image 12 is a copy of image 3; only its dog and sky are matched."""
    with album.changed("panoptic") as content:
        entry = content["annotations"][0]
        content["annotations"].append(entry | {"image_id": 12, "file_name": "000012.png"})
    path = album.panoptic / "000003.png"
    (album.panoptic / "000012.png").write_bytes(path.read_bytes())
    ids = torch.from_numpy(np.asarray(Image.open(path), np.int64) @ (1, 256, 65536)).int()
    if damage == "size":
        Image.new("RGB", (40, 30)).save(path)
    else:
        path.write_bytes(path.read_bytes()[:-30])
    album.register("album", "panoptic")
    table = MetadataCatalog.get("album").panoptic_dataset_id_to_contiguous_id
    segments = [{"id": 300, "category_id": table[2]}, {"id": 70000, "category_id": table[40]}]
    records = [{"image_id": i, "ids": ids, "segments_info": segments} for i in (3, 12)]

    results = evaluate(PanopticEvaluator("album"), records)

    assert results["RQ-dog"] == results["RQ-sky"] == pytest.approx(100 / 1.5)
    assert f"000003.png: skipped, {reason}" in caplog.text
    assert "1 of 2 images were not evaluated" in caplog.text
