"""The runner computes the same results as the network's code, without PyTorch."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import Metadata
from detectron2.structures import Instances
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from yolor_d2.data.catalog.class_tables import describe_classes
from yolor_d2.data.views.transforms import resize_long_side, to_planes
from yolor_d2.export.bundle import RUNNER
from yolor_d2.letterbox import Content, boxes_to_image, pad_images
from yolor_d2.modeling.heads import AnchorFreeHead
from yolor_d2.modeling.heads.caption.decoding import Decoding, Vocabulary, decode
from yolor_d2.modeling.heads.detection import Suppression
from yolor_d2.modeling.heads.semantic.maps import labels_at
from yolor_d2.modeling.panoptic import merge
from yolor_d2.tokenizer import Tokenizer

from ..inference.test_prediction import METADATA, prediction
from ..modeling.factory import tiny_model
from ..modeling.heads.caption.test_decoding import Language, LanguageStep, listed_log_probs
from ..modeling.heads.mask.test_full_size import FRAMES, STRIDE, masks_of, objects


@pytest.fixture(scope="module")
def files() -> Iterator[SimpleNamespace]:
    """The runner's modules, imported as in an exported folder."""
    sys.path.insert(0, str(RUNNER))
    names = ["runner_results", "runner_captions"]
    yield SimpleNamespace(**{name[7:]: importlib.import_module(name) for name in names})
    sys.path.remove(str(RUNNER))
    for name in names:
        del sys.modules[name]


@pytest.mark.parametrize("multi_label", [True, False])
def test_the_same_objects(files: SimpleNamespace, multi_label: bool) -> None:
    rng = torch.Generator().manual_seed(0)
    first = torch.rand(600, 2, generator=rng) * 60
    boxes = torch.cat([first, first + torch.rand(600, 2, generator=rng) * 30], dim=1)
    scores = (torch.rand(600, 10, generator=rng) ** 4 * 200).round() / 200  # with ties
    head = tiny_model(("detection",)).detection_head
    assert isinstance(head, AnchorFreeHead)
    head.suppression = Suppression(
        score_thresh=0.1,
        nms_thresh=0.3,
        multi_label=multi_label,
        pre_nms_topk=1000,
        detections_per_image=90,
    )

    expected = head.detect(scores, boxes, (96, 96))
    found, points, classes = files.results.detect(
        boxes.numpy(),
        scores.numpy(),
        score_threshold=0.1,
        nms_threshold=0.3,
        multi_label=multi_label,
        pre_nms_topk=1000,
        detections_per_image=90,
    )

    assert len(expected) == 90
    np.testing.assert_array_equal(points, expected.point_index)
    np.testing.assert_array_equal(classes, expected.pred_classes)
    np.testing.assert_array_equal(found, expected.pred_boxes.tensor)


@pytest.mark.parametrize("resolution", ["input", "fast"])
@pytest.mark.parametrize(("content", "canvas", "image"), FRAMES)
def test_the_same_masks(
    files: SimpleNamespace, content: Content, canvas: Any, image: Any, resolution: str
) -> None:
    predictions = objects(canvas)
    expected = masks_of(predictions, content, image, resolution).numpy()
    found = files.results.full_masks(
        *(values.numpy() for values in predictions),
        stride=STRIDE,
        resolution=resolution,
        content=content,
        width=image[0],
        height=image[1],
    )
    assert found.shape == expected.shape
    assert expected[0].any() or image == (1, 1)
    # Values next to the threshold can be rounded differently.
    assert (found != expected).mean() < 1e-4


@pytest.mark.parametrize(("content", "canvas", "image"), FRAMES)
def test_the_same_places(files: SimpleNamespace, content: Content, canvas: Any, image: Any) -> None:
    boxes = objects(canvas)[2]
    size = {"width": image[0], "height": image[1]}
    logits = torch.randn(7, canvas[1] // 4, canvas[0] // 4, generator=torch.manual_seed(0))
    where = {"content": content, "canvas": canvas[::-1]}
    np.testing.assert_allclose(
        files.results.boxes_to_image(boxes.numpy(), content=content, **size),
        boxes_to_image(boxes, content, **size),
        rtol=1e-6,
    )
    labels = files.results.labels_at(logits.numpy(), **where, **size)
    expected = labels_at(logits, content, canvas=where["canvas"], **size).numpy()
    assert labels.dtype == expected.dtype
    assert (labels != expected).mean() < 1e-4


def test_the_same_panoptic_map(files: SimpleNamespace) -> None:
    rng = torch.Generator().manual_seed(0)
    masks = torch.zeros(9, 40, 50, dtype=torch.bool)
    for mask in masks[1:]:  # the first object has no pixels
        y, x = torch.randint(30, (2,), generator=rng).tolist()
        mask[y : y + 15, x : x + 12] = True
    instances = Instances((40, 50))
    instances.scores = torch.tensor([0.9, 0.9, 0.8, 0.8, 0.7, 0.3, 0.6, 0.6, 0.95])
    instances.pred_classes = torch.tensor([0, 1, 2, 3, 4, 5, 0, 1, 2])
    instances.pred_masks = masks
    labels = torch.randint(4, (4, 5), generator=rng).repeat_interleave(10, 0)
    labels = labels.repeat_interleave(10, 1)
    tables = {"thing_to_panoptic": [0, 2, 4, -1, 5], "leaf_to_panoptic": [1, -1, 3]}
    limits = {"overlap_threshold": 0.5, "stuff_area_limit": 200, "score_threshold": 0.5}

    expected, segments = merge(
        instances, labels, **{k: torch.tensor(v) for k, v in tables.items()}, **limits
    )
    arrays = (masks, instances.scores, instances.pred_classes, labels)
    found, found_segments = files.results.merge(*(a.numpy() for a in arrays), **tables, **limits)

    np.testing.assert_array_equal(found, expected)
    assert {s["isthing"] for s in segments} == {True, False}
    assert [{**s, "score": 0} for s in found_segments] == [{**s, "score": 0} for s in segments]


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 1000),
    ties=st.booleans(),
    beam_size=st.integers(1, 4),
    max_tokens=st.integers(2, 9),
    min_tokens=st.integers(0, 6),
    length_penalty=st.sampled_from([0.0, 0.7]),
    no_repeat_ngram=st.integers(0, 3),
    finished_in_beam=st.booleans(),
)
def test_the_same_captions(
    files: SimpleNamespace, seed: int, ties: bool, beam_size: int, **how: Any
) -> None:
    language = Language.random(seed, images=1, words=4, ties=ties, unused=2)
    pad, bos, eos, usable = vocabulary = Vocabulary(*language.vocabulary)
    expected = decode(
        LanguageStep(language),
        vocabulary,
        Decoding(beam_size=beam_size, **how),
        num_images=1,
        device=torch.device("cpu"),
    )
    theirs, length = LanguageStep(language), int(expected.lengths[0])
    position = 0

    def step(words: np.ndarray, parents: np.ndarray) -> np.ndarray:
        nonlocal position
        before = torch.from_numpy(parents)[None] if position else None
        logits = theirs(torch.from_numpy(words)[None], position, before)[0]
        position += 1
        return logits.numpy()

    search = files.captions.Search(
        pad_id=pad, bos_id=bos, eos_id=eos, usable=usable, beam_size=beam_size, **how
    )
    ids, score = files.captions.beam_search(step, search)

    if ties:  # rounding decides which of equal texts is found
        gains = [listed_log_probs(language, ids[:end])[ids[end]] for end in range(1, len(ids))]
        assert score == pytest.approx(float(sum(gains)), rel=1e-5)
    else:
        assert score == pytest.approx(float(expected.scores[0]), rel=1e-5)
        assert ids == expected.ids[0, :length].tolist()


def test_the_same_words(files: SimpleNamespace, tmp_path: Path) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "Star", ""]
    tokenizer = Tokenizer("\r\n".join(words).encode())
    tokenizer.save(tmp_path / "tokenizer.model")
    theirs = files.captions.load_tokenizer(tmp_path / "tokenizer.model")
    for ids in ([5, 6, 5], [5, 1, 4, 6], []):
        assert theirs.decode(ids) == tokenizer.decode([2, *ids, 3])


@pytest.fixture(scope="module")
def runner(files: SimpleNamespace) -> Iterator[Any]:
    """The runner's main module."""
    yield importlib.import_module("runner")
    for name in ("runner", "runner_facts", "runner_graphs"):
        del sys.modules[name]


@pytest.mark.parametrize("pad", ["corner", "center"])
@pytest.mark.parametrize("size", [(64, 64), (75, 110), (301, 97), (1, 500)])
def test_the_same_canvas(runner: Any, size: tuple[int, int], pad: str) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(256, size=(*size, 3), dtype=np.uint8)
    resized = torch.from_numpy(to_planes(resize_long_side(image, 100)))
    expected, contents = pad_images([resized], divisor=32, mode=pad)
    shared = {"size": 100, "divisor": 32, "pad": pad, "pad_value": 114}
    canvas, content = runner.letterbox(image, **shared, channels="RGB")
    np.testing.assert_array_equal(canvas, expected)
    assert content == contents[0]
    swapped, _ = runner.letterbox(image, **shared, channels="BGR")
    np.testing.assert_array_equal(swapped, canvas[:, ::-1])


@pytest.mark.parametrize("metadata", [METADATA, Metadata()])
def test_the_same_json(runner: Any, metadata: Metadata) -> None:
    """Names and ids are those of the data set, as COCO's tools need them."""
    expected = prediction(metadata=metadata)
    ids, segments = expected.panoptic_seg
    found = {
        "boxes": expected.instances.pred_boxes.tensor.numpy(),
        "scores": expected.instances.scores.numpy(),
        "classes": expected.instances.pred_classes.numpy(),
        "masks": expected.instances.pred_masks.numpy(),
        "semantic": expected.sem_seg.argmax(dim=0).numpy(),
        "panoptic": ids.numpy(),
        "segments": segments,
    }
    converted = runner.to_json(found, describe_classes([metadata]))
    for name, plain in converted.items():
        for each in plain:
            rle = coco_mask.frPyObjects(each["segmentation"], *each["segmentation"]["size"])
            each["segmentation"] = {**rle, "counts": rle["counts"].decode()}
        assert plain == expected.to_json()[name]
    assert converted.keys() == {"instances", "segments_info", "sem_seg"}


@pytest.mark.parametrize("fill", [0.0, 0.5, 1.0])
def test_run_lengths_are_cocos(runner: Any, fill: float) -> None:
    mask = np.random.default_rng(0).random((7, 5)) < fill
    rle = runner.run_lengths(mask)
    encoded = coco_mask.frPyObjects(rle, *rle["size"])
    np.testing.assert_array_equal(coco_mask.decode(encoded), mask)
