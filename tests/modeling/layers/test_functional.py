"""Functions shared by layers."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from yolor_d2.modeling.layers.conv import SiLU
from yolor_d2.modeling.layers.functional import attend, concatenate, keep_layout


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_of_concatenated_maps_are_dense(layout: torch.memory_format) -> None:
    maps = [
        torch.randn(2, channels, 3, 4).contiguous(memory_format=layout).requires_grad_()
        for channels in (2, 5)
    ]
    whole = torch.cat(maps, dim=1)
    gradient = torch.randn_like(whole)
    expected = torch.autograd.grad(whole, maps, gradient)
    strides: list[tuple[int, ...]] = []
    outputs = [m * 1 for m in maps]
    for output in outputs:
        output.register_hook(lambda gradient: strides.append(gradient.stride()))
    joined = concatenate(outputs)
    assert torch.equal(joined, whole)
    found = torch.autograd.grad(joined, maps, gradient)
    assert all(map(torch.equal, found, expected))
    assert sorted(strides) == sorted(m.stride() for m in maps)


def test_activation_is_in_place_only_without_gradients() -> None:
    x = torch.randn(2, 3)
    expected, before = F.silu(x), x.clone()
    assert torch.equal(SiLU()(x.requires_grad_()), expected)
    assert torch.equal(x, before)
    assert torch.equal(SiLU()(x.detach()), expected)
    assert torch.equal(x, expected)


def test_attention_in_bf16_is_differentiated_in_float32() -> None:
    """A shape for which the kernel's backward pass in bf16 is slow on CPUs."""
    query, key, value = (torch.randn(2, 4, 6, 8).bfloat16().requires_grad_() for _ in range(3))

    def gradients(y: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(y.float().square().sum(), (query, key, value))

    with torch.autocast("cpu", torch.bfloat16):
        found = attend(query, key, value, causal=True)
    wide = [each.float() for each in (query, key, value)]
    expected = F.scaled_dot_product_attention(wide[0], wide[1], wide[2], is_causal=True).bfloat16()
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, expected)
    for one, other in zip(gradients(found), gradients(expected), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradient_keeps_the_layout_of_a_map(layout: torch.memory_format) -> None:
    x = torch.randn(2, 3, 4, 5).contiguous(memory_format=layout).requires_grad_()
    gradient = torch.randn(2, 5, 3, 4).permute(0, 2, 3, 1)  # neither
    (found,) = torch.autograd.grad(keep_layout(x), x, gradient)
    assert found.is_contiguous(memory_format=layout)
    assert torch.equal(found, gradient)
    assert keep_layout(x.detach()).requires_grad is False
