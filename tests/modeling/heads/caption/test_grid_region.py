"""The caption head of gyolo: tokens, attention, cache, losses, options."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yolor_d2.modeling.heads.caption import (
    CaptionTraining,
    Decoding,
    GridAndRegions,
    GridRegionCaptionHead,
    PointOptions,
    SelfCritical,
    TransformerSizes,
    VocabularyOptions,
)
from yolor_d2.modeling.heads.caption.encodings import sinusoids
from yolor_d2.modeling.heads.caption.parallel_attention import PostNormAttention
from yolor_d2.modeling.objects import HeadOutputs

from .factory import CAPTIONS, PAD, SHAPES, make_features, targets

POINTS = PointOptions(features=["p3", "p5"], semantic_channels=8, max_points=7)
SIZES = TransformerSizes(dim=16, num_heads=2, ffn_dim=32, decoder_layers=2, encoder_layers=1)
VOCABULARY = VocabularyOptions(23, tied=False)
CELLS = 8 * 12 + 2 * 3  # of p3 and p5


def make_head(**options: Any) -> GridRegionCaptionHead:
    torch.manual_seed(0)
    arguments = {
        "in_features": ["c5"],
        "points": POINTS,
        "vocabulary": VOCABULARY,
        "sizes": SIZES,
        "training": CaptionTraining(dropout=0.0),
        "decoding": Decoding(max_tokens=8, finished_in_beam=True),
    }
    return GridRegionCaptionHead(input_shape=SHAPES, **arguments | options).eval()


def make_outputs(n: int = 3) -> HeadOutputs:
    rng = torch.Generator().manual_seed(2)
    return HeadOutputs(
        class_logits=torch.randn(n, CELLS, 5, generator=rng),
        semantic_logits=torch.randn(n, 4, 16, 24, generator=rng),
        semantic_features=torch.randn(n, 8, 16, 24, generator=rng),
    )


@pytest.fixture(scope="module")
def head() -> GridRegionCaptionHead:
    return make_head()


@pytest.fixture(scope="module")
def tokens(head: GridRegionCaptionHead) -> GridAndRegions:
    with torch.no_grad():
        return head(make_features(), None, make_outputs())


def test_tokens_are_the_grid_the_best_points_and_one_pixel_per_class(
    head: GridRegionCaptionHead, tokens: GridAndRegions
) -> None:
    features, outputs = make_features(), make_outputs()
    assert tokens.grid.shape == (3, 2 * 3, 16)
    assert tokens.regions.shape == (3, 7 + 4, 16)
    maps = [head.points[name](features[name]).flatten(2) for name in ("p3", "p5")]
    points = torch.cat(maps, dim=2)[0].T  # (A, D)
    best = outputs.class_logits[0].amax(dim=1).topk(7).indices
    torch.testing.assert_close(tokens.regions[0, :7], points[best])
    pixels = outputs.semantic_logits[0].flatten(1).argmax(dim=1)
    whole_map = head.semantic_points(outputs.semantic_features)[0].flatten(1).T  # (h * w, D)
    torch.testing.assert_close(tokens.regions[0, 7:], whole_map[pixels])


def test_fewer_points_than_regions() -> None:
    outputs = make_outputs()
    head = make_head(points=POINTS._replace(max_points=1000))
    assert head(make_features(), None, outputs).regions.shape == (3, CELLS + 4, 16)


def test_attention_equals_torch() -> None:
    torch.manual_seed(0)
    ours = PostNormAttention(dim=16, num_heads=2, dropout=0.0).double()
    theirs = nn.MultiheadAttention(16, 2, batch_first=True, dtype=torch.float64)
    parts = (ours.query, ours.key, ours.value)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
    theirs.out_proj.load_state_dict(ours.output.state_dict())
    x, memory = torch.randn(2, 3, 16).double(), torch.randn(2, 5, 16).double()
    attended = theirs(x, memory, memory)[0]
    torch.testing.assert_close(ours(x, ours.project(memory)), ours.norm(x + attended))


@torch.no_grad()
def test_steps_equal_whole_texts(head: GridRegionCaptionHead, tokens: GridAndRegions) -> None:
    ids = torch.randint(3, 23, (3, 2, 6), generator=torch.Generator().manual_seed(0))
    whole = head.text_logits(tokens, ids.flatten(0, 1)).view(3, 2, 6, 23)
    step = head._step(tokens, width=2, max_tokens=8)
    for position in range(6):
        logits = step(ids[:, :, position], position, None)
        torch.testing.assert_close(logits, whole[:, :, position], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_beams_continue_their_parents(head: GridRegionCaptionHead, tokens: GridAndRegions) -> None:
    step = head._step(tokens, width=2, max_tokens=8)
    step(torch.tensor([[1, 3]] * 3), 0, None)
    parents = torch.tensor([[1, 1], [0, 1], [1, 0]])
    found = step(torch.tensor([[7, 8]] * 3), 1, parents)
    texts = torch.stack([torch.tensor([1, 3])[parents], torch.tensor([[7, 8]] * 3)], dim=2)
    expected = head.text_logits(tokens, texts.flatten(0, 1))[:, -1].view(3, 2, 23)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_texts_after_padding_have_equal_probabilities(
    head: GridRegionCaptionHead, tokens: GridAndRegions
) -> None:
    logits = head.text_logits(tokens, CAPTIONS)
    assert not logits[CAPTIONS == PAD].any()
    assert logits[CAPTIONS != PAD].std() > 0.1


@torch.no_grad()
def test_score_of_a_caption_is_its_log_probability(
    head: GridRegionCaptionHead, tokens: GridAndRegions
) -> None:
    found = head.generate(tokens)
    log_probs = head.text_logits(tokens, found.ids[:, :-1]).log_softmax(dim=2)
    gained = log_probs.gather(2, found.ids[:, 1:, None])[..., 0]
    expected = gained.masked_fill(found.ids[:, 1:] == PAD, 0).sum(dim=1)
    torch.testing.assert_close(found.scores, expected, rtol=1e-4, atol=1e-4)


def test_losses_train_every_parameter_and_keep_the_positions() -> None:
    head = make_head(training=CaptionTraining(dropout=0.2)).train()
    positions = head.text.positions.clone()
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        encoded = head(make_features(), None, make_outputs())
        head.losses(encoded, targets())["loss_caption"].backward()
        assert all(p.grad is not None and p.grad.any() for p in head.parameters())
        optimizer.step()
    assert torch.equal(head.text.positions, positions)
    assert "text.positions" in head.state_dict()


def test_cross_entropy_equals_torch(head: GridRegionCaptionHead, tokens: GridAndRegions) -> None:
    loss = head.losses(tokens, targets())["loss_caption"]
    logits = head.text_logits(tokens, CAPTIONS[:, :-1])
    expected = F.cross_entropy(logits.transpose(1, 2), CAPTIONS[:, 1:], ignore_index=PAD)
    torch.testing.assert_close(loss, expected)


def test_self_critical_training() -> None:
    head = make_head(self_critical=SelfCritical(samples=3)).train()
    encoded = head(make_features(), None, make_outputs())

    def reward(_: Any, ids: Tensor) -> Tensor:
        return (ids == 5).float().sum(dim=2)

    head.losses(encoded, targets(), reward)["loss_caption"].backward()
    assert all(p.grad is not None for p in head.parameters())


def test_sinusoids() -> None:
    table = sinusoids(129, 256)
    assert table.shape == (129, 256)
    torch.testing.assert_close(table[5, 0], torch.tensor(5.0).sin())
    torch.testing.assert_close(table[5, 1], torch.tensor(5.0).cos())
    torch.testing.assert_close(table.square().sum(dim=1), torch.full((129,), 128.0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_features": ["c5", "p5"]}, r"IN_FEATURES must be one map .* \['c5', 'p5'\]"),
        ({"vocabulary": VocabularyOptions(23)}, "TIED must be False"),
        ({"training": CaptionTraining(word_dropout=0.1)}, "WORD_DROPOUT must be 0 .* not 0.1"),
        ({"points": POINTS._replace(max_points=0)}, "MAX_REGIONS is 0"),
        ({"decoding": Decoding(max_tokens=200)}, "TEST.MAX_TOKENS is 200"),
    ],
)
def test_invalid_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_head(**options)


def test_outputs_of_other_heads_are_required(head: GridRegionCaptionHead) -> None:
    with pytest.raises(ValueError, match="GridRegionCaptionHead needs the outputs of the other"):
        head(make_features())
