"""Blocks of ELAN networks."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from yolor_d2.modeling.layers import SPPCSPC, Elan, Transition


def image(channels: int, height: int = 8, width: int = 12) -> torch.Tensor:
    return torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(0))


def input_of(block: nn.Module, run, *arguments: torch.Tensor) -> torch.Tensor:
    """The input of a part of a block while the block runs."""
    inputs: list[torch.Tensor] = []
    handle = block.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    run(*arguments)
    handle.remove()
    return inputs[0]


def test_the_backbone_merges_every_second_step() -> None:
    elan = Elan(8, 24, width=16, chain_width=16, chain_length=4, keep_every=2).eval()
    x = image(8)
    a, b = elan.shortcut(x), elan.entry(x)
    second = elan.chain[1](elan.chain[0](b))
    fourth = elan.chain[3](elan.chain[2](second))

    merged = input_of(elan.merge, elan, x)

    torch.testing.assert_close(merged, torch.cat([fourth, second, b, a], 1), atol=0, rtol=0)
    assert elan(x).shape == (2, 24, 8, 12)


def test_the_neck_merges_all_steps() -> None:
    elan = Elan(8, 24, width=16, chain_width=8, chain_length=3, keep_every=1).eval()
    x = image(8)
    steps = [elan.shortcut(x), elan.entry(x)]
    for block in elan.chain:
        steps.append(block(steps[-1]))

    merged = input_of(elan.merge, elan, x)

    torch.testing.assert_close(merged, torch.cat(steps[::-1], 1), atol=0, rtol=0)


def test_transition_concatenates_convolution_pooling_and_other_maps() -> None:
    transition = Transition(8, 16).eval()
    x, other = image(8), image(24, 4, 6)

    y = transition(x, other)

    assert y.shape == (2, 16 + 16 + 24, 4, 6)
    torch.testing.assert_close(y[:, :16], transition.conv_branch(x), atol=0, rtol=0)
    pooled = transition.pool_branch(F.max_pool2d(x, 2))
    torch.testing.assert_close(y[:, 16:32], pooled, atol=0, rtol=0)
    torch.testing.assert_close(y[:, 32:], other, atol=0, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (3, 20), (15, 8)])
def test_spatial_pyramid_pools_windows_of_5_9_and_13(size: tuple[int, int]) -> None:
    spp = SPPCSPC(16, 8).eval()
    x = image(16, *size)
    enter = spp.entry(x)
    windows = [F.max_pool2d(enter, k, stride=1, padding=k // 2) for k in (5, 9, 13)]

    pooled = input_of(spp.pyramid, spp, x)

    torch.testing.assert_close(pooled, torch.cat([enter, *windows], 1), atol=0, rtol=0)
    merged = input_of(spp.merge, spp, x)
    expected = torch.cat([spp.pyramid(pooled), spp.shortcut(x)], 1)
    torch.testing.assert_close(merged, expected, atol=0, rtol=0)


def test_max_pooling_pads_with_negative_infinity() -> None:
    spp = SPPCSPC(16, 8).eval()
    with torch.no_grad():
        spp.entry[2].norm.bias.fill_(-1.0)  # SiLU(-1) is negative everywhere
        spp.entry[2].norm.weight.fill_(0.0)

    pooled = input_of(spp.pyramid, spp, image(16, 3, 3))

    torch.testing.assert_close(pooled, torch.full_like(pooled, F.silu(torch.tensor(-1.0)).item()))
