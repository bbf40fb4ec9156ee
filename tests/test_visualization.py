"""Pictures: every layer shows, and shows where it belongs."""

import numpy as np
import pytest

from yolor_d2.visualization import (
    PAPER,
    Layers,
    caption_strip,
    draw_layers,
    side_by_side,
    stack,
)

RED, BLUE = (200, 30, 30), (30, 60, 220)


@pytest.fixture
def image() -> np.ndarray:
    return np.full((60, 80, 3), 120, np.uint8)


def changed(picture: np.ndarray, image: np.ndarray) -> np.ndarray:
    """(H, W) bool, at the picture's size."""
    scale = picture.shape[1] // image.shape[1]
    return (picture != np.kron(image, np.ones((scale, scale, 1), np.uint8))).any(axis=2)


def test_nothing_to_draw(image: np.ndarray) -> None:
    np.testing.assert_array_equal(draw_layers(image, Layers()), image)


@pytest.mark.parametrize("scale", [1, 3])
def test_masks_tint_their_own_pixels(image: np.ndarray, scale: int) -> None:
    masks = np.zeros((2, 15, 20), bool)  # stride 4
    masks[0, 2:6, 3:9] = masks[1, 9:13, 12:18] = True
    before = image.copy()
    picture = draw_layers(image, Layers(masks=masks, colors=[RED, BLUE]), scale=scale)
    np.testing.assert_array_equal(image, before)
    touched = changed(picture, image)
    full = np.kron(masks.any(axis=0), np.ones((4 * scale, 4 * scale), bool))
    assert touched[full].mean() > 0.9
    assert touched[~full].mean() < 0.06
    middle = (
        picture[16 * scale, 24 * scale].astype(int),
        picture[44 * scale, 60 * scale].astype(int),
    )
    assert middle[0][0] > middle[0][2]
    assert middle[1][2] > middle[1][0]


def test_boxes_have_their_colour_and_label(image: np.ndarray) -> None:
    boxes = np.array([[10.0, 30, 50, 55]])
    plain = draw_layers(image, Layers(boxes=boxes, colors=[RED]))
    labelled = draw_layers(image, Layers(boxes=boxes, colors=[RED], labels=["ball"]))
    np.testing.assert_allclose(plain[42, 10], RED, atol=12)  # the line is smoothed
    assert not changed(plain, image)[35:50, 15:45].any()
    plate = changed(labelled, plain)
    assert plate[10:30].any()
    assert not plate[35:].any()


@pytest.mark.parametrize("box", [(0, 0, 5, 5), (70, 50, 80, 60), (-30, -30, 200, 200)])
def test_labels_stay_inside(image: np.ndarray, box: tuple[int, int, int, int]) -> None:
    layers = Layers(boxes=np.array([box], float), colors=[BLUE], labels=["a long name of a class"])
    assert draw_layers(image, layers).shape == image.shape


def test_semantic_maps_leave_the_unknown_alone(image: np.ndarray) -> None:
    sem_seg = np.full((15, 20), 255)
    sem_seg[:, :10] = 1
    picture = draw_layers(image, Layers(sem_seg=sem_seg, sem_seg_colors=[RED, BLUE]))
    assert changed(picture, image)[:, :40].all()
    assert not changed(picture, image)[:, 40:].any()
    assert picture[5, 5, 2] > picture[5, 5, 0]


def test_captions_stand_below_and_wrap(image: np.ndarray) -> None:
    picture = draw_layers(image, Layers(caption="two red balls on the grass"))
    assert picture.shape[0] > 60
    np.testing.assert_array_equal(picture[:60], image)
    assert (picture[60:] != PAPER).any()
    long = caption_strip("many words " * 20, 200)
    assert long.shape[0] > 5 * caption_strip("word", 200).shape[0] / 2
    assert caption_strip("", 200).shape[1] == 200


def test_side_by_side(image: np.ndarray) -> None:
    tall = np.zeros((100, 50, 3), np.uint8)
    picture = side_by_side([image, tall], titles=["one", "two"])
    assert picture.shape[1] == 80 + 8 + 50
    assert (picture[-1, :80] == PAPER).all()  # the shorter one is padded


def test_stack(image: np.ndarray) -> None:
    picture = stack([image, image[:, :30]])
    np.testing.assert_array_equal(picture[:60, :80], image)
    np.testing.assert_array_equal(picture[68:128, :30], image[:, :30])
    assert (picture[68:128, 30:] == PAPER).all()
