"""Semantic metrics: definitions, ignored pixels, unusable maps."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import SemSegEvaluator
from PIL import Image

from tests.data.coco_files import SEMANTIC, Album
from tests.modeling.factory import random_batch, tiny_model
from yolor_d2.data.files.semantic_files import write_index_png
from yolor_d2.evaluation.missing import Missing
from yolor_d2.evaluation.semantic import SemanticEvaluator, SemanticScores, thing_flags
from yolor_d2.structures import SemanticMap

HEIGHT, WIDTH = 20, 30


def register_maps(folder: Path, maps: list[np.ndarray], names: list[str], **metadata) -> list[dict]:
    """Register images that only have semantic maps."""
    folder.mkdir(exist_ok=True)
    records = []
    for number, labels in enumerate(maps):
        path = folder / f"{number}.png"
        write_index_png(path, labels)
        records.append({"file_name": f"{number}.jpg", "sem_seg_file_name": str(path)})
    DatasetCatalog.register("maps", lambda: records)
    MetadataCatalog.get("maps").set(stuff_classes=names, ignore_label=255, **metadata)
    return records


def evaluate(evaluator, records: list[dict], predicted: list[np.ndarray]) -> dict:
    evaluator.reset()
    for record, labels in zip(records, predicted, strict=True):
        output = SemanticMap(torch.from_numpy(labels), num_classes=99)
        evaluator.process([record], [{"sem_seg": output}])
    return evaluator.evaluate()["sem_seg"]


def random_maps(number: int, classes: list[int], seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.choice(classes, (HEIGHT, WIDTH)).astype(np.uint8) for _ in range(number)]


def test_metrics_follow_their_definitions(catalogs, tmp_path) -> None:
    """Class 3 is only predicted, class 4 does not occur."""
    truth = random_maps(3, [0, 1, 2, 255], seed=0)
    predicted = random_maps(3, [0, 1, 2, 3], seed=1)
    records = register_maps(tmp_path / "maps", truth, list("abcde"))

    results = evaluate(SemanticEvaluator("maps"), records, predicted)

    true, predicted = (np.stack(maps).ravel() for maps in (truth, predicted))
    true, predicted = true[true < 255], predicted[true < 255]
    ious, shares, accuracies = [], [], []
    for c in range(4):
        is_true, is_predicted = true == c, predicted == c
        ious.append((is_true & is_predicted).sum() / (is_true | is_predicted).sum())
        shares.append(is_true.mean())
        accuracies.append(is_predicted[is_true].mean() if c < 3 else 0)
    assert results["mIoU"] == pytest.approx(100 * np.mean(ious))
    assert results["fwIoU"] == pytest.approx(100 * np.dot(ious, shares))
    assert results["mACC"] == pytest.approx(100 * np.mean(accuracies[:3]))
    assert results["pACC"] == pytest.approx(100 * (true == predicted).mean())
    assert results["IoU-c"] == pytest.approx(100 * ious[2])
    assert results["ACC-b"] == pytest.approx(100 * accuracies[1])
    assert results["IoU-d"] == 0
    assert math.isnan(results["IoU-e"])
    assert math.isnan(results["ACC-d"])
    assert results["classes"] == 5
    assert "stuff_mIoU" not in results  # the metadata do not name the things


def test_metrics_equal_those_of_detectron2(catalogs, tmp_path) -> None:
    truth = random_maps(4, [0, 1, 2, 255], seed=2)
    predicted = random_maps(4, [0, 1, 2], seed=3)
    records = register_maps(tmp_path / "maps", truth, list("abc"))

    ours = evaluate(SemanticEvaluator("maps"), records, predicted)
    theirs = evaluate(SemSegEvaluator("maps", distributed=False), records, predicted)

    for key in ("mIoU", "fwIoU", "mACC", "pACC", "IoU-a", "ACC-c"):
        assert ours[key] == pytest.approx(theirs[key], abs=1e-9)


def test_stuff_metrics_ignore_pixels_of_things(catalogs, tmp_path) -> None:
    """By hand for eight pixels; class 0 is a thing, 1 and 2 are stuff."""
    truth = np.array([[0, 0, 1, 1, 1, 1, 2, 255]], np.uint8)
    predicted = np.array([[1, 0, 1, 1, 2, 0, 2, 1]], np.uint8)
    records = register_maps(
        tmp_path / "maps", [truth], ["cat", "sky", "sea"], thing_classes=["cat", "dog"]
    )

    results = evaluate(SemanticEvaluator("maps"), records, [predicted])

    sky, sea = 2 / 4, 1 / 2  # the thing pixel that is predicted as sky is ignored
    assert results["stuff_mIoU"] == pytest.approx(100 * (sky + sea) / 2)
    assert results["stuff_fwIoU"] == pytest.approx(100 * (4 * sky + sea) / 5)
    assert results["stuff_classes"] == 2
    assert results["mIoU"] == pytest.approx(100 * (1 / 3 + 2 / 5 + 1 / 2) / 3)


def test_thing_flags(album: Album) -> None:
    album.register("album", "instances", "semantic")
    assert thing_flags(MetadataCatalog.get("album")).tolist() == [True, True, False]
    metadata = MetadataCatalog.get("detectron2's own")
    metadata.stuff_classes = ["things", "sky"]
    assert thing_flags(metadata).tolist() == [True, False]


def test_logits_are_scored_and_images_without_a_map_skipped(album: Album) -> None:
    """Image 7 has no map, image 12 no prediction; a tenth of image 3 is wrong."""
    album.register("album", "instances", "semantic")
    records = {r["image_id"]: r for r in DatasetCatalog.get("album")}
    truth = torch.ones(24, 32, dtype=torch.int64)
    truth[:, :16] = 0
    truth[:, 28:] = 2
    logits = torch.nn.functional.one_hot(truth, len(SEMANTIC)).permute(2, 0, 1).float()
    evaluator = SemanticEvaluator("album")

    evaluator.process([records[3], records[7]], [{"sem_seg": logits}] * 2)

    results = evaluator.evaluate()["sem_seg"]
    known = 24 * 32 - 16
    assert results["pACC"] == pytest.approx(100 * (known - 24 * 4) / known)


def test_no_images(album: Album, caplog) -> None:
    album.register("album", "semantic")
    assert SemanticEvaluator("album").evaluate() == {}
    assert "no image" in caplog.text


def test_metrics_without_labeled_pixels_are_missing(catalogs, tmp_path) -> None:
    ignored = np.full((2, 2), 255, np.uint8)
    records = register_maps(tmp_path / "maps", [ignored], ["a", "b"])

    results = evaluate(SemanticEvaluator("maps"), records, [ignored * 0])

    assert all(isinstance(results[key], Missing) for key in ("mIoU", "fwIoU", "mACC", "pACC"))


@pytest.mark.parametrize(
    ("labels", "predicted", "message"),
    [
        (np.full((4, 4), 2), np.zeros((4, 4)), "0.png: has labels that are not classes of maps"),
        (
            np.zeros((4, 4)),
            np.full((4, 4), 2),
            "class 2 is predicted, but maps has 2 semantic classes",
        ),
    ],
)
def test_invalid_labels_are_refused(catalogs, tmp_path, labels, predicted, message) -> None:
    labels = labels.astype(np.uint8)
    records = register_maps(tmp_path / "maps", [labels], ["a", "b"])
    with pytest.raises(ValueError, match=message):
        evaluate(SemanticEvaluator("maps"), records, [predicted.astype(np.uint8)])


@pytest.mark.parametrize(
    "pixels", [np.eye(4, dtype=bool), np.eye(4, dtype=np.uint16), np.zeros((4, 4, 3), np.uint8)]
)
def test_a_map_without_class_indices_is_refused(catalogs, tmp_path, pixels) -> None:
    records = register_maps(tmp_path / "maps", [np.zeros((4, 4), np.uint8)], ["a", "b"])
    Image.fromarray(pixels).save(records[0]["sem_seg_file_name"])
    with pytest.raises(ValueError, match=r"0\.png: is not a map of 8-bit class indices"):
        evaluate(SemanticEvaluator("maps"), records, [np.zeros((4, 4), np.uint8)])


def test_more_than_255_classes_are_refused(catalogs, tmp_path) -> None:
    register_maps(tmp_path / "maps", [], [str(number) for number in range(256)])
    with pytest.raises(ValueError, match="maps: has 256 semantic classes"):
        SemanticEvaluator("maps")


def test_broken_maps_are_skipped(catalogs, tmp_path, caplog) -> None:
    """The first is not an image, the second truncated, the third of another size."""
    truth = [*random_maps(2, [0, 1], seed=5), np.ones((4, 5), np.uint8), np.eye(4, dtype=np.uint8)]
    records = register_maps(tmp_path / "maps", truth, ["a", "b"])
    broken, truncated = (Path(record["sem_seg_file_name"]) for record in records[:2])
    broken.write_bytes(b"not an image")
    truncated.write_bytes(truncated.read_bytes()[:-30])
    predicted = [truth[0] * 0, truth[1] * 0, np.zeros((4, 4), np.uint8), truth[3]]

    results = evaluate(SemanticEvaluator("maps"), records, predicted)

    assert results["mIoU"] == results["pACC"] == 100
    for name in ("0.png", "1.png"):
        assert f"{name}: skipped, cannot be read" in caplog.text
    assert "2.png: skipped, its shape is (4, 5), the image's (4, 4)" in caplog.text


def test_predictions_are_written_on_request_only(catalogs, tmp_path) -> None:
    truth = random_maps(1, [0, 1], seed=4)
    records = register_maps(
        tmp_path / "maps", truth, ["a", "b"], stuff_dataset_id_to_contiguous_id={7: 0, 9: 1}
    )
    for save in (False, True):
        evaluate(
            SemanticEvaluator("maps", output_dir=str(tmp_path / "out"), save_predictions=save),
            records,
            truth,
        )
        assert (tmp_path / "out").exists() == save
    written = json.loads((tmp_path / "out/sem_seg_predictions.json").read_text())
    assert [entry["category_id"] for entry in written] == [7, 9]


def test_scores_of_a_confusion_matrix() -> None:
    confusion = np.array([[3, 1], [0, 4]])
    scores = SemanticScores.of(confusion)
    assert scores.iou.tolist() == pytest.approx([75, 80])
    assert scores.accuracy.tolist() == pytest.approx([75, 100])
    assert scores.frequency.tolist() == [0.5, 0.5]


def test_maps_of_the_model_have_the_size_of_the_image(catalogs, tmp_path) -> None:
    """An image of 37 x 53, resized to 50 x 70 on a canvas of 64 x 96."""
    model = tiny_model(("semantic",)).eval()
    sample = {"image": random_batch(seed=0)[0]["image"][:, :50, :70], "height": 37, "width": 53}
    names = [str(number) for number in range(19)]
    records = register_maps(tmp_path / "maps", [np.zeros((37, 53), np.uint8)], names)
    evaluator = SemanticEvaluator("maps")

    evaluator.process([sample | records[0]], model([sample]))

    assert evaluator.evaluate()["sem_seg"]["classes"] == 19
