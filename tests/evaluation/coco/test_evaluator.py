"""Metrics of boxes and masks equal those of COCO's own code."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog

from tests.data.coco_files import Album, compressed, uncompressed
from yolor_d2.data.catalog.categories import COCO_THINGS
from yolor_d2.data.catalog.datasets import register_coco_multitask
from yolor_d2.evaluation.coco import scoring as coco_scoring
from yolor_d2.evaluation.coco.evaluator import InstanceEvaluator
from yolor_d2.evaluation.missing import Missing
from yolor_d2.structures import RLEMasks, instances_to_coco_json

from ..predictions import (
    dense,
    make_instances,
    outputs_of,
    perturbed_instances,
    reference_scores,
    samples_of,
)

TASKS = ("bbox", "segm")
TWELVE = (
    "AP", "AP50", "AP75", "APs", "APm", "APl",
    "AR@1", "AR@10", "AR@100", "ARs@100", "ARm@100", "ARl@100",
)  # fmt: skip
SIZE = (24, 32)  # of image 3 of the album


def coco_file(shared_dir: Path) -> Path:
    return shared_dir / "data/coco-mini/annotations/instances_val2017.json"


def register_coco(shared_dir: Path) -> str:
    path = coco_file(shared_dir)
    register_coco_multitask(
        "coco mini", path.parents[1] / "val2017", instances_json=path, things=COCO_THINGS
    )
    return "coco mini"


def evaluate(evaluator: InstanceEvaluator, predictions: dict) -> dict:
    evaluator.reset()
    evaluator.process(samples_of(predictions), outputs_of(predictions))
    return evaluator.evaluate()


@pytest.fixture(scope="module")
def predictions(shared_dir: Path) -> dict:
    return perturbed_instances(coco_file(shared_dir))


def test_metrics_equal_those_of_pycocotools(shared_dir, catalogs, predictions, tmp_path) -> None:
    name = register_coco(shared_dir)

    results = evaluate(InstanceEvaluator(name, output_dir=str(tmp_path)), predictions)

    written = json.loads((tmp_path / "coco_instances_results.json").read_text())
    assert len(written) == sum(map(len, predictions.values())) > 500
    for task in TASKS:
        reference = reference_scores(coco_file(shared_dir), written, task)
        ours = np.array([results[task][key] for key in TWELVE])
        assert np.abs(ours / 100 - reference.stats).max() < 1e-9
        assert 10 < ours[0] < 90
        precision = reference.eval["precision"][:, :, :, 0, 2]
        for number, class_name in enumerate(COCO_THINGS.names):
            known = precision[..., number][precision[..., number] > -1]
            average = results[task][f"AP-{class_name}"]
            if known.size:
                assert average == pytest.approx(100 * known.mean(), abs=1e-7)
            else:
                assert isinstance(average, Missing)


def test_dense_masks_are_encoded_like_run_lengths(shared_dir, catalogs) -> None:
    predictions = perturbed_instances(coco_file(shared_dir), images=8)
    for image_id, instances in predictions.items():
        assert instances_to_coco_json(dense(instances), image_id) == instances_to_coco_json(
            instances, image_id
        )


def test_several_processes_give_the_scores_of_one(shared_dir, predictions) -> None:
    dataset = json.loads(coco_file(shared_dir).read_text())
    ids = COCO_THINGS.ids
    results = [
        {**result, "category_id": ids[result["category_id"]]}
        for image_id, instances in predictions.items()
        for result in instances_to_coco_json(instances, image_id)
    ]
    for task in TASKS:
        alone = coco_scoring.score(dataset, results, task)
        together = coco_scoring.score(dataset, results, task, processes=3)
        assert np.array_equal(alone.precision, together.precision)
        assert np.array_equal(alone.recall, together.recall)


# The album: image 3 has a cat (id 5, class 0), a dog (id 2, class 1) and a crowd of cats; image 7
# has no objects; image 12 is in other files only.


def perfect(masks: bool = True):
    boxes = [[4, 5, 20, 15], [22, 2, 30, 20]]
    planes = torch.zeros(2, *SIZE, dtype=torch.bool)
    planes[0, 5:15, 4:20] = planes[1, 2:20, 22:30] = True
    return make_instances(SIZE, boxes, [0, 1], masks=planes if masks else None)


def test_class_indices_become_category_ids(album: Album) -> None:
    album.register("album", "instances")
    results = evaluate(InstanceEvaluator("album"), {3: perfect(), 7: make_instances((30, 40))})

    for task in TASKS:
        assert results[task]["AP"] == pytest.approx(100)
        assert results[task]["AP-cat"] == pytest.approx(100)
        assert math.isnan(results[task]["AP-kite"])
        assert math.isnan(results[task]["APm"])
        assert results[task]["APm"].reason == "no such object is annotated"


@pytest.mark.parametrize("has_file", [True, False])
def test_classes_that_are_not_labeled_are_not_scored(album: Album, caplog, tmp_path, has_file):
    """Results of a class that is not labeled are neither right nor wrong."""
    album.register("album", "instances", labeled_thing_classes=["cat", "kite"])
    if not has_file:
        records, metadata = DatasetCatalog.get("album"), MetadataCatalog.get("album").as_dict()
        MetadataCatalog["album"] = Metadata(
            **{k: v for k, v in metadata.items() if k != "json_file"}
        )
        DatasetCatalog["album"] = lambda: records
    dog = perfect(masks=False)[1:]
    missed = type(dog).cat([perfect(masks=False)[:1], dog[:0]])
    folder = str(tmp_path)

    evaluator = InstanceEvaluator("album", tasks=("bbox",), output_dir=folder, plots=True)
    with_dog, without = (
        evaluate(evaluator, {3: found}) for found in (type(dog).cat([missed, dog, dog]), missed)
    )

    assert with_dog["bbox"] == pytest.approx(without["bbox"], nan_ok=True)
    assert with_dog["bbox"]["AP"] == with_dog["bbox"]["AP-cat"] == pytest.approx(100)
    assert "AP-dog" not in with_dog["bbox"]
    assert "AP-kite" in with_dog["bbox"]
    assert "album: not labeled, not scored: dog" in caplog.text


def test_results_on_crowds_and_for_unlisted_images_do_not_count(album: Album) -> None:
    album.register("album", "instances", "captions")
    both = perfect(masks=False)
    on_crowd = make_instances(SIZE, [[1, 17, 19, 24]], [0], scores=[0.99])
    instances = type(both).cat([on_crowd, both])
    unlisted = make_instances((36, 24), [[0, 0, 9, 9]], [1], scores=[0.99])

    results = evaluate(InstanceEvaluator("album", tasks=("bbox",)), {3: instances, 12: unlisted})

    assert results["bbox"]["AP"] == pytest.approx(100)


def test_metrics_without_results_are_zero(album: Album, caplog) -> None:
    album.register("album", "instances")
    empty = make_instances((24, 32), masks=RLEMasks([], 24, 32))
    results = evaluate(InstanceEvaluator("album"), {3: empty})

    for task in TASKS:
        assert results[task]["AP"] == results[task]["AP-dog"] == results[task]["AR@100"] == 0
    assert "1 of 2 images have no results" in caplog.text


def test_objects_of_images_without_results_are_missed(album: Album) -> None:
    album.register("album", "instances")
    results = evaluate(
        InstanceEvaluator("album"), {7: make_instances((30, 40), masks=RLEMasks([], 30, 40))}
    )
    assert results["bbox"]["AP"] == 0


def test_a_data_set_without_masks_has_no_mask_metrics(album: Album) -> None:
    with album.changed("instances") as content:
        for annotation in content["annotations"]:
            del annotation["segmentation"]
    album.register("album", "instances")

    results = evaluate(InstanceEvaluator("album"), {3: perfect()})

    assert results.keys() == {"bbox"}
    assert results["bbox"]["AP"] == pytest.approx(100)


def test_an_object_without_a_mask_is_ignored_by_mask_metrics(album: Album) -> None:
    with album.changed("instances") as content:
        del content["annotations"][1]["segmentation"]  # of the dog
    album.register("album", "instances")

    results = evaluate(InstanceEvaluator("album"), {3: perfect()})

    assert results["segm"]["AP"] == results["segm"]["AP-cat"] == pytest.approx(100)
    assert math.isnan(results["segm"]["AP-dog"])
    assert results["bbox"]["AP-dog"] == pytest.approx(100)


def test_image_ids_can_be_names_and_annotation_ids_start_at_zero(album: Album) -> None:
    with album.changed("instances") as content:
        for number, annotation in enumerate(content["annotations"]):
            annotation |= {"id": number, "image_id": "three"}
            del annotation["area"], annotation["iscrowd"]
        content["annotations"].pop()  # the former crowd
        content["images"] = [{**content["images"][0], "id": "three"}]
    album.register("album", "instances")

    results = evaluate(InstanceEvaluator("album"), {"three": perfect()})

    assert results["bbox"]["AP"] == results["segm"]["AP"] == pytest.approx(100)


def test_objects_of_unlisted_images_do_not_count(album: Album) -> None:
    """Image ids can be numbers and names in one file."""
    with album.changed("instances") as content:
        dog = content["annotations"][1]
        content["annotations"].append({**dog, "id": 9, "image_id": 77})
        content["images"].append({**content["images"][1], "id": "seven"})
    album.register("album", "instances")

    results = evaluate(InstanceEvaluator("album"), {3: perfect(), 7: make_instances((30, 40))})

    assert results["bbox"]["AP"] == results["segm"]["AP"] == pytest.approx(100)


def test_metrics_without_classes_are_missing(album: Album) -> None:
    with album.changed("instances") as content:
        content["annotations"] = content["categories"] = []
    dataset = json.loads(album.path("instances").read_text())
    headline = coco_scoring.score(dataset, [], "bbox", processes=2).headline()
    assert all(isinstance(number, Missing) for number in headline.values())


@pytest.mark.parametrize("form", ["polygon", "compressed", "uncompressed"])
def test_the_area_of_a_mask_is_optional(album: Album, form: str) -> None:
    """A diagonal half of a box of 40 x 40 is small, the box is not."""
    corner = np.asfortranarray(np.tri(40, dtype=np.uint8))
    shapes = {
        "polygon": [[0, 0, 40, 40, 0, 40]],
        "compressed": compressed(corner),
        "uncompressed": uncompressed(corner),
    }
    thing = {"id": 1, "image_id": 3, "category_id": 5, "bbox": [0, 0, 40, 40]}
    with album.changed("instances") as content:
        content["images"] = [{"id": 3, "file_name": "000003.jpg", "height": 40, "width": 40}]
        content["annotations"] = [{**thing, "segmentation": shapes[form]}]
    dataset = json.loads(album.path("instances").read_text())
    result = {"image_id": 3, "category_id": 5, "score": 1.0, "segmentation": compressed(corner)}

    headline = coco_scoring.score(dataset, [result], "segm").headline()

    assert headline["APs"] > 80
    assert isinstance(headline["APm"], Missing)


def test_masks_are_sized_by_their_own_area(album: Album) -> None:
    """A thin mask in a large box counts as small, here as a false positive."""
    masks = torch.zeros(2, 100, 100, dtype=torch.bool)
    masks[0, 40:42] = masks[1, 10, :90] = True
    box = [0, 0, 90, 90]
    with album.changed("instances") as content:
        content["images"] = [{"id": 3, "file_name": "000003.jpg", "height": 100, "width": 100}]
        shape = compressed(np.asfortranarray(masks[1].numpy().astype(np.uint8)))
        thing = {"id": 1, "image_id": 3, "category_id": 5, "iscrowd": 0, "bbox": box, "area": 90}
        content["annotations"] = [{**thing, "segmentation": shape}]
    album.register("album", "instances")

    results = evaluate(
        InstanceEvaluator("album"),
        {3: make_instances((100, 100), [box, box], [0, 0], [0.9, 0.8], masks)},
    )

    assert results["segm"]["APs"] == pytest.approx(50)
    assert results["bbox"]["AP"] == pytest.approx(100)


def test_an_unknown_class_is_refused(album: Album) -> None:
    album.register("album", "instances")
    with pytest.raises(ValueError, match="class 3 is predicted, but album has 3 classes"):
        evaluate(InstanceEvaluator("album"), {3: make_instances(SIZE, [[0, 0, 9, 9]], [3])})


def test_without_annotations_results_are_only_written(album: Album, tmp_path) -> None:
    album.register("album", "instances")
    with album.changed("instances") as content:
        del content["annotations"]
    evaluator = InstanceEvaluator("album", output_dir=str(tmp_path / "results"))

    assert evaluate(evaluator, {3: perfect()}) == {}
    assert len(json.loads((tmp_path / "results/coco_instances_results.json").read_text())) == 2
