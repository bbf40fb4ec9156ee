"""Implicit vectors around a convolution."""

import pytest
import torch

from yolor_d2.modeling.heads.branch import make_predictor, make_tower
from yolor_d2.modeling.layers import ConvBlock, ImplicitConv1x1


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(0))


def test_vectors_are_added_before_and_multiplied_after_the_convolution(x) -> None:
    block = ImplicitConv1x1(3, 2)
    weight = block.weight[:, :, 0, 0]

    expected = torch.einsum("oi,nihw->nohw", weight, x + block.implicit_add)
    expected = (expected + block.bias[:, None, None]) * block.implicit_mul

    assert torch.allclose(block(x), expected, atol=1e-6)


def test_folding_is_exact(x) -> None:
    block = ImplicitConv1x1(3, 2).double()
    expected = block(x.double())

    block.fuse()
    block.fuse()

    assert set(block.state_dict()) == {"weight", "bias"}
    assert torch.allclose(block(x.double()), expected, atol=1e-14, rtol=0)


@pytest.mark.parametrize(("saved", "loading"), [(True, False), (False, True)])
def test_weights_with_and_without_vectors_can_be_loaded(x, saved: bool, loading: bool) -> None:
    block = torch.nn.Sequential(ImplicitConv1x1(3, 2, implicit=saved))
    other = torch.nn.Sequential(ImplicitConv1x1(3, 2, implicit=loading))

    other.load_state_dict(block.state_dict())

    assert torch.allclose(other(x), block(x), atol=1e-6)
    assert set(block.state_dict()) != set(other.state_dict())


def test_folding_a_norm(x) -> None:
    block = ConvBlock(3, 8, 3, stride=2)
    block(x)  # updates the running statistics
    block.eval()
    expected = block(x)

    block.fuse()
    block.fuse()

    assert set(block.state_dict()) == {"conv.weight", "conv.bias"}
    assert torch.allclose(block(x), expected, atol=1e-6)


def test_folding_an_unknown_norm_is_refused() -> None:
    block = ConvBlock(3, 8, 3)
    block.norm = torch.nn.GroupNorm(2, 8)
    with pytest.raises(TypeError, match="GroupNorm"):
        block.fuse()


@pytest.mark.parametrize("lost", ["weight", "bias", "implicit_add", "implicit_mul"])
@pytest.mark.parametrize("implicit", [True, False])
def test_incomplete_weights_are_refused(lost: str, implicit: bool) -> None:
    state = torch.nn.Sequential(ImplicitConv1x1(3, 2)).state_dict()
    del state[f"0.{lost}"]
    with pytest.raises(RuntimeError, match=rf"Missing key.*0\.{lost}|Unexpected key"):
        torch.nn.Sequential(ImplicitConv1x1(3, 2, implicit=implicit)).load_state_dict(state)


def test_vectors_are_missing_and_kept_if_the_whole_layer_is_missing() -> None:
    block = torch.nn.Sequential(ImplicitConv1x1(3, 2))
    before = {name: value.clone() for name, value in block.state_dict().items()}

    missing, unexpected = block.load_state_dict({}, strict=False)

    assert set(missing) == set(before)
    assert not unexpected
    assert all(torch.equal(value, before[name]) for name, value in block.state_dict().items())


def branch(*, implicit: bool = True, groups: int = 1) -> torch.nn.Sequential:
    """A branch of yolov7-u6: one vector before the tower, one behind the predictor."""
    tower = make_tower(4, 8, groups=groups, implicit_add=implicit)
    predictor = make_predictor(8, 12, groups=groups, implicit=implicit, placement="tower")
    return torch.nn.Sequential(tower, predictor).double().eval()


@pytest.mark.parametrize("groups", [1, 4])
def test_vector_before_a_tower(groups: int) -> None:
    x = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    whole, plain = branch(groups=groups), branch(implicit=False, groups=groups)
    state = whole.state_dict()
    add, mul = state.pop("0.implicit_add"), state.pop("1.implicit_mul")
    plain.load_state_dict(state)
    expected = plain(x + add) * mul
    assert torch.equal(whole(x), expected)

    for module in whole.modules():
        if hasattr(module, "fuse"):
            module.fuse()
    assert [name for name in whole.state_dict() if "implicit" in name] == ["0.implicit_add"]
    assert torch.allclose(whole(x), expected, atol=1e-13, rtol=0)


def test_weights_without_vectors_load_before_a_tower() -> None:
    x = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    whole, plain = branch(), branch(implicit=False)
    whole.load_state_dict(plain.state_dict())
    assert torch.equal(whole(x), plain(x))


def test_vectors_of_a_grouped_convolution_are_folded() -> None:
    x = torch.randn(2, 8, 5, 6, dtype=torch.float64)
    layer = ImplicitConv1x1(8, 12, groups=4).double()
    expected = layer(x)
    layer.fuse()
    assert torch.allclose(layer(x), expected, atol=1e-14, rtol=0)


def test_weights_with_both_vectors_load_where_only_the_gain_is() -> None:
    x = torch.randn(2, 8, 5, 6, dtype=torch.float64)
    saved = torch.nn.Sequential(ImplicitConv1x1(8, 12)).double()
    layer = torch.nn.Sequential(ImplicitConv1x1(8, 12, implicit_add=False)).double()
    layer.load_state_dict(saved.state_dict())
    assert torch.allclose(layer(x), saved(x), atol=1e-14, rtol=0)
