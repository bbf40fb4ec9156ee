"""The caption head: sizes, tokens and their padding, losses, captions."""

import copy
import pickle
import time

import pytest
import torch
from detectron2.layers import ShapeSpec
from torch import Tensor

from yolor_d2.letterbox import Content
from yolor_d2.modeling.heads.caption import (
    TransformerCaptionHead,
    TransformerSizes,
    VisualTokens,
    VocabularyOptions,
)
from yolor_d2.modeling.heads.caption.decoding import Captions, beam_search

from ...factory import count_parameters
from .factory import BOS, CAPTIONS, EOS, PAD, SHAPES, make_features, make_head, targets


def test_parameter_counts_of_the_paper() -> None:
    maps = {name: ShapeSpec(channels=1024, stride=32) for name in ("c5", "p5")}
    with torch.device("meta"):
        head = TransformerCaptionHead(
            input_shape=maps,
            in_features=list(maps),
            vocabulary=VocabularyOptions(30522, tied=False, output_dims=[512, 512]),
            sizes=TransformerSizes(dim=256, decoder_layers=6),
        )
    sizes = {name: count_parameters(child) for name, child in head.named_children()}
    assert sizes == {
        "projections": 524_800,
        "text": 7_846_912,
        "decoder": 9_473_024,
        "output": 16_052_026,
    }
    assert count_parameters(head) == 33_371_962 + 524_800


def test_tied_head_has_no_output_layer() -> None:
    tied, untied = make_head(), make_head(tied=False)
    assert count_parameters(untied) - count_parameters(tied) == 16 * 23 + 23
    ids = CAPTIONS[:, :-1]
    tokens = tied(make_features())
    decoded = tied.decoder(tied.text(ids, slice(4)), *tokens)
    expected = decoded @ tied.text.words.weight.T
    torch.testing.assert_close(tied.text_logits(tokens, ids), expected)


def test_initial_logits_have_unit_scale() -> None:
    head = make_head(vocab_size=500, dim=64)
    logits = head.text_logits(head(make_features()), torch.randint(3, 500, (3, 6)))
    assert 0.8 < logits.std() < 1.2
    assert not head.text.words.weight[PAD].any()


def test_visual_tokens() -> None:
    """Maps in order, row-major: projected pixels plus an encoding of the cell's position."""
    head = make_head()
    features = make_features()
    tokens, padding = head(features)
    assert tokens.shape == (3, 2 * 6, 16)
    assert not padding.any()
    projected = [head.projections[m](features[m].permute(0, 2, 3, 1)) for m in ("c5", "p5")]
    places = [tokens[:, 6 * i : 6 * i + 6] - projected[i].flatten(1, 2) for i in range(2)]
    torch.testing.assert_close(places[0], places[1])
    torch.testing.assert_close(places[0][0], places[0][2])
    grid = places[0][0].view(2, 3, 16)
    torch.testing.assert_close(grid[0, :, :8], grid[0, :1, :8].expand(3, -1))  # rows
    torch.testing.assert_close(grid[:, 0, 8:], grid[:1, 0, 8:].expand(2, -1))  # columns
    assert (grid[0, 0] - grid[1, 0]).abs().max() > 0.1
    assert (grid[0, 0] - grid[0, 1]).abs().max() > 0.1


@pytest.mark.parametrize(
    ("content", "rows", "columns"),
    [
        (Content(0, 0, 96, 64), [1, 1], [1, 1, 1]),
        (Content(0, 0, 64, 32), [1, 0], [1, 1, 0]),
        (Content(0, 0, 65, 33), [1, 1], [1, 1, 1]),
        (Content(32, 0, 32, 64), [1, 1], [0, 1, 0]),
        (Content(31, 32, 2, 1), [0, 1], [1, 1, 0]),
        (Content(0, 0, 1, 1), [1, 0], [1, 0, 0]),
    ],
)
def test_cells_outside_the_content_are_padding(content, rows, columns) -> None:
    _, padding = make_head("p5")(make_features(1), [content])
    kept = torch.tensor(rows)[:, None] * torch.tensor(columns)
    assert (~padding).int().view(2, 3).tolist() == kept.tolist()


def on_a_larger_canvas(features: dict[str, Tensor], cells: int) -> dict[str, Tensor]:
    """The same maps within a margin of `cells` cells of stride 32 that is filled with infinity."""
    larger = {}
    for name, feature in features.items():
        margin = cells * 32 // SHAPES[name].stride
        n, c, h, w = feature.shape
        canvas = torch.full((n, c, h + 2 * margin, w + 2 * margin), torch.inf)
        canvas[:, :, margin : margin + h, margin : margin + w] = feature
        larger[name] = canvas
    return larger


@pytest.mark.parametrize("encoder_layers", [0, 2])
@pytest.mark.parametrize("maps", [("p5",), ("p3", "c5", "p5")])
def test_tokens_do_not_depend_on_the_canvas(maps, encoder_layers) -> None:
    head = make_head(*maps, encoder_layers=encoder_layers)
    features = make_features()
    sizes = [(96, 64), (70, 64), (90, 40)]
    tight = head(features, [Content(0, 0, w, h) for w, h in sizes])
    larger = head(on_a_larger_canvas(features, 2), [Content(64, 64, w, h) for w, h in sizes])

    for i in range(3):
        kept = [tokens.tokens[i][~tokens.padding[i]] for tokens in (tight, larger)]
        torch.testing.assert_close(*kept, rtol=1e-5 * encoder_layers, atol=1e-5 * encoder_layers)
    assert larger.tokens.isfinite().all()
    for beam_size in (1, 3):
        found = [head.generate(tokens, beam_size=beam_size) for tokens in (tight, larger)]
        assert torch.equal(found[0].ids, found[1].ids)
        torch.testing.assert_close(found[0].scores, found[1].scores)


def test_contents_as_a_tensor() -> None:
    head = make_head()
    contents = [Content(0, 0, 50, 64), Content(10, 0, 60, 32), Content(0, 0, 96, 64)]
    first, second = head(make_features(), contents), head(make_features(), torch.tensor(contents))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_cross_entropy_loss() -> None:
    head = make_head(loss_weight=0.5)
    tokens = head(make_features())
    log_probs = head.text_logits(tokens, CAPTIONS[:, :-1]).log_softmax(2)
    next_tokens = [(0, 0, 5), (0, 1, 6), (0, 2, 7), (0, 3, EOS), (1, 0, 9), (1, 1, EOS)]
    expected = 0.5 * -sum(log_probs[index] for index in next_tokens) / 6
    torch.testing.assert_close(head.losses(tokens, targets())["loss_caption"], expected)


def test_label_smoothing_is_uniform() -> None:
    head, smooth = make_head(), make_head(label_smoothing=0.2)
    tokens = head(make_features())
    log_probs = head.text_logits(tokens, CAPTIONS[:, :-1]).log_softmax(2)
    everything = -log_probs.mean(2)[CAPTIONS[:, 1:] != PAD].mean()
    expected = 0.8 * head.losses(tokens, targets())["loss_caption"] + 0.2 * everything
    torch.testing.assert_close(smooth.losses(tokens, targets())["loss_caption"], expected)


def test_images_without_captions_have_no_gradient() -> None:
    head = make_head(encoder_layers=1)
    ids = torch.tensor([[1, 5, 2], [1, 6, 2], [0, 0, 0]])
    features = {name: f.requires_grad_() for name, f in make_features().items()}
    tokens = head(features, [Content(0, 0, 50, 50)] * 3)

    loss = head.losses(tokens, targets(ids, [True, False, False]))["loss_caption"]
    loss.backward()

    for name in ("c5", "p5"):
        assert features[name].grad[0].any()
        assert not features[name].grad[1:].any()
    alone = VisualTokens(tokens.tokens[:1], tokens.padding[:1])
    torch.testing.assert_close(loss, head.losses(alone, targets(ids[:1]))["loss_caption"])


@pytest.mark.parametrize("options", [{}, {"tied": False, "output_dims": [8]}])
@pytest.mark.parametrize("ids", [CAPTIONS * 0, CAPTIONS[:, :2] * 0, CAPTIONS])
def test_batch_without_captions_has_zero_gradients(ids, options) -> None:
    head = make_head(encoder_layers=1, label_smoothing=0.1, **options)
    loss = head.losses(head(make_features()), targets(ids, [False] * 3))["loss_caption"]
    loss.backward()
    assert loss == 0
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name


def test_every_parameter_has_a_gradient() -> None:
    head = make_head(encoder_layers=1, tied=False, output_dims=[8]).train()
    head.losses(head(make_features()), targets())["loss_caption"].backward()
    assert all(parameter.grad.any() for parameter in head.parameters())


def test_backward_keeps_one_copy_of_the_logits() -> None:
    head = make_head(vocab_size=997)
    tokens = head(make_features())
    kept = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.numel() >= 3 * 4 * 997:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        head.losses(tokens, targets())
    weights = head.text.words.weight.untyped_storage().data_ptr()
    assert len(kept.keys() - {weights}) == 1


def generate_without_cache(
    head: TransformerCaptionHead, tokens: VisualTokens, *, beam_size: int, max_tokens: int
) -> Captions:
    """`generate` from whole texts: the previous tokens are decoded again at each step."""
    n = len(tokens.tokens)
    repeated = VisualTokens(*(item.repeat_interleave(beam_size, dim=0) for item in tokens))
    texts = torch.zeros(n, beam_size, 0, dtype=torch.int64)

    def step(ids: Tensor, position: int, parents: Tensor | None, /) -> Tensor:
        nonlocal texts
        if parents is not None:
            texts = texts.gather(1, parents[:, :, None].expand_as(texts))
        texts = torch.cat([texts, ids[:, :, None]], dim=2)
        return head.text_logits(repeated, texts.flatten(0, 1))[:, -1].unflatten(0, ids.shape)

    return beam_search(
        step,
        head.vocabulary,
        num_images=n,
        beam_size=beam_size,
        max_tokens=max_tokens,
        device=tokens.tokens.device,
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("beam_size", [1, 4])
@pytest.mark.parametrize("options", [{}, {"tied": False, "output_dims": [9], "encoder_layers": 1}])
def test_cache_gives_the_same_captions(beam_size, seed, options) -> None:
    head = make_head(seed=seed, **options).double()
    with torch.no_grad():
        features = {name: 3 * feature.double() for name, feature in make_features(4).items()}
        tokens = head(features, [Content(0, 0, w, 60) for w in (96, 20, 50, 70)])
        expected = generate_without_cache(head, tokens, beam_size=beam_size, max_tokens=8)
    found = head.generate(tokens, beam_size=beam_size)
    assert torch.equal(found.ids, expected.ids)
    torch.testing.assert_close(found.scores, expected.scores)


@pytest.mark.parametrize("beam_size", [1, 4])
def test_scores_agree_with_the_loss(beam_size) -> None:
    head = make_head(beam_size=beam_size)
    tokens = head(make_features())
    captions = head.generate(tokens)
    loss = head.losses(tokens, targets(captions.ids))["loss_caption"]
    count = (captions.lengths - 1).sum()
    torch.testing.assert_close(-loss * count, captions.scores.sum())


def test_only_usable_tokens_are_generated() -> None:
    head = make_head(tied=False, usable_vocab=5)
    with torch.no_grad():
        head.output[-1].bias[[PAD, BOS, *range(5, 23)]] = 100
    for beam_size in (1, 3):
        ids = head.generate(head(make_features()), beam_size=beam_size).ids
        assert set(ids[:, 1:].flatten().tolist()) <= {PAD, EOS, 3, 4}


def test_generate_uses_the_decoding_of_the_constructor() -> None:
    head = make_head(beam_size=2, max_tokens=5, length_penalty=1.0)
    tokens = head(make_features())
    found = head.generate(tokens)
    expected = head.generate(tokens, beam_size=2, max_tokens=5, length_penalty=1.0)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert found.ids.shape == (3, 5)
    assert not found.scores.requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_finite(dtype) -> None:
    head = make_head(encoder_layers=1)
    with torch.autocast("cpu", dtype=dtype):
        tokens = head(make_features(), [Content(0, 0, 40, 64)] * 3)
        loss = head.losses(tokens, targets())["loss_caption"]
        captions = [head.generate(tokens, beam_size=beam_size) for beam_size in (1, 3)]
    loss.backward()
    assert tokens.tokens.dtype == dtype
    assert loss.dtype == captions[0].scores.dtype == torch.float32
    assert all(p.grad.isfinite().all() for p in head.parameters())
    assert all(c.scores.isfinite().all() for c in captions)
    tokens = head(make_features(), [Content(0, 0, 40, 64)] * 3)
    exact = head.losses(tokens, targets())["loss_caption"]
    torch.testing.assert_close(loss, exact, rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(torch.bfloat16, torch.float32), (torch.float64, torch.float64)],
)
def test_loss_has_at_least_single_precision(dtype, expected) -> None:
    head = make_head().to(dtype)
    tokens = head({name: feature.to(dtype) for name, feature in make_features().items()})
    assert head.losses(tokens, targets())["loss_caption"].dtype == expected


def test_copy_and_pickle() -> None:
    head = make_head(encoder_layers=1)
    expected = head.generate(head(make_features()))
    for other in (copy.deepcopy(head), pickle.loads(pickle.dumps(head))):
        found = other.generate(other(make_features()))
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_channels_last() -> None:
    head = make_head()
    features = make_features()
    last = {n: f.to(memory_format=torch.channels_last) for n, f in features.items()}
    torch.testing.assert_close(head(last).tokens, head(features).tokens)


def test_compiles_without_graph_breaks() -> None:
    head = make_head(encoder_layers=1)
    contents = [Content(0, 0, 50, 64)] * 3

    def run(features: dict[str, Tensor], ids: Tensor) -> Tensor:
        return head.text_logits(head(features, contents), ids)

    compiled = torch.compile(run, fullgraph=True, backend="eager")
    arguments = make_features(), CAPTIONS[:, :-1]
    torch.testing.assert_close(compiled(*arguments), run(*arguments))


@pytest.mark.slow
@pytest.mark.parametrize(("beam_size", "factor"), [(1, 3), (5, 6)])
def test_cache_saves_time(beam_size, factor) -> None:
    """400 visual tokens, 20 tokens of text. Measured: 5.6 and 18 times."""
    head = make_head("p5", dim=512, num_heads=8, ffn_dim=2048, vocab_size=8000)
    with torch.no_grad():
        tokens = head({"p5": torch.randn(8, 12, 20, 20)})
        start = time.perf_counter()
        generate_without_cache(head, tokens, beam_size=beam_size, max_tokens=21)
        without = time.perf_counter() - start
    head.generate(tokens, beam_size=beam_size, max_tokens=21)
    start = time.perf_counter()
    head.generate(tokens, beam_size=beam_size, max_tokens=21)
    assert without > factor * (time.perf_counter() - start)
