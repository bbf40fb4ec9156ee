"""Blocks of GELAN networks."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import FrozenBatchNorm2d
from torch import Tensor, nn

from yolor_d2.modeling.deploy import deploy
from yolor_d2.modeling.layers import (
    PSA,
    SPPELAN,
    AConv,
    ADown,
    ConvBlock,
    Elan3x3,
    RepConv,
    RepNCSP,
    RepNCSPELAN,
)

BLOCKS: dict[str, Callable[[], nn.Module]] = {
    "grouped": lambda: ConvBlock(16, 16, 3, groups=4),
    "linear": lambda: ConvBlock(16, 16, 1, activation=False),
    "rep": lambda: RepConv(16),
    "csp": lambda: RepNCSP(16, 16, bottlenecks=2),
    "elan": lambda: Elan3x3(16, 16, width=8),
    "csp_elan": lambda: RepNCSPELAN(16, 16, width=8, bottlenecks=1),
    "detached": lambda: RepNCSPELAN(16, 16, width=8, bottlenecks=1, detached_half=True),
    "spp": lambda: SPPELAN(16, 16),
    "attention": lambda: PSA(16),
    "attention of two heads": lambda: nn.Sequential(ConvBlock(16, 256, 1), PSA(256)),
    "aconv": lambda: AConv(16, 16),
    "adown": lambda: ADown(16, 16),
}


def image(channels: int = 16, height: int = 8, width: int = 12) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randn(2, channels, height, width, generator=rng, dtype=torch.float64)


def with_statistics(block: nn.Module) -> nn.Module:
    """A block in evaluation mode whose batch norms differ from the identity."""
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                nn.init.uniform_(tensor, 0.5, 2.0)
            for tensor in (module.bias, module.running_mean):
                nn.init.normal_(tensor, std=0.2)
    return block.eval().double()


@torch.no_grad()
@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("frozen", [False, True])
def test_folding_keeps_the_function(name: str, frozen: bool) -> None:
    torch.manual_seed(0)
    block = with_statistics(BLOCKS[name]())
    if frozen:
        block = FrozenBatchNorm2d.convert_frozen_batchnorm(block)
    folded = deploy(block)

    kinds = (nn.BatchNorm2d, FrozenBatchNorm2d)
    assert not any(isinstance(module, kinds) for module in folded.modules())
    torch.testing.assert_close(folded(image()), block(image()), atol=1e-10, rtol=0)
    again = deploy(folded)
    torch.testing.assert_close(again(image()), folded(image()), atol=0, rtol=0)


@pytest.mark.parametrize("name", BLOCKS)
def test_channels_last_gives_the_same_output(name: str) -> None:
    torch.manual_seed(0)
    block = with_statistics(BLOCKS[name]())
    expected = block(image())

    block.to(memory_format=torch.channels_last)
    found = block(image().contiguous(memory_format=torch.channels_last))

    torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_a_folded_rep_conv_is_one_convolution() -> None:
    rep = with_statistics(RepConv(16))
    unfolded = copy.deepcopy(rep)

    rep.fuse()
    rep.fuse()

    convolutions = [m for m in rep.modules() if isinstance(m, nn.Conv2d)]
    assert [conv.kernel_size for conv in convolutions] == [(3, 3)]
    torch.testing.assert_close(rep(image()), unfolded(image()), atol=1e-10, rtol=0)


def test_a_folded_detached_half_is_one_convolution() -> None:
    folded = deploy(with_statistics(BLOCKS["detached"]()))

    convolutions = [m for m in folded.merge.modules() if isinstance(m, nn.Conv2d)]
    assert [(conv.out_channels, conv.weight.shape[0]) for conv in convolutions] == [(16, 16)]


def test_elan_merges_both_halves_and_both_steps() -> None:
    elan = with_statistics(Elan3x3(16, 24, width=8))
    first, second = elan.entry(image()).chunk(2, dim=1)
    third = elan.steps[0](second)

    expected = elan.merge(torch.cat([first, second, third, elan.steps[1](third)], dim=1))

    torch.testing.assert_close(elan(image()), expected, atol=0, rtol=0)
    assert expected.shape == (2, 24, 8, 12)


@pytest.mark.parametrize(("height", "width"), [(8, 12), (2, 2)])
def test_downsampling_halves_the_sides(height: int, width: int) -> None:
    x = image(16, height, width)
    averaged = F.avg_pool2d(x, 2, stride=1)

    aconv, adown = with_statistics(AConv(16, 24)), with_statistics(ADown(16, 24))

    torch.testing.assert_close(aconv(x), aconv.conv(averaged), atol=0, rtol=0)
    pooled = F.max_pool2d(averaged[:, 8:], 3, stride=2, padding=1)
    halves = [adown.conv_branch(averaged[:, :8]), adown.pool_branch(pooled)]
    torch.testing.assert_close(adown(x), torch.cat(halves, dim=1), atol=0, rtol=0)
    assert aconv(x).shape == adown(x).shape == (2, 24, height // 2, width // 2)


def test_attention_mixes_all_cells_of_an_image() -> None:
    attention = with_statistics(PSA(16))
    x = image()
    changed = x.clone()
    changed[0, :, 0, 0] += 1.0

    difference = (attention(changed) - attention(x)).abs().amax(dim=1)  # (N, H, W)

    assert (difference[0] > 0).all()
    assert (difference[1] == 0).all()


@pytest.mark.parametrize("channels", [2, 130, 198, 254, 392])
def test_attention_of_any_width(channels: int) -> None:
    x = image(2 * channels)
    assert PSA(2 * channels).double()(x).shape == x.shape


def test_attention_equals_its_formula() -> None:
    attention = with_statistics(PSA(256)).attention
    x = image(128)
    qkv = attention.qkv(x).view(2, 2, 128, 96)  # (N, heads, 2 K + V, H W)
    query, key, value = qkv[:, :, :32], qkv[:, :, 32:64], qkv[:, :, 64:]

    weights = (query.mT @ key / 32**0.5).softmax(dim=-1)  # (N, heads, H W, H W)
    mixed = (value @ weights.mT).view(x.shape)
    expected = attention.project(mixed + attention.position(value.reshape(x.shape)))

    torch.testing.assert_close(attention(x), expected, atol=1e-12, rtol=0)
