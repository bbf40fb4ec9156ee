"""The strong view: pixels, boxes, masks and semantic map agree for all random draws."""

from itertools import count, repeat
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest

from yolor_d2.data.catalog.categories import IGNORE_LABEL
from yolor_d2.data.files.semantic_files import read_index_png, write_index_png
from yolor_d2.data.views.canvas import Targets
from yolor_d2.data.views.reading import RecordReader
from yolor_d2.data.views.strong_view import Draw, StrongPolicy, StrongView
from yolor_d2.data.views.targets import TargetStrides
from yolor_d2.data.views.transforms import ViewPolicy
from yolor_d2.errors import BadFileError
from yolor_d2.letterbox import PAD_VALUE

from ..factory import Record, annotation, make_record

SIZE = 128
ALL = frozenset({"detection", "mask", "semantic"})
# Only the mosaic and the affine map: tests enable other augmentations one at a time.
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


def strong_view(policy: StrongPolicy = PLAIN) -> StrongView:
    return StrongView(policy, reader=RecordReader(), strides=TargetStrides())


def view_of(
    records: list[Record], seed: int, policy: StrongPolicy = PLAIN, mosaic: bool = True
) -> tuple[np.ndarray, Targets]:
    """Make one sample with partners drawn from all records."""
    rng = np.random.default_rng(seed)
    draw = Draw(rng, (records[rng.integers(len(records))] for _ in count()), mosaic)
    return strong_view(policy)(records[seed % len(records)], draw, ALL)


def inner(mask: np.ndarray) -> np.ndarray:
    """Erode a mask, to leave out cells that depend on rounding."""
    padded = np.pad(mask, 1).astype(np.uint8)
    return cv2.erode(padded, np.ones((3, 3), np.uint8))[1:-1, 1:-1].astype(bool)


def centers(image: np.ndarray) -> np.ndarray:
    """Return the brightness around the center of each cell of stride 4."""
    red = image[..., 0].astype(int)
    blocks = red.reshape(SIZE // 4, 4, SIZE // 4, 4)[:, 1:3, :, 1:3]
    return blocks.transpose(0, 2, 1, 3).reshape(SIZE // 4, SIZE // 4, 4)


@pytest.mark.parametrize("view", [ViewPolicy(), ViewPolicy(degrees=30, shear=8)])
@pytest.mark.parametrize("mosaic", [True, False])
@pytest.mark.parametrize("flip", [0, 1])
def test_pixels_and_all_targets_agree(
    records: list[Record], view: ViewPolicy, mosaic: bool, flip: int
) -> None:
    """Objects are bright on black, so pixels determine the expected label of every cell."""
    seen = 0
    for seed in range(40):
        policy = PLAIN._replace(view=view, flip=flip)
        image, targets = view_of(records, seed, policy, mosaic)
        brightness = centers(image)
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
                # The tip of a rotated object may be too thin for a cell.
                assert np.abs(extent - box).max() <= (4.5 if view.degrees == 0 else 12)
                seen += 1
    assert seen > 40


def test_flip_mirrors_image_and_targets(records: list[Record]) -> None:
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
            is_black = (centers(image) < 20).all(axis=2)
            assert is_black.any()
            assert (targets.sem_seg[is_black] == 5).all()


def test_masks_are_clipped_to_their_image(records: list[Record]) -> None:
    """The published pipeline leaves a part of the objects unclipped (its defect 4)."""
    huge = [{**records[3], "annotations": [annotation(-500, -500, 900, 900)]}]
    for seed in range(20):
        image, targets = view_of(huge, seed)
        is_fill = (image == PAD_VALUE).all(axis=2)[2::4, 2::4]
        assert targets.masks is not None
        assert not targets.masks[:, inner(is_fill)].any()
        assert (targets.boxes >= 0).all()
        assert (targets.boxes <= SIZE).all()


def test_pasted_objects_replace_hidden_targets(records: list[Record]) -> None:
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
        is_object = (centers(image) > 170).all(axis=2)
        assert (targets.sem_seg[inner(is_object)] < 3).all()
    assert more > 20


def test_mixup_keeps_all_objects_and_unambiguous_labels(records: list[Record]) -> None:
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


def test_color_jitter_leaves_the_padding(records: list[Record]) -> None:
    policy = PLAIN._replace(hsv=(0.015, 0.7, 0.4))
    for seed in range(10):
        plain, targets = view_of(records, seed)
        jittered, other = view_of(records, seed, policy)
        np.testing.assert_array_equal(targets.boxes, other.boxes)

        is_fill = (centers(plain) == PAD_VALUE).all(axis=2)
        assert (jittered[2::4, 2::4][is_fill] == PAD_VALUE).all()
    assert (plain != jittered).any()


def test_invisible_images_are_not_read(
    records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    pixels = RecordReader.pixels

    def spy(self: RecordReader, record: Record, **reductions: int) -> np.ndarray:
        read.append(record["image_id"])
        return pixels(self, record, **reductions)

    monkeypatch.setattr(RecordReader, "pixels", spy)
    zoomed = PLAIN._replace(view=ViewPolicy(scale=0, translate=0), size=SIZE)
    for seed in range(30):
        view_of(records, seed, zoomed._replace(view=ViewPolicy(scale=0.9)))
    assert 60 < len(read) < 115  # of 120 tiles


def test_unusable_partners_are_reported_and_replaced(records: list[Record]) -> None:
    broken = {**records[0], "file_name": "/nowhere/x.png", "image_id": "broken"}
    reported: list[BadFileError] = []
    pool = [records[1], broken]
    for seed in range(10):
        rng = np.random.default_rng(seed)
        draw = Draw(
            rng, (pool[rng.integers(2)] for _ in count()), mosaic=True, report_bad=reported.append
        )
        image, _ = strong_view()(records[1], draw, ALL)
        assert image.shape == (SIZE, SIZE, 3)
    assert {error.path for error in reported} == {"/nowhere/x.png"}
    draw = Draw(np.random.default_rng(0), repeat(records[1]), mosaic=False)
    with pytest.raises(BadFileError):
        strong_view()(broken, draw, ALL)
    draw = Draw(np.random.default_rng(0), repeat(broken), mosaic=True)
    with pytest.raises(BadFileError):
        strong_view()(records[1], draw, ALL)


def test_a_crowded_image(tmp_path: Path) -> None:
    """3,000 objects in one image, in bounded time."""
    record = make_record(tmp_path, "crowded", width=640, height=480)
    rng = np.random.default_rng(0)
    corner = rng.uniform([0, 0], [600, 440], (3000, 2))
    record["annotations"] = [annotation(x, y, x + 12, y + 12, 1) for x, y in corner]
    policy = PLAIN._replace(copy_paste=0.3, size=640)
    draw = Draw(np.random.default_rng(3), repeat(record), mosaic=True)
    _, targets = strong_view(policy)(record, draw, ALL)
    assert len(targets.boxes) > 1000
    assert targets.masks is not None
    assert len(targets.masks) == len(targets.boxes) == len(targets.classes)


def test_boxes_without_segmentations_are_cut(records: list[Record]) -> None:
    boxes_only = [
        {**a, "segmentation": None} if "segmentation" in a else a for a in records[3]["annotations"]
    ]
    record = {**records[3], "annotations": boxes_only}
    draw = Draw(np.random.default_rng(1), repeat(record), mosaic=True)
    _, targets = strong_view()(record, draw, frozenset({"detection"}))
    assert targets.masks is None
    assert targets.sem_seg is None
    _, with_shapes = view_of([records[3]], 1)
    np.testing.assert_allclose(targets.boxes, with_shapes.boxes, atol=1e-4)


def test_rle_gives_the_targets_of_polygons(records: list[Record]) -> None:
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


def test_semantic_classes_may_differ_from_box_classes(tmp_path: Path) -> None:
    """Class 0 of the objects is class 7 of the map, also for pasted copies."""
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


def test_a_record_of_a_batch_is_read_once(records: list[Record]) -> None:
    reader = RecordReader()
    reader.start_sample((0, 1))
    objects = reader.objects(records[0])
    reader.start_sample((0, 1))
    assert reader.objects(records[0]) is objects
    assert objects.outlines(0) is objects.outlines(0)
    # The same image with other labels, as of another data set.
    unlabeled = {**records[0], "annotations": []}
    assert len(reader.objects(unlabeled).classes) == 0
    for batch in ((2, 3), (), ()):
        objects = reader.objects(records[0])
        reader.start_sample(batch)
        assert reader.objects(records[0]) is not objects
