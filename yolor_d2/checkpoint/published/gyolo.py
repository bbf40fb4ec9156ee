"""gyolo: GELAN with one-to-one detection, and captions from grid and regions.

Names are `model.<layer>.<...>`. Layers 0 to 23 are the trunk, 24 to 42 and 47 to 50 the auxiliary
branch of training, 43 to 46 and 51 to 54 the necks of semantic map and masks, 55 the heads, 56 the
caption head.
"""

from .gelan_trunk import LAYOUTS, YOLOV9, Layout, below, elan, trunk
from .heads import LEVELS, branch_names
from .network import Names, Pairs, Publication, PublishedNetwork, block_names, conv_names

HEAD, CAPTION = "model.55", "model.56"
TEXT = f"{CAPTION}.grit_transformer.cap_generator"
# Parts of attention and feed-forward layers of the caption head.
ATTENTION = (
    ("attention.fc_q", "query"),
    ("attention.fc_k", "key"),
    ("attention.fc_v", "value"),
    ("attention.fc_o", "output"),
    ("layer_norm", "norm"),
)
FEED_FORWARD = (("fc1", "layers.0"), ("fc2", "layers.3"), ("layer_norm", "norm"))
# Published branch, paths of ours, number of blocks of a tower.
BRANCHES = (
    ("cv4", "detection_head.box_", 2),
    ("cv5", "detection_head.class_", 4),
    ("cv6", "detection_head.one_to_one.box_", 2),
    ("cv7", "detection_head.one_to_one.class_", 4),
    ("cv9", "mask_head.coefficient_", 2),
)
DROPPED = (
    (r"model\.(2[4-9]|3\d|4[0-2]|4[7-9]|50)\.", "auxiliary branch of training"),
    (r"model\.55\.(cv[238]|proto|uconv|dfl)\.", "auxiliary branch of training"),
    (rf"{TEXT}\.layers\.0\.fc_alpha2\.", "unused by the published network"),
    (rf"{TEXT}\..*running_", "state of the published decoding"),
)


def _names() -> Names:
    names: Names = {f"{HEAD}.dfl2.conv.weight": None, f"{HEAD}.dfl3.conv.weight": None}
    names |= block_names(trunk(LAYOUTS["gyolo"]))
    for branch, ours, blocks in BRANCHES:
        names |= branch_names(f"{HEAD}.{branch}.{{}}", ours, blocks=blocks)
    names |= block_names(_necks()) | conv_names([(f"{HEAD}.uconv2", "semantic_head.predictor")])
    names |= block_names(_caption_blocks()) | conv_names(_caption_layers())
    return names | {
        f"{TEXT}.word_emb.weight": "caption_head.text.words.weight",
        f"{TEXT}.pos_emb.weight": "caption_head.text.positions",
        f"{TEXT}.fc.weight": "caption_head.output.weight",
    }


def _necks() -> Pairs:
    """Necks of semantic map and masks, and the prototypes."""
    layout = Layout(YOLOV9, bottlenecks=2)
    for first, ours in ((43, "semantic_head.neck"), (51, "mask_head.prototype_net.neck")):
        yield from below(f"model.{first}", f"{ours}.refine", elan("refine", layout))
        yield f"model.{first + 2}", f"{ours}.smooth.0"
        yield f"model.{first + 3}", f"{ours}.smooth.1"
    yield f"{HEAD}.proto2", "mask_head.prototype_net.project"


def _caption_blocks() -> Pairs:
    for step in range(2):
        for number, level in enumerate(LEVELS):
            yield f"{CAPTION}.cv3.{number}.{step}", f"caption_head.points.{level}.{step}"
        yield f"{CAPTION}.cv4.{step}", f"caption_head.grid.blocks.{step}"
        yield f"{CAPTION}.cv5.{step}", f"caption_head.semantic_points.{step}"


def _caption_layers() -> Pairs:
    """Linear layers and layer norms."""
    path, ours = f"{CAPTION}.grit_transformer.grid_net", "caption_head.grid"
    yield f"{path}.fc", f"{ours}.project"
    yield f"{path}.layer_norm", f"{ours}.norm"
    yield from below(f"{path}.layers.0.mhatt", f"{ours}.layers.0.attention", ATTENTION)
    yield from below(f"{path}.layers.0.pwff", f"{ours}.layers.0.ffn", FEED_FORWARD)
    path, ours = f"{TEXT}.layers.0", "caption_head.decoder.layers.0"
    attention = (
        ("self_att", "text_attention"),
        ("vis_att1", "grid_attention"),
        ("vis_att2", "region_attention"),
    )
    for name, our_name in attention:
        yield from below(f"{path}.{name}", f"{ours}.{our_name}", ATTENTION)
    yield f"{path}.fc_alpha1", f"{ours}.gate"
    yield from below(f"{path}.pwff", f"{ours}.ffn", FEED_FORWARD)


NETWORKS = (
    PublishedNetwork(
        name="gyolo",
        config="COCO/gyolo.yaml",
        tasks=("detection", "mask", "semantic", "caption"),
        make_names=_names,
        stem=("model.1.conv.weight", 64),
        dropped=DROPPED,
        publication=Publication(
            "gyolo.pt",
            "WongKinYiu/GeneralistYOLO",
            "GPL-3.0",
            {
                "bbox/AP": 52.4,
                "segm/AP": 43.0,
                "sem_seg/mIoU": 44.7,
                "panoptic_seg/PQ": 44.2,
                "caption/CIDEr": 122.1,
            },
        ),
    ),
)
