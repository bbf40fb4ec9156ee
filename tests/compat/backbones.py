"""Puts backbones of detectron2's main branch below our neck; prints the shapes of the maps."""

import sys
from functools import partial
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from torch import nn

from yolor_d2.modeling import PAN

IMAGE = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))


class Mlp(nn.Sequential):
    def __init__(self, in_features: int, hidden_features: int, act_layer: type[nn.Module]) -> None:
        super().__init__(
            nn.Linear(in_features, hidden_features),
            act_layer(),
            nn.Linear(hidden_features, in_features),
        )


def replace_timm() -> None:
    """These backbones take small layers from timm, which is not installed."""
    layers: Any = SimpleNamespace(DropPath=nn.Identity, Mlp=Mlp)
    models: Any = SimpleNamespace(layers=layers)
    timm: Any = SimpleNamespace(models=models)
    sys.modules |= {"timm": timm, "timm.models": models, "timm.models.layers": layers}


def main() -> None:
    replace_timm()
    vit, swin = (import_module(f"detectron2.modeling.backbone.{name}") for name in ("vit", "swin"))
    norm = partial(nn.LayerNorm, eps=1e-6)
    net = L(vit.ViT)(
        img_size=64, patch_size=16, embed_dim=16, depth=1, num_heads=2, norm_layer=norm
    )
    trunks = [
        L(vit.SimpleFeaturePyramid)(
            net=net, in_feature="last_feat", out_channels=16, scale_factors=(2.0, 1.0, 0.5)
        ),
        L(swin.SwinTransformer)(
            embed_dim=12, depths=(1, 1, 1, 1), num_heads=(1, 2, 3, 4), drop_path_rate=0.0
        ),
    ]
    for trunk in trunks:
        pan = instantiate(L(PAN)(bottom_up=trunk, width=0.125, depth=0.25))
        maps = pan(IMAGE)
        sum(m.square().mean() for m in maps.values()).backward()
        sys.stdout.write(f"{ {name: tuple(m.shape) for name, m in maps.items()} }\n")


if __name__ == "__main__":
    main()
