"""All configurations build, have the documented numbers of parameters, and train a step."""

from pathlib import Path

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.modeling import build_model

from yolor_d2.model_zoo import config_folder, get_config

from .factory import random_batch

NAMES = sorted(
    str(path.relative_to(config_folder()))
    for folder in ("COCO", "toy")
    for path in (config_folder() / folder).rglob("*.yaml")
)
PARAMETERS = {  # without and in implicit vectors; from published networks and from the paper
    "COCO/yolor_elan_det.yaml": (43_589_712, 1_392),
    "COCO/yolor_elan_seg.yaml": (45_928_432, 1_680),
    "COCO/yolor_elan_pan.yaml": (46_087_131, 1_915),
    "COCO/yolor_elan_mtl_paper.yaml": (79_983_893, 1_915),
    "COCO/gelan_c_seg.yaml": (27_634_704, 0),
    "COCO/gelan_c_pan.yaml": (27_793_533, 0),
}
PAPER_VOCABULARY = 30_522


@pytest.mark.parametrize("name", PARAMETERS)
def test_numbers_of_parameters(name: str) -> None:
    published, implicit = PARAMETERS[name]
    cfg = get_config(name)
    cfg.MODEL.DEVICE = "meta"

    with torch.device("meta"):
        with_vectors = build_model(cfg)
        cfg.MODEL.YOLOR.IMPLICIT = False
        without = build_model(cfg)

    assert sum(p.numel() for p in without.parameters()) == published
    assert sum(p.numel() for p in with_vectors.parameters()) == published + implicit


@pytest.mark.parametrize("name", NAMES)
def test_narrow_networks_train_a_step(name: str) -> None:
    cfg = get_config(name)
    cfg.MODEL.YOLOR_ELAN.WIDTH = cfg.MODEL.GELAN.WIDTH = 0.125
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 16
    if cfg.MODEL.CAPTION_HEAD.VOCAB_SIZE == PAPER_VOCABULARY:
        cfg.MODEL.CAPTION_HEAD.VOCAB_SIZE = 0
    train_step(cfg)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_networks_train_a_step(name: str) -> None:
    train_step(get_config(name))


def train_step(cfg) -> None:
    cfg.MODEL.DEVICE = "cpu"
    torch.manual_seed(0)
    model = build_model(cfg)
    batch = random_batch()
    for sample in batch:
        sample["weak_sem_seg"] = sample["sem_seg"]
        sample["weak_sem_seg_stride"] = sample["sem_seg_stride"]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    losses = model(batch, reward=lambda _, ids: torch.rand(ids.shape[:2]))
    sum(losses.values()).backward()
    optimizer.step()

    assert all(torch.isfinite(loss) for loss in losses.values())
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_configurations_are_complete() -> None:
    coco = {Path(name).stem for name in NAMES if Path(name).parent.name == "COCO"}
    kinds = ("mtl", "mtl_paper", "mtl_scst", "det", "seg", "pan", "cap")
    gelan = ("c_det", "c_seg", "c_pan", "c_mtl")
    assert coco == {
        *(f"yolor_elan_{kind}" for kind in kinds),
        *(f"gelan_{kind}" for kind in gelan),
        *(f"v9_{size}" for size in ("t", "s", "m", "c")),
        *("resnet50_mtl", "yolov7_u6", "gyolo"),
    }
    ablations = {Path(name).stem.split("_")[0] for name in NAMES if "ablations" in name}
    assert ablations == {"sem", "cap", "aug", "lr", "tasks"}


@pytest.mark.parametrize(
    "name", ["yolor_elan_mtl", "yolor_elan_mtl_paper", "yolor_elan_pan", "resnet50_mtl"]
)
def test_yaml_and_lazy_configs_build_the_same_network(name: str) -> None:
    cfg = get_config(f"COCO/{name}.yaml")
    cfg.MODEL.DEVICE = "meta"
    lazy = LazyConfig.load(str(config_folder() / f"lazy/{name}.py"))

    with torch.device("meta"):
        ours, theirs = build_model(cfg).state_dict(), instantiate(lazy.model).state_dict()

    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
