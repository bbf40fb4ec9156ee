"""Names of heads that several published networks share."""

from .network import Names, block_names, conv_names

LEVELS = ("p3", "p4", "p5")


def branch_names(path: str, ours: str, *, blocks: int = 2) -> Names:
    """Names of a prediction branch on all maps.

    Args:
        path: published, with {} for the number of the map; the number of the layer is below it.
        ours: path of our towers and predictors, without these words: "detection_head.box_".
        blocks: number of blocks of a tower; the predictor follows.
    """
    names: Names = {}
    for number, level in enumerate(LEVELS):
        below = path.format(number)
        tower, predictor = f"{ours}towers.{level}", f"{ours}predictors.{level}"
        names |= block_names((f"{below}.{step}", f"{tower}.{step}") for step in range(blocks))
        names |= conv_names([(f"{below}.{blocks}", predictor)])
    return names


def mask_names(head: str) -> Names:
    """Names of mask coefficients and prototypes of yolov9's segmentation heads."""
    parts = enumerate(("enter", "refine", "project"), start=1)
    return branch_names(f"{head}.cv4.{{}}", "mask_head.coefficient_") | block_names(
        (f"{head}.proto.cv{number}", f"mask_head.prototype_net.{part}") for number, part in parts
    )


def semantic_names(head: str) -> Names:
    """Names of the semantic branch of yolov9's panoptic heads."""
    return block_names([(f"{head}.uconv.cv1", "semantic_head.tower")]) | conv_names(
        [(f"{head}.uconv.cv2", "semantic_head.predictor")]
    )


def head_names(head: str, tasks: tuple[str, ...]) -> Names:
    """Names of yolov9's heads for detection, segmentation and panoptic segmentation."""
    names: Names = {f"{head}.dfl.conv.weight": None}
    names |= branch_names(f"{head}.cv2.{{}}", "detection_head.box_")
    names |= branch_names(f"{head}.cv3.{{}}", "detection_head.class_")
    if "mask" in tasks:
        names |= mask_names(head)
    if "semantic" in tasks:
        names |= semantic_names(head)
    return names
