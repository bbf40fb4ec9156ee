"""Names of the published gyolo's weights in our network: pairs of (published path, our path).

Published keys are `model.<layer>.<...>`. Layers 0 to 23 are the trunk, 43 to 46 and 51 to 54 the
necks of the semantic and the mask head, 55 the heads, 56 the caption head.
"""

from collections.abc import Iterator

Pair = tuple[str, str]

LEVELS = ("p3", "p4", "p5")
# Layers of the attention and feed-forward layers of the caption head.
ATTENTION: tuple[Pair, ...] = (
    ("attention.fc_q", "query"),
    ("attention.fc_k", "key"),
    ("attention.fc_v", "value"),
    ("attention.fc_o", "output"),
    ("layer_norm", "norm"),
)
FEED_FORWARD: tuple[Pair, ...] = (
    ("fc1", "layers.0"),
    ("fc2", "layers.3"),
    ("layer_norm", "norm"),
)


def caption_layers() -> Iterator[Pair]:
    """Linear layers and layer norms of the caption head, which have a weight and a bias."""
    grid, decoder = "56.grit_transformer.grid_net", "56.grit_transformer.cap_generator.layers.0"
    ours = "caption_head.grid"
    yield f"{grid}.fc", f"{ours}.project"
    yield f"{grid}.layer_norm", f"{ours}.norm"
    yield from _joined(f"{grid}.layers.0.mhatt", f"{ours}.layers.0.attention", ATTENTION)
    yield from _joined(f"{grid}.layers.0.pwff", f"{ours}.layers.0.ffn", FEED_FORWARD)
    ours = "caption_head.decoder.layers.0"
    for name, our_name in (
        ("self_att", "text_attention"),
        ("vis_att1", "grid_attention"),
        ("vis_att2", "region_attention"),
    ):
        yield from _joined(f"{decoder}.{name}", f"{ours}.{our_name}", ATTENTION)
    yield f"{decoder}.fc_alpha1", f"{ours}.gate"
    yield from _joined(f"{decoder}.pwff", f"{ours}.ffn", FEED_FORWARD)


def caption_blocks() -> Iterator[Pair]:
    """Convolutions with batch norm of the caption head."""
    for step in range(2):
        for number, level in enumerate(LEVELS):
            yield f"56.cv3.{number}.{step}", f"caption_head.points.{level}.{step}"
        yield f"56.cv4.{step}", f"caption_head.grid.blocks.{step}"
        yield f"56.cv5.{step}", f"caption_head.semantic_points.{step}"


# Single tensors of the caption head.
CAPTION_TENSORS: tuple[Pair, ...] = (
    ("56.grit_transformer.cap_generator.word_emb.weight", "caption_head.text.words.weight"),
    ("56.grit_transformer.cap_generator.pos_emb.weight", "caption_head.text.positions"),
    ("56.grit_transformer.cap_generator.fc.weight", "caption_head.output.weight"),
)


def _joined(path: str, our_path: str, parts: tuple[Pair, ...]) -> Iterator[Pair]:
    for name, our_name in parts:
        yield f"{path}.{name}", f"{our_path}.{our_name}"
