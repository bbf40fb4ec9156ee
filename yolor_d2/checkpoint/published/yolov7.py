"""yolov7-af, -seg, -pan and -u6: YOLOR-ELAN.

Names are `model.<layer>.<...>`; layers are numbered from the backbone (0 to 50) through the neck
(to 104) to the heads (105).
"""

from functools import partial

from .heads import LEVELS, head_names
from .network import Names, Pairs, Publication, PublishedNetwork, block_names

HEAD = "model.105"
# Layers of the trunk with one block each.
BLOCKS = {
    0: "bottom_up.stem.0",
    1: "bottom_up.stem.1",
    2: "bottom_up.stem.2",
    3: "bottom_up.stage2.down",
    52: "reduce5",
    54: "lateral4",
    64: "reduce4",
    66: "lateral3",
    102: "output3",
    103: "output4",
    104: "output5",
}
# First layers of ELAN stages and of transitions, which have several layers.
ELANS = {
    4: "bottom_up.stage2.elan",
    17: "bottom_up.stage3.elan",
    30: "bottom_up.stage4.elan",
    43: "bottom_up.stage5.elan",
    56: "top_down4",
    68: "top_down3",
    81: "aggregate4",
    94: "aggregate5",
}
TRANSITIONS = {
    12: "bottom_up.stage3.down",
    25: "bottom_up.stage4.down",
    38: "bottom_up.stage5.down",
    76: "down4",
    89: "down5",
}
# Parts of layer 51, in the order of their published numbers.
SPP = ("entry.0", "shortcut", "entry.1", "entry.2", "pyramid.0", "pyramid.1", "merge")
STEM = ("model.0.conv.weight", 32)
UNPUBLISHED = Publication("", "WongKinYiu/yolov9", "GPL-3.0", {})


def _names(tasks: tuple[str, ...]) -> Names:
    return block_names(_trunk()) | head_names(HEAD, tasks)


def _names_with_vectors() -> Names:
    """Vectors are added before the towers (ia) and multiply the outputs (im)."""
    vectors: Names = {}
    for number, level in enumerate(LEVELS):
        for branch, kind in (("2", "box"), ("3", "class")):
            ours = f"detection_head.{kind}"
            vectors |= {
                f"{HEAD}.ia{branch}.{number}.implicit": f"{ours}_towers.{level}.implicit_add",
                f"{HEAD}.im{branch}.{number}.implicit": f"{ours}_predictors.{level}.implicit_mul",
            }
    return _names(("detection",)) | vectors


def _trunk() -> Pairs:
    """Blocks of backbone and neck: published layer, our path."""
    for layer, name in BLOCKS.items():
        yield f"model.{layer}", f"backbone.{name}"
    for number, name in enumerate(SPP, start=1):
        yield f"model.51.cv{number}", f"backbone.spp.{name}"
    for first, name in ELANS.items():
        yield from _elan(first, f"backbone.{name}")
    for first, name in TRANSITIONS.items():
        yield from _transition(first, f"backbone.{name}")


def _elan(first: int, path: str) -> Pairs:
    """Two entry blocks, a chain of four, a concatenation without entries, the merging block."""
    chain = (f"chain.{step}" for step in range(4))
    for layer, name in enumerate(("shortcut", "entry", *chain), start=first):
        yield f"model.{layer}", f"{path}.{name}"
    yield f"model.{first + 7}", f"{path}.merge"


def _transition(first: int, path: str) -> Pairs:
    """Max-pooling without entries, then three blocks."""
    names = ("pool_branch", "conv_branch.0", "conv_branch.1")
    for layer, name in enumerate(names, start=first + 1):
        yield f"model.{layer}", f"{path}.{name}"


def _network(name: str, config: str, tasks: tuple[str, ...]) -> PublishedNetwork:
    return PublishedNetwork(
        name=name,
        config=config,
        tasks=tasks,
        make_names=partial(_names, tasks),
        stem=STEM,
        publication=UNPUBLISHED,
    )


NETWORKS = (
    _network("yolov7-af", "COCO/yolor_elan_det.yaml", ("detection",)),
    _network("yolov7-af-seg", "COCO/yolor_elan_seg.yaml", ("detection", "mask")),
    _network("yolov7-af-pan", "COCO/yolor_elan_pan.yaml", ("detection", "mask", "semantic")),
    PublishedNetwork(
        name="yolov7-u6",
        config="COCO/yolov7_u6.yaml",
        tasks=("detection",),
        make_names=_names_with_vectors,
        stem=STEM,
        publication=Publication(
            "yolov7-u6.pt", "WongKinYiu/yolov7 (branch u6)", "GPL-3.0", {"bbox/AP": 52.3}
        ),
    ),
)
