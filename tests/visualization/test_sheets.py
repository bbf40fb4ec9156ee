"""Several pictures on one sheet."""

from types import SimpleNamespace

import numpy as np
import torch

from yolor_d2.structures import SemanticMap
from yolor_d2.visualization import CAPTIONS, PAPER, draw_each, side_by_side, stack

IMAGE = np.full((60, 80, 3), 120, np.uint8)


def test_side_by_side() -> None:
    tall, wide = np.zeros((100, 300, 3), np.uint8), np.full((60, 200, 3), 120, np.uint8)
    picture = side_by_side([wide, tall], titles=["one", "two"])
    assert picture.shape[1] == 200 + 8 + 300
    np.testing.assert_array_equal(picture[-100:-40, :200], wide)
    assert (picture[-40:, :200] == PAPER).all()  # the shorter one is padded
    np.testing.assert_array_equal(picture[-100:, 208:], tall)


def test_narrow_pictures_have_room_for_words() -> None:
    narrow = np.zeros((1000, 4, 3), np.uint8)
    picture = side_by_side([narrow] * 2, titles=["true: boxes, masks", "predicted: boxes, masks"])
    assert picture.shape[0] < 1100
    assert (picture[-1000:, [0, 3]] == 0).all()
    assert (picture[-1000:, 4:100] == PAPER).all()
    strip = draw_each(narrow, {"caption": "a few words that make some lines"}, None)[CAPTIONS]
    assert strip.shape[0] < 100


def test_stack() -> None:
    picture = stack([IMAGE, IMAGE[:, :30]])
    np.testing.assert_array_equal(picture[:60, :80], IMAGE)
    np.testing.assert_array_equal(picture[68:128, :30], IMAGE[:, :30])
    assert (picture[68:128, 30:] == PAPER).all()


def test_kinds_without_names_of_classes_are_left_out() -> None:
    result = {"sem_seg": SemanticMap(torch.zeros(60, 80), 2), "caption": "a wall"}
    assert list(draw_each(IMAGE, result, SimpleNamespace())) == [CAPTIONS]
    named = draw_each(IMAGE, result, SimpleNamespace(stuff_classes=["wall", "sky"]))
    assert list(named) == ["semantic map", CAPTIONS]
    assert {picture.shape[1] for picture in named.values()} == {480}
