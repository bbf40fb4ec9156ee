"""Predictions from a checkpoint alone equal those of the evaluation."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from PIL import Image

from yolor_d2 import Predictor
from yolor_d2.checkpoint.release import write_release
from yolor_d2.checkpoint.saving import load_checkpoint, save_checkpoint
from yolor_d2.checkpoint.weights import read_weights
from yolor_d2.data import build_test_loader
from yolor_d2.engine.trainer import build_for_inference
from yolor_d2.errors import BadFileError
from yolor_d2.inference.prediction import Prediction
from yolor_d2.tasks import TASKS
from yolor_d2.visualization import LAYERS

from ..saved_networks import NAME, Saved, own_scenes, save_network

THRESHOLD = 0.3


@pytest.fixture(scope="module")
def predictor(saved: Saved) -> Predictor:
    return Predictor(saved.path, device="cpu", score_threshold=THRESHOLD, batch_size=4)


def evaluated(saved: Saved, *, threshold: float = THRESHOLD) -> list[dict[str, Any]]:
    """Results of the evaluation on the network's data set, without objects of low scores."""
    with own_scenes(saved.path.parent / "scenes"):
        cfg = saved.cfg.clone()
        cfg.MODEL.WEIGHTS = str(saved.path)
        model = build_for_inference(cfg)
        results = [model(batch)[0] for batch in build_test_loader(cfg, NAME)]
    for result in results:
        result["instances"] = result["instances"][result["instances"].scores > threshold]
    return results


def assert_same(predictions: Sequence[Prediction], results: Sequence[dict[str, Any]]) -> None:
    """Up to rounding differences between batch sizes."""
    assert len(predictions) == len(results)
    for prediction, result in zip(predictions, results, strict=True):
        found, expected = prediction.instances, result["instances"]
        assert found is not None
        assert len(found) == len(expected) > 0
        torch.testing.assert_close(found.scores, expected.scores, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(
            found.pred_boxes.tensor, expected.pred_boxes.tensor, atol=1e-2, rtol=1e-4
        )
        assert found.pred_classes.tolist() == expected.pred_classes.tolist()
        masks = np.asarray(found.pred_masks), np.asarray(expected.pred_masks)
        assert (masks[0] != masks[1]).mean() < 1e-3
        labels = [r.argmax(dim=0) for r in (prediction.sem_seg, result["sem_seg"])]
        assert (labels[0] != labels[1]).float().mean() < 1e-3
        (ids, segments), (true_ids, true_segments) = prediction.panoptic_seg, result["panoptic_seg"]
        assert (ids != true_ids).float().mean() < 1e-3
        assert [s["category_id"] for s in segments] == [s["category_id"] for s in true_segments]
        assert prediction.caption == result["caption"]
        assert prediction.caption_score == pytest.approx(result["caption_score"], abs=1e-3)


def test_results_equal_the_evaluations(saved: Saved, predictor: Predictor) -> None:
    results = evaluated(saved)
    assert_same([predictor(path) for path in saved.images], results)
    assert_same(list(predictor(saved.images[0].parent)), results)  # batches of 4 and 2


def test_from_a_checkpoint_alone(saved: Saved, predictor: Predictor, tmp_path: Path) -> None:
    """In another process and folder, without data set and tokenizer file."""
    for name in ("model.pth", "model.pth.sha256"):
        (tmp_path / name).write_bytes((saved.path.parent / name).read_bytes())
    code = f"""
import json, yolor_d2
predictor = yolor_d2.Predictor("model.pth", device="cpu", score_threshold={THRESHOLD})
print(json.dumps(predictor({str(saved.images[0])!r}).to_json()))
"""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    found, expected = json.loads(result.stdout), predictor(saved.images[0]).to_json()
    assert found.keys() == expected.keys()
    for ours, theirs in zip(found["instances"], expected["instances"], strict=True):
        assert ours["bbox"] == pytest.approx(theirs["bbox"], abs=1e-2)
        # The category ids of the scenes start at 1.
        assert (ours["category_id"], ours["category_name"]) == (
            theirs["category_id"],
            theirs["category_name"],
        )
    assert found["caption"] == expected["caption"]


def test_classes_have_the_ids_of_their_data_set(saved: Saved, predictor: Predictor) -> None:
    names = ["ball", "box", "star", "heart", "triangle", "diamond", "cross", "moon"]
    assert predictor.metadata.thing_classes[:8] == names
    assert predictor.metadata.thing_dataset_id_to_contiguous_id[1] == 0
    assert len(set(predictor.metadata.panoptic_colors)) == 19
    # The created metadata is not registered any more.
    assert predictor.metadata.name not in MetadataCatalog.list()


def test_configuration_names_no_temporary_file(saved: Saved, predictor: Predictor) -> None:
    assert predictor.cfg.TOKENIZER.MODEL == ""
    own = Predictor(saved.cfg, weights=saved.path, device="cpu")
    assert own.cfg.TOKENIZER.MODEL == saved.cfg.TOKENIZER.MODEL


def test_metadata_of_a_registered_data_set_is_used(saved: Saved) -> None:
    with own_scenes(saved.path.parent / "scenes"):
        known = Predictor(saved.path, device="cpu").metadata
        assert known is MetadataCatalog.get(NAME)


def test_older_checkpoints_have_no_category_ids(saved: Saved, tmp_path: Path) -> None:
    content = load_checkpoint(saved.path)
    del content["provenance"]["class_ids"]
    save_checkpoint(content, tmp_path / "old.pth")
    old = Predictor(tmp_path / "old.pth", device="cpu")
    found = old(saved.images[0]).to_json()["instances"]
    names = old.metadata.thing_classes
    assert all(names[thing["category_id"]] == thing["category_name"] for thing in found)


def test_from_a_release_and_from_a_configuration(
    saved: Saved, predictor: Predictor, tmp_path: Path
) -> None:
    release = tmp_path / "release.safetensors"
    write_release(read_weights(saved.path), release)
    config = tmp_path / "config.yaml"
    config.write_text(saved.cfg.dump())
    expected = predictor(saved.images[0])
    frozen = saved.cfg.clone()
    frozen.freeze()
    for source, weights in [(release, None), (config, saved.path), (frozen, saved.path)]:
        other = Predictor(source, weights=weights, device="cpu", score_threshold=THRESHOLD)
        assert_same([other(saved.images[0])], [expected.results])
    assert frozen == saved.cfg


@pytest.mark.parametrize(
    ("tasks", "known"),
    [
        (["detection"], {"instances"}),
        (["semantic"], {"sem_seg"}),
        (["caption"], {"caption", "caption_score"}),
        (["detection", "mask", "semantic"], {"instances", "sem_seg", "panoptic_seg"}),
    ],
)
def test_some_tasks(saved: Saved, predictor: Predictor, tasks: list[str], known: set[str]) -> None:
    """Captions of this network use detected objects, also without the detection task."""
    some = Predictor(saved.path, device="cpu", tasks=tasks, score_threshold=THRESHOLD)
    found, everything = some(saved.images[0]), predictor(saved.images[0])
    assert set(found.results) == known
    assert found.caption in (None, everything.caption)
    assert ("mask" in tasks) == ("mask" in some.model.heads)
    assert found.draw().shape[2] == 3


@pytest.mark.parametrize(
    ("tasks", "layers"),
    [
        (TASKS, LAYERS),
        (["detection", "caption"], ("boxes", "labels", "caption")),
        (["detection", "mask"], ("masks", "boxes", "labels")),
        (["semantic"], ("semantic", "labels")),
    ],
)
def test_layers_of_predictions(saved: Saved, tasks: Sequence[str], layers: tuple[str, ...]) -> None:
    assert Predictor(saved.path, device="cpu", tasks=tasks).layers == layers


def test_score_threshold(saved: Saved, predictor: Predictor) -> None:
    strict = Predictor(saved.path, device="cpu", score_threshold=0.6)(saved.images[0])
    scores = predictor(saved.images[0]).instances.scores
    torch.testing.assert_close(strict.instances.scores, scores[scores > 0.6])


def test_networks_trained_on_bgr(tmp_path: Path) -> None:
    saved = save_network(tmp_path, ("detection", "mask", "semantic"), "INPUT.FORMAT", "BGR")
    blue = np.zeros((90, 96, 3), np.uint8)
    blue[..., 2] = 255  # of RGB
    predictor = Predictor(saved.path, device="cpu")
    received = []
    predictor.model.register_forward_pre_hook(
        lambda _, inputs: received.append(inputs[0][0]["image"])
    )
    predictor(blue)
    assert received[0][:, 0, 0].tolist() == [255, 0, 0]


def test_a_large_image(saved: Saved) -> None:
    """Twelve megapixels: dense masks of 100 objects would take gigabytes."""
    image = cv2.resize(cv2.imread(str(saved.images[0])), (4000, 3000))
    found = Predictor(saved.path, device="cpu", tasks=["detection", "mask"])(image)
    assert found.instances.image_size == (3000, 4000)
    assert found.instances.pred_boxes.tensor[:, 2].max() > 1000
    assert found.instances.pred_masks[0].shape == (3000, 4000)


def test_a_tiny_image(predictor: Predictor) -> None:
    found = predictor(np.zeros((1, 1, 3), np.uint8))
    assert (found.width, found.height) == (1, 1)
    json.dumps(found.to_json(), allow_nan=False)


def test_all_kinds_of_sources(saved: Saved, predictor: Predictor) -> None:
    path = saved.images[0]
    pixels = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    expected = predictor(path).results
    sources = [path, str(path), pixels, Image.open(path)]
    assert_same([predictor(source) for source in sources], [expected] * 4)
    several = predictor(sources)
    assert iter(several) is several
    assert_same(list(several), [expected] * 4)


def test_a_broken_file_among_others(saved: Saved, predictor: Predictor, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_text("no picture")
    with pytest.raises(BadFileError, match=r"broken\.jpg: is not an image"):
        predictor(broken)
    with pytest.raises(BadFileError, match=r"broken\.jpg: is not an image"):
        list(predictor([saved.images[0], broken]))
    errors: list[BadFileError] = []
    found = list(predictor([broken, *saved.images[:2]], on_error=errors.append))
    assert [p.source for p in found] == [str(path) for path in saved.images[:2]]
    assert [error.path for error in errors] == [str(broken)]


def test_weights_without_class_names(saved: Saved, tmp_path: Path) -> None:
    """Classes are numbered, and have colors for pictures."""
    content = load_checkpoint(saved.path)
    save_checkpoint({k: content[k] for k in ("model", "tokenizer")}, tmp_path / "bare.pth")
    config = tmp_path / "config.yaml"
    config.write_text(saved.cfg.dump())
    counts = ("MODEL.DETECTION_HEAD.NUM_CLASSES", 10, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 19)
    bare = Predictor(config, weights=tmp_path / "bare.pth", device="cpu", opts=counts)
    found = bare(saved.images[0])
    assert found.to_json()["instances"][0]["category_name"].startswith("class ")
    assert (found.draw(["boxes"]) != found.draw(["boxes"], score_threshold=2)).any()


def test_neither_names_nor_numbers_of_classes(saved: Saved, tmp_path: Path) -> None:
    content = load_checkpoint(saved.path)
    save_checkpoint(content | {"provenance": {"config": saved.cfg.dump()}}, tmp_path / "bare.pth")
    with pytest.raises(ValueError, match=r"bare\.pth: contains neither names nor number"):
        Predictor(tmp_path / "bare.pth", device="cpu")


def test_a_caption_only_network(tmp_path: Path) -> None:
    saved = save_network(tmp_path, ("caption",), "MODEL.CAPTION_HEAD.REGION_FEATURE", "")
    content = load_checkpoint(saved.path)
    content["provenance"].update(classes={}, class_ids={})  # as for data sets with captions only
    save_checkpoint(content, tmp_path / "captions.pth")
    assert Predictor(tmp_path / "captions.pth", device="cpu")(saved.images[0]).caption


def test_contradictory_arguments_are_refused(saved: Saved, tmp_path: Path) -> None:
    content = load_checkpoint(saved.path)
    save_checkpoint({"model": content["model"]}, tmp_path / "bare.pth")
    content["provenance"]["config"] = "MODEL: {NO_SUCH_KEY: 1}\n"
    save_checkpoint(content, tmp_path / "newer.pth")
    detection = save_network(tmp_path / "few", ("detection",))
    for arguments, message in [
        ((tmp_path / "nothing.pth",), "no such file"),
        ((tmp_path / "bare.pth",), "contains no configuration"),
        ((tmp_path / "newer.pth",), r"unknown here \(MODEL.NO_SUCH_KEY 1\): pass a configuration"),
        (("COCO/yolor_elan_mtl.yaml",), "a configuration needs weights"),
        (("COCO/yolor_elan_mlt.yaml",), "there is COCO/yolor_elan_mtl.yaml|no configuration"),
    ]:
        with pytest.raises(ValueError, match=message):
            Predictor(*arguments, device="cpu")
    for options, message in [
        ({"tasks": ["caption"]}, "has no caption, only detection"),
        ({"tasks": ["boxes"]}, "MODEL.YOLOR.TASKS has boxes"),
        ({"device": "abacus"}, "device abacus: "),
        ({"opts": ["MODEL.FOO", 1]}, r"MODEL\.FOO"),
        ({"weights": saved.path}, "is not a configuration"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        *(({"score_threshold": t}, "must be between 0 and 1") for t in (-0.1, 25, float("nan"))),
        ({"opts": ["MODEL.META_ARCHITECTURE", "RetinaNet"]}, "is RetinaNet; it must be YOLOR"),
        ({"opts": ["MODEL.META_ARCHITECTURE", "Nothing"]}, "is Nothing; it must be YOLOR"),
    ]:
        with pytest.raises(ValueError, match=message):
            Predictor(detection.path, **{"device": "cpu", **options})


def test_importing_the_package_does_not_import_the_predictor() -> None:
    code = (
        "import sys, yolor_d2; assert 'yolor_d2.inference' not in sys.modules; yolor_d2.Predictor"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
