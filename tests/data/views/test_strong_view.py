"""The strong view: pixels, boxes, masks and semantic map tell the same story, whatever is drawn."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest

from yolor_d2.data.catalog.categories import IGNORE_LABEL
from yolor_d2.data.errors import BadFileError
from yolor_d2.data.files.semantic_files import read_index_png, write_index_png
from yolor_d2.data.views.canvas import Targets
from yolor_d2.data.views.reading import RecordReader
from yolor_d2.data.views.strong_view import Draw, StrongPolicy, StrongView
from yolor_d2.data.views.transforms import ViewPolicy
from yolor_d2.letterbox import PAD_VALUE

from ..factory import Record, annotation, make_record

SIZE = 128
ALL = frozenset({"detection", "mask", "semantic"})
# One geometric step at a time: no colour, no second mosaic, nothing pasted, not mirrored.
PLAIN = StrongPolicy(size=SIZE, copy_paste=0, mixup=0, hsv=(0, 0, 0), flip=0)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    """Images of several shapes; the last has no object."""
    folder = tmp_path_factory.mktemp("images")
    boxes: list[list[tuple[float, float, float, float]]] = [
        [(8, 8, 40, 30), (60, 50, 110, 100)],
        [(0, 0, 50, 60), (100, 10, 119, 50), (70, 60, 90, 75)],
        [(30, 200, 90, 280)],
        [(10, 10, 300, 200), (320, 20, 390, 260)],
        [],
    ]
    sizes = [(120, 110), (120, 80), (100, 300), (400, 300), (90, 90)]
    return [
        make_record(folder, f"r{k}", width=w, height=h, boxes=b)
        for k, (b, (w, h)) in enumerate(zip(boxes, sizes, strict=True))
    ]


def strong_view(policy: StrongPolicy = PLAIN, **options: Any) -> StrongView:
    defaults: dict[str, Any] = {"mask_stride": 4, "sem_seg_stride": 4, "report_bad": lambda e: None}
    return StrongView(policy, reader=RecordReader(), **(defaults | options))


def view_of(
    records: list[Record], seed: int, policy: StrongPolicy = PLAIN, mosaic: bool = True
) -> tuple[np.ndarray, Targets]:
    """One sample, its partners drawn from all records."""
    rng = np.random.default_rng(seed)
    draw = Draw(rng, lambda rng: records[rng.integers(len(records))], mosaic)
    return strong_view(policy)(records[seed % len(records)], draw, ALL)


def inner(mask: np.ndarray) -> np.ndarray:
    """The cells of a mask with no other cell beside them, where rounding decides nothing."""
    padded = np.pad(mask, 1).astype(np.uint8)
    return cv2.erode(padded, np.ones((3, 3), np.uint8))[1:-1, 1:-1].astype(bool)


def centres(image: np.ndarray) -> np.ndarray:
    """The brightness around the centre of each cell of stride 4."""
    red = image[..., 0].astype(int)
    blocks = red.reshape(SIZE // 4, 4, SIZE // 4, 4)[:, 1:3, :, 1:3]
    return blocks.transpose(0, 2, 1, 3).reshape(SIZE // 4, SIZE // 4, 4)


@pytest.mark.parametrize("view", [ViewPolicy(), ViewPolicy(degrees=30, shear=8)])
@pytest.mark.parametrize("mosaic", [True, False])
@pytest.mark.parametrize("flip", [0, 1])
def test_pixels_and_all_targets_agree(
    records: list[Record], view: ViewPolicy, mosaic: bool, flip: int
) -> None:
    """Objects are bright on black, so every cell can be checked against what the pixels show."""
    seen = 0
    for seed in range(40):
        policy = PLAIN._replace(view=view, flip=flip)
        image, targets = view_of(records, seed, policy, mosaic)
        brightness = centres(image)
        is_object, is_black = (brightness > 170).all(axis=2), (brightness < 30).all(axis=2)
        is_fill = (brightness == PAD_VALUE).all(axis=2)
        assert targets.sem_seg is not None
        assert targets.masks is not None
        assert (targets.sem_seg[inner(is_object)] < 3).all()  # the objects' classes
        assert (targets.sem_seg[inner(is_black)] == 5).all()
        assert (targets.sem_seg[inner(is_fill)] == IGNORE_LABEL).all()
        assert not targets.masks.any(axis=0)[inner(is_black) | inner(is_fill)].any()
        assert targets.masks.any(axis=0)[inner(is_object)].all()
        for box, mask in zip(targets.boxes, targets.masks, strict=True):
            rows, columns = np.nonzero(mask)
            if len(rows):
                extent = (
                    np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) * 4
                )
                # A turned object's tip may be too thin for a cell.
                assert np.abs(extent - box).max() <= (4.5 if view.degrees == 0 else 12)
                seen += 1
    assert seen > 40


def test_mirrored_is_the_same_mirrored(records: list[Record]) -> None:
    for seed in range(8):
        image, targets = view_of(records, seed)
        mirrored, flipped = view_of(records, seed, PLAIN._replace(flip=1))
        np.testing.assert_array_equal(image[:, ::-1], mirrored)
        np.testing.assert_allclose(SIZE - targets.boxes[:, [2, 0]], flipped.boxes[:, [0, 2]])
        np.testing.assert_array_equal(targets.boxes[:, [1, 3]], flipped.boxes[:, [1, 3]])
        np.testing.assert_array_equal(targets.classes, flipped.classes)
        assert targets.masks is not None
        assert targets.sem_seg is not None
        np.testing.assert_array_equal(targets.masks[:, :, ::-1], flipped.masks)
        np.testing.assert_array_equal(targets.sem_seg[:, ::-1], flipped.sem_seg)


def test_images_without_objects_keep_their_semantic_map(records: list[Record]) -> None:
    """The published pipeline moves semantic polygons only if there are boxes (its defect 3)."""
    empty = records[-1:]
    for seed in range(5):
        for mosaic in (True, False):
            image, targets = view_of(empty, seed, mosaic=mosaic)
            assert targets.boxes.shape == (0, 4)
            assert targets.masks is not None
            assert targets.masks.shape == (0, SIZE // 4, SIZE // 4)
            assert targets.sem_seg is not None
            is_black = (centres(image) < 20).all(axis=2)
            assert is_black.any()
            assert (targets.sem_seg[is_black] == 5).all()


def test_no_mask_reaches_beyond_its_image(records: list[Record]) -> None:
    """The published pipeline leaves a part of the objects unclipped (its defect 4)."""
    huge = [{**records[3], "annotations": [annotation(-500, -500, 900, 900)]}]
    for seed in range(20):
        image, targets = view_of(huge, seed)
        is_fill = (image == PAD_VALUE).all(axis=2)[2::4, 2::4]
        assert targets.masks is not None
        assert not targets.masks[:, inner(is_fill)].any()
        assert (targets.boxes >= 0).all()
        assert (targets.boxes <= SIZE).all()


def test_pasted_objects_hide_what_lies_beneath(records: list[Record]) -> None:
    """Each cell has one class and one object; the published pipeline leaves two (its defect 6)."""
    policy = PLAIN._replace(copy_paste=1.0)
    more = 0
    for seed in range(30):
        image, targets = view_of(records, seed, policy)
        _, without = view_of(records, seed)
        more += len(targets.boxes) - len(without.boxes)
        assert targets.masks is not None
        assert targets.sem_seg is not None
        assert np.sum([inner(mask) for mask in targets.masks], axis=0).max(initial=0) <= 1
        for mask, category in zip(targets.masks, targets.classes, strict=True):
            assert (targets.sem_seg[inner(mask)] == category).all()
        is_object = (centres(image) > 170).all(axis=2)
        assert (targets.sem_seg[inner(is_object)] < 3).all()
    assert more > 20


def test_mixup_keeps_all_objects_and_only_certain_labels(records: list[Record]) -> None:
    policy = PLAIN._replace(mixup=1.0)
    for seed in range(15):
        image, mixed = view_of(records, seed, policy)
        first_image, first = view_of(records, seed)
        number = len(first.boxes)
        np.testing.assert_array_equal(mixed.boxes[:number], first.boxes)
        assert mixed.sem_seg is not None
        assert first.sem_seg is not None
        known = (mixed.sem_seg != IGNORE_LABEL) & (first.sem_seg != IGNORE_LABEL)
        np.testing.assert_array_equal(mixed.sem_seg[known], first.sem_seg[known])
        changed = (image != first_image).any(axis=2)
        assert changed.any()


def test_colours_change_but_padding_does_not(records: list[Record]) -> None:
    policy = PLAIN._replace(hsv=(0.015, 0.7, 0.4))
    for seed in range(10):
        plain, targets = view_of(records, seed)
        jittered, other = view_of(records, seed, policy)
        np.testing.assert_array_equal(targets.boxes, other.boxes)
        # White and black have no colour to change, fill has none to lose.
        is_fill = (centres(plain) == PAD_VALUE).all(axis=2)
        assert (jittered[2::4, 2::4][is_fill] == PAD_VALUE).all()
    assert (plain != jittered).any()


def test_nothing_is_read_of_images_out_of_view(
    records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    pixels = RecordReader.pixels

    def spy(self: RecordReader, record: Record, *, reduction: int = 1) -> np.ndarray:
        read.append(record["image_id"])
        return pixels(self, record, reduction=reduction)

    monkeypatch.setattr(RecordReader, "pixels", spy)
    zoomed = PLAIN._replace(view=ViewPolicy(scale=0, translate=0), size=SIZE)
    for seed in range(30):
        view_of(records, seed, zoomed._replace(view=ViewPolicy(scale=0.9)))
    assert 60 < len(read) < 115  # of 120 tiles


def test_a_broken_partner_is_replaced_and_told(records: list[Record]) -> None:
    broken = {**records[0], "file_name": "/nowhere/x.png", "image_id": "broken"}
    told: list[BadFileError] = []
    pool = [records[1], broken]
    for seed in range(10):
        draw = Draw(np.random.default_rng(seed), lambda rng: pool[rng.integers(2)], mosaic=True)
        view = strong_view(report_bad=told.append)
        image, _ = view(records[1], draw, ALL)
        assert image.shape == (SIZE, SIZE, 3)
    assert {error.path for error in told} == {"/nowhere/x.png"}
    draw = Draw(np.random.default_rng(0), lambda rng: records[1], mosaic=False)
    with pytest.raises(BadFileError):
        strong_view()(broken, draw, ALL)


def test_a_crowded_image(tmp_path: Path) -> None:
    """3,000 objects in one image: all that can be seen, in bounded time."""
    record = make_record(tmp_path, "crowded", width=640, height=480)
    rng = np.random.default_rng(0)
    corner = rng.uniform([0, 0], [600, 440], (3000, 2))
    record["annotations"] = [annotation(x, y, x + 12, y + 12, 1) for x, y in corner]
    policy = PLAIN._replace(copy_paste=0.3, size=640)
    draw = Draw(np.random.default_rng(3), lambda rng: record, mosaic=True)
    _, targets = strong_view(policy)(record, draw, ALL)
    assert len(targets.boxes) > 1000
    assert targets.masks is not None
    assert len(targets.masks) == len(targets.boxes) == len(targets.classes)


def test_boxes_without_shapes_are_cut_at_the_border(records: list[Record]) -> None:
    boxes_only = [
        {**a, "segmentation": None} if "segmentation" in a else a for a in records[3]["annotations"]
    ]
    record = {**records[3], "annotations": boxes_only}
    draw = Draw(np.random.default_rng(1), lambda rng: record, mosaic=True)
    _, targets = strong_view()(record, draw, frozenset({"detection"}))
    assert targets.masks is None
    assert targets.sem_seg is None
    _, with_shapes = view_of([records[3]], 1)
    np.testing.assert_allclose(targets.boxes, with_shapes.boxes, atol=1e-4)


def test_run_lengths_serve_like_polygons(records: list[Record]) -> None:
    """Objects given as RLE land where those given as polygons do."""
    record = records[1]
    encoded = []
    for original in record["annotations"]:
        x, y, w, h = (int(v) for v in original["bbox"])
        mask = np.zeros((record["height"], record["width"]), np.uint8, order="F")
        mask[y : y + h, x : x + w] = 1
        encoded.append({**original, "segmentation": mask_util.encode(mask)})
    policy = PLAIN._replace(copy_paste=1.0)
    for seed in range(10):
        _, expected = view_of([record], seed, policy)
        _, found = view_of([{**record, "annotations": encoded}], seed, policy)
        assert len(found.boxes) == len(expected.boxes)
        np.testing.assert_allclose(found.boxes, expected.boxes, atol=2.5)
        assert found.masks is not None
        assert expected.masks is not None
        assert (found.masks != expected.masks).mean() < 0.01


def test_things_may_be_numbered_differently_in_semantic_maps(tmp_path: Path) -> None:
    """Class 0 of the objects is class 7 of the map, copies included."""
    record = make_record(tmp_path, "shifted", width=120, height=80, boxes=[(10, 10, 50, 60)])
    path = record["sem_seg_file_name"]
    write_index_png(path, np.where(read_index_png(path) == 0, np.uint8(7), np.uint8(2)))
    for seed in range(20):
        _, targets = view_of([record], seed, PLAIN._replace(copy_paste=1.0))
        assert targets.sem_seg is not None
        assert set(np.unique(targets.sem_seg)) <= {2, 7, IGNORE_LABEL}
        assert targets.masks is not None
        for mask in targets.masks:
            assert (targets.sem_seg[inner(mask)] == 7).all()
