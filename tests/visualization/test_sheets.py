"""Several pictures in one."""

from types import SimpleNamespace

import numpy as np
import torch

from yolor_d2.structures import SemanticMap
from yolor_d2.visualization import BACKGROUND, IMAGE_PANEL, draw_panels, side_by_side, stack

IMAGE = np.full((60, 80, 3), 120, np.uint8)


def test_side_by_side() -> None:
    tall, wide = np.zeros((100, 300, 3), np.uint8), np.full((60, 200, 3), 120, np.uint8)
    picture = side_by_side([wide, tall], titles=["one", "two"])
    assert picture.shape[1] == 200 + 8 + 300
    np.testing.assert_array_equal(picture[-100:-40, :200], wide)
    assert (picture[-40:, :200] == BACKGROUND).all()  # the shorter one is padded
    np.testing.assert_array_equal(picture[-100:, 208:], tall)


def test_narrow_pictures_are_padded_to_fit_text() -> None:
    narrow = np.zeros((1000, 4, 3), np.uint8)
    picture = side_by_side([narrow] * 2, titles=["true: boxes, masks", "predicted: boxes, masks"])
    assert picture.shape[0] < 1100
    assert (picture[-1000:, [0, 3]] == 0).all()
    assert (picture[-1000:, 4:100] == BACKGROUND).all()
    panels = draw_panels(narrow, {"caption": "a few words that make some lines"}, None)
    assert panels[IMAGE_PANEL].shape[0] < 1100


def test_stack() -> None:
    picture = stack([IMAGE, IMAGE[:, :30]])
    np.testing.assert_array_equal(picture[:60, :80], IMAGE)
    np.testing.assert_array_equal(picture[68:128, :30], IMAGE[:, :30])
    assert (picture[68:128, 30:] == BACKGROUND).all()


def test_panels_without_class_names_are_left_out() -> None:
    result = {"sem_seg": SemanticMap(torch.zeros(60, 80), 2), "caption": "a wall"}
    assert list(draw_panels(IMAGE, result, SimpleNamespace())) == [IMAGE_PANEL]
    named = draw_panels(IMAGE, result, SimpleNamespace(stuff_classes=["wall", "sky"]))
    assert list(named) == [IMAGE_PANEL, "semantic map"]
    assert {picture.shape[1] for picture in named.values()} == {480}


def test_the_image_is_first_and_untouched() -> None:
    """A tint would hide the colors that the caption names."""
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    result = {"sem_seg": SemanticMap(torch.zeros(480, 640), 2), "caption": "a gray wall"}
    title, picture = next(iter(draw_panels(image, result, None).items()))
    assert title == IMAGE_PANEL
    np.testing.assert_array_equal(picture[:480], image)
    assert (picture[480:] != BACKGROUND).any()  # the caption
    np.testing.assert_array_equal(draw_panels(image, {}, None)[IMAGE_PANEL], image)
