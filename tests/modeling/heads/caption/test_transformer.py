"""The transformer: equality with torch's layers, published sizes, cache and masks."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from yolor_d2.modeling.heads.caption.encodings import TextEmbedding, sine_encoding
from yolor_d2.modeling.heads.caption.transformer import (
    CrossAttention,
    SelfAttention,
    TransformerDecoder,
    TransformerEncoder,
    attention_mask,
)

from ...factory import count_parameters

DIM, HEADS, FFN = 16, 2, 24
SIZES = {"dim": DIM, "num_heads": HEADS, "ffn_dim": FFN, "dropout": 0.0}


def decoder(layers: int = 2, *, seed: int = 0) -> TransformerDecoder:
    torch.manual_seed(seed)
    module = TransformerDecoder(layers, **SIZES).double().eval()
    for parameter in module.parameters():  # biases and norms count as well
        nn.init.normal_(parameter, std=0.3)
    return module


def visual(n: int = 2, length: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randn(n, length, DIM, generator=generator, dtype=torch.float64)
    padding = torch.zeros(n, length, dtype=torch.bool)
    padding[0, 4:] = True
    return tokens, padding


def text(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(*shape, DIM, generator=generator, dtype=torch.float64)


def copy_attention(theirs: nn.MultiheadAttention, ours: SelfAttention | CrossAttention) -> None:
    if isinstance(ours, SelfAttention):
        inputs = [ours.query_key_value]
    else:
        inputs = [ours.query, ours.key_value]
    theirs.in_proj_weight.copy_(torch.cat([layer.weight for layer in inputs]))
    theirs.in_proj_bias.copy_(torch.cat([layer.bias for layer in inputs]))
    theirs.out_proj.load_state_dict(ours.output.state_dict())


@torch.no_grad()
def torch_decoder(ours: TransformerDecoder) -> nn.TransformerDecoder:
    layer = nn.TransformerDecoderLayer(
        DIM, HEADS, FFN, dropout=0, batch_first=True, norm_first=True, dtype=torch.float64
    )
    stack = nn.TransformerDecoder(layer, len(ours.layers), nn.LayerNorm(DIM).double())
    for theirs, own in zip(stack.layers, ours.layers, strict=True):
        copy_attention(theirs.self_attn, own.text_attention)
        copy_attention(theirs.multihead_attn, own.visual_attention)
        for name, source in (
            ("norm1", own.text_norm),
            ("norm2", own.visual_norm),
            ("norm3", own.ffn_norm),
            ("linear1", own.ffn[0]),
            ("linear2", own.ffn[3]),
        ):
            getattr(theirs, name).load_state_dict(source.state_dict())
    stack.norm.load_state_dict(ours.norm.state_dict())
    return stack.eval()


@torch.no_grad()
def torch_encoder(ours: TransformerEncoder) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(
        DIM, HEADS, FFN, dropout=0, batch_first=True, norm_first=True, dtype=torch.float64
    )
    norm = nn.LayerNorm(DIM).double()
    stack = nn.TransformerEncoder(layer, len(ours.layers), norm, enable_nested_tensor=False)
    for theirs, own in zip(stack.layers, ours.layers, strict=True):
        copy_attention(theirs.self_attn, own.attention)
        for name, source in (
            ("norm1", own.attention_norm),
            ("norm2", own.ffn_norm),
            ("linear1", own.ffn[0]),
            ("linear2", own.ffn[3]),
        ):
            getattr(theirs, name).load_state_dict(source.state_dict())
    stack.norm.load_state_dict(ours.norm.state_dict())
    return stack.eval()


def test_published_parameter_counts() -> None:
    sizes = {"dim": 256, "num_heads": 8, "ffn_dim": 2048, "dropout": 0.1}
    with torch.device("meta"):
        encoder, six = TransformerEncoder(6, **sizes), TransformerDecoder(6, **sizes)
        embedding = TextEmbedding(30522, 128, 256, pad_id=0, dropout=0.1)
    assert count_parameters(encoder) == 7_890_944
    assert count_parameters(next(iter(encoder.layers))) == 1_315_072
    assert count_parameters(six) == 9_473_024
    assert count_parameters(next(iter(six.layers))) == 1_578_752
    assert count_parameters(embedding) == 7_846_912


def test_decoder_equals_torch() -> None:
    ours = decoder()
    tokens, padding = visual()
    x = text(2, 5)
    causal = torch.ones(5, 5, dtype=torch.bool).triu(1)

    expected = torch_decoder(ours)(
        x, tokens, tgt_mask=causal, tgt_is_causal=True, memory_key_padding_mask=padding
    )

    torch.testing.assert_close(ours(x, tokens, padding), expected, rtol=1e-10, atol=1e-10)


def test_encoder_equals_torch() -> None:
    torch.manual_seed(0)
    ours = TransformerEncoder(2, **SIZES).double().eval()
    tokens, padding = visual()

    expected = torch_encoder(ours)(tokens, src_key_padding_mask=padding)
    found = ours(tokens, padding)

    torch.testing.assert_close(found[~padding], expected[~padding], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("beam_size", [1, 3])
def test_steps_equal_whole_texts(beam_size) -> None:
    module = decoder()
    tokens, padding = visual()
    x = text(2, beam_size, 6)  # (N, K, T, D)
    repeated = (item.repeat_interleave(beam_size, dim=0) for item in (tokens, padding))
    expected = module(x.flatten(0, 1), *repeated).view_as(x)

    cache = module.start(tokens, padding, beam_size=beam_size, max_length=6)
    found = [module.step(x[:, :, position], cache, position) for position in range(6)]

    torch.testing.assert_close(torch.stack(found, dim=2), expected, rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_projection_does_not_change_cross_attention() -> None:
    attention = next(iter(decoder().layers)).visual_attention
    tokens, padding = visual()
    x, mask = text(2, 3), attention_mask(padding)
    expected = attention(x, attention.project(tokens), mask)
    torch.testing.assert_close(attention(x, tokens, mask), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("images", "queries", "projected"), [(2, 15, False), (2, 16, True), (1, 15, True)]
)
def test_visual_tokens_are_projected_if_that_saves_work(images, queries, projected) -> None:
    module = decoder()
    tokens, padding = visual(images)
    with_keys = 2 * DIM**2 + queries * 2 * DIM  # multiplications for each visual token
    without = queries * 2 * DIM * HEADS
    if images > 1:
        assert projected == (with_keys <= without)
    cache = module.start(tokens, padding, beam_size=1, max_length=queries)
    assert (cache.visual[0] is not tokens) == projected


def test_reordered_beams_continue_their_parents() -> None:
    module = decoder()
    tokens, padding = visual()
    x = text(2, 3, 4)
    parents = torch.tensor([[2, 0, 0], [1, 2, 1]])
    cache = module.start(tokens, padding, beam_size=3, max_length=4)
    for position in range(3):
        module.step(x[:, :, position], cache, position)

    cache.reorder(parents, 3)
    found = module.step(x[:, :, 3], cache, 3)

    past = torch.stack([x[image, parents[image], :3] for image in range(2)])  # (N, K, 3, D)
    texts = torch.cat([past, x[:, :, 3:]], dim=2)
    expected = [module(texts[i], tokens[[i] * 3], padding[[i] * 3])[:, 3] for i in range(2)]
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-10, atol=1e-10)


def test_later_tokens_have_no_influence() -> None:
    module = decoder()
    x = text(2, 6)
    other = x.clone()
    other[:, 4:] += 1
    before, after = module(x, *visual()), module(other, *visual())
    torch.testing.assert_close(before[:, :4], after[:, :4], rtol=0, atol=1e-12)
    assert (before[:, 4:] != after[:, 4:]).any(dim=2).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_padding_has_no_influence_to_the_last_bit(dtype) -> None:
    module = decoder().to(dtype)
    encoder = TransformerEncoder(2, **SIZES).to(dtype).eval()
    tokens, padding = visual()
    tokens, x = tokens.to(dtype), text(2, 5).to(dtype)
    other = torch.where(padding[:, :, None], 1e3 * tokens.flip(1), tokens)

    assert torch.equal(module(x, tokens, padding), module(x, other, padding))
    assert torch.equal(encoder(tokens, padding)[~padding], encoder(other, padding)[~padding])
    steps = []
    for memory in (tokens, other):
        cache = module.start(memory, padding, beam_size=5, max_length=1)
        steps.append(module.step(x, cache, 0))
    assert torch.equal(*steps)


def test_images_without_content_have_finite_results() -> None:
    module = decoder()
    tokens, padding = visual()
    padding[1] = True
    tokens.requires_grad_()
    out = module(text(2, 5), tokens, padding)
    out.sum().backward()
    assert out.isfinite().all()
    assert tokens.grad.isfinite().all()
    assert attention_mask(padding)[:, 0, 0].tolist() == [[True] * 4 + [False] * 3, [True] * 7]


def test_parts_of_a_linear_layer_are_initialized_separately() -> None:
    torch.manual_seed(0)
    bound = math.sqrt(6 / (64 + 64))
    attention = CrossAttention(64, 4)
    for layer in (SelfAttention(64, 4).query_key_value, attention.key_value, attention.query):
        for weight in layer.weight.chunk(len(layer.weight) // 64):
            assert 0.99 * bound < weight.abs().max() <= bound
        assert not layer.bias.any()


def test_sine_encoding() -> None:
    found = sine_encoding(torch.tensor([0.0, 0.25, 1.0]), 4)
    expected = [
        [0, 0, 1, 1],
        [math.sin(math.pi / 4), 0, math.cos(math.pi / 4), 1],  # half a wave, eight waves
        [0, 0, -1, 1],
    ]
    torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=1e-5)


@pytest.mark.parametrize("cells", [10, 20, 80])
def test_sine_encoding_differs_between_cells(cells) -> None:
    """The distance of two encodings grows with that of the cells."""
    codes = sine_encoding((torch.arange(cells) + 0.5) / cells, 128)
    distances = torch.cdist(codes, codes) + 1e3 * torch.eye(cells)
    assert distances.min() > 1
    nearest = distances[cells // 2, cells // 2 + 1 :][:4].tolist()
    assert all(near < far for near, far in pairwise(nearest))


@torch.no_grad()
def test_extend_equals_step() -> None:
    """It returns the same outputs, and the keys and values that `step` writes to the cache."""
    module, (tokens, padding) = decoder(), visual()
    images, beams, length = 2, 3, 4
    x = text(length, images, beams)
    cache = module.start(tokens, padding, beam_size=beams, max_length=length)
    past = cache.text.unflatten(2, (images, beams))[..., :0, :]
    for position in range(length):
        expected = module.step(x[position], cache, position)
        found, past = module.extend(x[position], past, torch.stack(cache.visual), cache.mask)
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(past, cache.text.unflatten(2, (images, beams)))
