"""Backgrounds are painted only where they are visible."""

import numpy as np
import pytest

from yolor_d2.toy_scenes import backgrounds
from yolor_d2.toy_scenes.textures import TEXTURES, Canvas

HEIGHT, WIDTH = 60, 80


@pytest.mark.parametrize("weather", backgrounds.WEATHERS)
@pytest.mark.parametrize("name", TEXTURES)
def test_windows_have_the_pixels_of_the_whole_texture(name: str, weather: str) -> None:
    for window in (slice(0, 35), slice(20, HEIGHT)):
        whole, part = (
            TEXTURES[name](
                Canvas(np.random.default_rng(5), HEIGHT, WIDTH, weather, 24.0, window=rows)
            )
            for rows in (slice(None), window)
        )
        np.testing.assert_array_equal(part, whole[window])


def test_all_visible_rows_are_painted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Painting all rows of all layers gives the same pixels and the same random numbers."""
    settings = set()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        found = backgrounds.paint_background(rng, HEIGHT, WIDTH)
        with monkeypatch.context() as patch:
            patch.setattr(backgrounds, "_windows", lambda layers, *_: [slice(None)] * len(layers))
            again = np.random.default_rng(seed)
            expected = backgrounds.paint_background(again, HEIGHT, WIDTH)
        np.testing.assert_array_equal(found.image, expected.image)
        np.testing.assert_array_equal(found.labels, expected.labels)
        assert rng.random() == again.random()
        settings.add(found.setting)
    assert settings == set(backgrounds.SETTINGS)
