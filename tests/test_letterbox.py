"""Letterbox geometry: published numbers and exact inverses."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from yolor_d2.data.views.transforms import long_side_size
from yolor_d2.letterbox import (
    PAD_VALUE,
    Content,
    boxes_to_image,
    fit,
    pad_images,
    place_boxes,
)

from .resizing import maps_to_image


@pytest.fixture(scope="module")
def golden(shared_dir: Path) -> dict[str, np.ndarray]:
    with np.load(shared_dir / "golden/geometry.npz") as file:
        return dict(file)


def test_fit_equals_the_published_letterbox(golden: dict[str, np.ndarray]) -> None:
    for row in golden["letterbox"]:
        h0, w0, h1, w1, canvas_h, canvas_w, ratio, _, pad_x, pad_y, top, bottom, left, right = row
        assert long_side_size(width=int(w0), height=int(h0), size=640) == (w1, h1)
        result = fit(
            width=int(w1), height=int(h1), canvas_width=int(canvas_w), canvas_height=int(canvas_h)
        )
        assert result.ratio == pytest.approx(ratio)
        assert (result.pad_x, result.pad_y) == (pad_x, pad_y)
        assert result.content == Content(left, top, right - left, bottom - top)


def test_place_boxes_equals_the_published_inverse(golden: dict[str, np.ndarray]) -> None:
    _, _, h0, w0, gain, pad_x, pad_y = golden["unbox/meta"].tolist()
    found = place_boxes(
        torch.from_numpy(golden["unbox/in"]),
        (pad_x, pad_y),
        (1 / gain, 1 / gain),
        width=int(w0),
        height=int(h0),
    )
    np.testing.assert_allclose(found.numpy(), golden["unbox/out"], rtol=1e-6, atol=1e-4)


def test_maps_to_image_equals_the_published_inverse(golden: dict[str, np.ndarray]) -> None:
    height, width, h0, w0, pad_x, pad_y = golden["unmask/meta"].astype(int).tolist()
    bits = np.unpackbits(golden["unmask/in_bits"])[: height * width * 2]
    masks = torch.from_numpy(bits.reshape(height, width, 2)).permute(2, 0, 1)[None].float()
    content = Content(pad_x, pad_y, width - 2 * pad_x, height - 2 * pad_y)
    found = maps_to_image(masks, content, width=w0, height=h0)[0].permute(1, 2, 0).numpy()
    shape = golden["unmask/out_shape"].tolist()
    expected = np.unpackbits(golden["unmask/out_bits"])[: np.prod(shape)].reshape(shape)
    differs = (found >= 0.5) != expected
    # The published code resizes bytes of 0 and 1 in OpenCV's fixed point, with errors up to 0.25.
    assert differs.mean() < 0.003
    assert (abs(found[differs] - 0.5) < 0.26).all()
    rows, columns = slice(pad_y, height - pad_y), slice(pad_x, width - pad_x)
    exact = cv2.resize(masks[0, :, rows, columns].permute(1, 2, 0).numpy().copy(), (w0, h0))
    np.testing.assert_allclose(found, exact, atol=1e-4)  # OpenCV is less precise


@pytest.mark.parametrize("mode", ["corner", "center"])
def test_a_batch_consists_of_its_images_and_padding(mode: str) -> None:
    images = [torch.full((3, h, w), v, dtype=torch.uint8) for h, w, v in ((33, 47, 1), (1, 1, 2))]
    batch, contents = pad_images(images, mode=mode)
    assert batch.shape == (2, 3, 64, 64)
    for canvas, image, content in zip(batch, images, contents, strict=True):
        left, top, width, height = content
        assert torch.equal(canvas[:, top : top + height, left : left + width], image)
        assert (canvas == PAD_VALUE).sum() == 3 * (64 * 64 - width * height)
    with pytest.raises(ValueError, match=r"MODEL\.YOLOR\.PAD"):
        pad_images(images, mode="left")


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 900), st.integers(1, 900), st.sampled_from([64, 320, 640]), st.integers(0, 9999)
)
def test_boxes_are_mapped_back_to_the_image(width: int, height: int, size: int, seed: int) -> None:
    w, h = long_side_size(width=width, height=height, size=size)
    other = torch.zeros(3, size, size, dtype=torch.uint8)
    _, (content, _) = pad_images([torch.zeros(3, h, w, dtype=torch.uint8), other], mode="center")
    limits = torch.tensor([width, height, width, height])
    torch.manual_seed(seed)
    boxes = torch.rand(5, 4, dtype=torch.float64) * limits
    scale = torch.tensor([w / width, h / height] * 2, dtype=torch.float64)
    shift = torch.tensor([content.left, content.top] * 2)
    back = boxes_to_image(boxes * scale + shift, content, width=width, height=height)
    torch.testing.assert_close(back, boxes, rtol=1e-9, atol=1e-6)


def test_maps_are_mapped_back_to_the_image() -> None:
    """A linear map of the image stays linear, without influence of the padding."""
    ramp = torch.arange(40.0).expand(1, 1, 30, 40)
    canvas, (content,) = torch.full((1, 1, 64, 64), 1e6), [Content(12, 17, 40, 30)]
    canvas[:, :, 17:47, 12:52] = ramp
    same = maps_to_image(canvas, content, width=40, height=30)
    torch.testing.assert_close(same, ramp)
    double = maps_to_image(canvas, content, width=80, height=60)
    torch.testing.assert_close(double[0, 0, 30, 1:-1], torch.arange(1.0, 79) / 2 - 0.25)
