"""gelan-c, -seg and -pan of yolov9, and the v9 family of MultimediaTechLab: GELAN."""

from functools import partial

from .gelan_trunk import LAYOUTS, trunk
from .heads import LEVELS, branch_names, head_names
from .network import Names, Publication, PublishedNetwork, block_names

HEAD = 22  # layer of the head
# The auxiliary branch that trains the v9 family: the layers behind the head.
AUXILIARY = ((r"(2[3-9]|3\d)\.", "auxiliary branch of the training"),)
YOLOV9, MIT = "WongKinYiu/yolov9", "MultimediaTechLab/YOLO"


def _yolov9_names(tasks: tuple[str, ...]) -> Names:
    return block_names(trunk(LAYOUTS["gelan-c"])) | head_names(f"model.{HEAD}", tasks)


def _v9_names(size: str) -> Names:
    names = block_names(trunk(LAYOUTS[f"v9-{size}"]))
    names |= branch_names(f"{HEAD}.heads.{{}}.anchor_conv", "detection_head.box_")
    names |= branch_names(f"{HEAD}.heads.{{}}.class_conv", "detection_head.class_")
    constants = (f"{HEAD}.heads.{number}.anc2vec.anc2vec.weight" for number in range(len(LEVELS)))
    return names | dict.fromkeys(constants)


def _gelan_c(
    suffix: str, tasks: tuple[str, ...], file: str, results: dict[str, float]
) -> PublishedNetwork:
    return PublishedNetwork(
        name=f"gelan-c-{suffix}",
        config=f"COCO/gelan_c_{suffix}.yaml",
        tasks=tasks,
        make_names=partial(_yolov9_names, tasks),
        stem=("model.0.conv.weight", 64),
        publication=Publication(file, YOLOV9, "GPL-3.0", results),
    )


def _v9(size: str, *, stem: int, ap: float) -> PublishedNetwork:
    return PublishedNetwork(
        name=f"v9-{size}",
        config=f"COCO/v9_{size}.yaml",
        tasks=("detection",),
        make_names=partial(_v9_names, size),
        stem=("0.conv.weight", stem),
        publication=Publication(f"v9-{size}.pt", MIT, "MIT", {"bbox/AP": ap}),
        dropped=AUXILIARY,
    )


NETWORKS = (
    _gelan_c("det", ("detection",), "gelan-c-det.pt", {"bbox/AP": 52.5}),
    _gelan_c("seg", ("detection", "mask"), "gelan-c-seg.pt", {"bbox/AP": 52.3, "segm/AP": 42.4}),
    _gelan_c(
        "pan",
        ("detection", "mask", "semantic"),
        "gelan-c-pan.pt",
        {"bbox/AP": 52.6, "segm/AP": 42.5, "sem_seg/mIoU": 39.0, "panoptic_seg/PQ": 39.4},
    ),
    _v9("t", stem=16, ap=38.3),
    _v9("s", stem=32, ap=46.8),
    _v9("m", stem=32, ap=51.4),
    _v9("c", stem=64, ap=53.0),
)
