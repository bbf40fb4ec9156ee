"""Names of backbone and neck of the published GELAN networks, in our network.

Layers are numbered from the backbone (0 to 8) through the neck (9 to 21) to the head. gyolo has one
layer more before the backbone and one more in the neck.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

Pairs = Iterator[tuple[str, str]]

# Layers of upsampling and concatenation, which have no entries.
NONE = ""
BACKBONE = (
    "stem",
    "stage2.down",
    "stage2.elan",
    "stage3.down",
    "stage3.elan",
    "stage4.down",
    "stage4.elan",
    "stage5.down",
    "stage5.elan",
)
PATHS = (
    *(NONE, NONE, "top_down4"),
    *(NONE, NONE, "top_down3"),
    *("down4", NONE, "aggregate4"),
    *("down5", NONE, "aggregate5"),
)
DETACHED = ("top_down3", "aggregate4", "aggregate5")  # stages with a detached half in gyolo


class Style(NamedTuple):
    """Names of the parts of blocks in a family of files.

    Attributes:
        prefix: of every name, before the number of the layer.
        conv: prefix of a number, of convolutions in a block.
        bottlenecks: of a RepNCSP.
    """

    prefix: str
    conv: str
    bottlenecks: str


YOLOV9 = Style("model.", "cv", "m")  # yolov9 and gyolo
MIT = Style("", "conv", "bottleneck")  # MultimediaTechLab's


class Layout(NamedTuple):
    """What differs between the networks of a family.

    Attributes:
        style: names of the parts of blocks.
        bottlenecks: number of bottlenecks of each RepNCSP.
        plain_first: whether the first stage has plain convolutions.
        one_conv_down: whether downsampling has one convolution (AConv) or two (ADown).
        is_gyolo: whether the layers are those of gyolo.
    """

    style: Style
    bottlenecks: int = 1
    plain_first: bool = False
    one_conv_down: bool = False
    is_gyolo: bool = False


LAYOUTS = {
    "gelan-c": Layout(YOLOV9),
    "gyolo": Layout(YOLOV9, is_gyolo=True),
    "v9-t": Layout(MIT, bottlenecks=3, plain_first=True, one_conv_down=True),
    "v9-s": Layout(MIT, bottlenecks=3, plain_first=True, one_conv_down=True),
    "v9-m": Layout(MIT, one_conv_down=True),
    "v9-c": Layout(MIT),
}


def trunk(layout: Layout) -> Pairs:
    """Blocks of backbone and neck: published path with the layer, our path."""
    pooling = ("spp", "attention") if layout.is_gyolo else ("spp",)
    names = (*(f"bottom_up.{name}" for name in BACKBONE), *pooling, *PATHS)
    for layer, name in enumerate(names, start=int(layout.is_gyolo)):
        if name != NONE:
            path = f"backbone.{name}"
            yield from below(f"{layout.style.prefix}{layer}", path, _layer(name, layout))


def _layer(name: str, layout: Layout) -> Pairs:
    """Blocks of a layer, below its number and below our path."""
    conv = layout.style.conv
    last = name.rpartition(".")[2]
    if name in ("bottom_up.stem", "bottom_up.stage2.down"):
        yield "", ""
    elif last.startswith("down") and layout.one_conv_down:
        yield "conv", "conv"
    elif last.startswith("down"):
        yield f"{conv}1", "conv_branch"
        yield f"{conv}2", "pool_branch"
    elif name == "spp":
        yield f"{conv}1", "entry"
        yield f"{conv}5", "merge"
    elif name == "attention":
        yield from _attention(conv)
    else:
        yield from elan(name, layout)


def _attention(conv: str) -> Pairs:
    yield f"{conv}1", "entry"
    yield "attn.qkv", "attention.qkv"
    yield "attn.pe", "attention.position"
    yield "attn.proj", "attention.project"
    yield "ffn.0", "mlp.0"
    yield "ffn.1", "mlp.1"
    yield f"{conv}2", "merge"


def elan(name: str, layout: Layout) -> Pairs:
    conv = layout.style.conv
    is_plain = layout.plain_first and name == "bottom_up.stage2.elan"
    yield f"{conv}1", "entry"
    for step in range(2):
        parts = iter([("", "")]) if is_plain else _csp_step(layout)
        yield from below(f"{conv}{step + 2}", f"steps.{step}", parts)
    if layout.is_gyolo and name in DETACHED:
        yield f"{conv}4", "merge.attached"
        yield f"{conv}cap", "merge.detached"
    else:
        yield f"{conv}4", "merge"


def _csp_step(layout: Layout) -> Pairs:
    """Blocks of a RepNCSP and of the convolution after it."""
    conv = layout.style.conv
    yield f"0.{conv}1", "0.entry"
    yield f"0.{conv}2", "0.shortcut"
    for number in range(layout.bottlenecks):
        path, our_path = f"0.{layout.style.bottlenecks}.{number}", f"0.bottlenecks.{number}"
        yield f"{path}.{conv}1.conv1", f"{our_path}.rep.conv3x3"
        yield f"{path}.{conv}1.conv2", f"{our_path}.rep.conv1x1"
        yield f"{path}.{conv}2", f"{our_path}.conv"
    yield f"0.{conv}3", "0.merge"
    yield "1", "1"


def below(path: str, our_path: str, pairs: Iterable[tuple[str, str]]) -> Pairs:
    for name, our_name in pairs:
        yield f"{path}.{name}".removesuffix("."), f"{our_path}.{our_name}".removesuffix(".")
