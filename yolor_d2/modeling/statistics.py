"""Parameters and floating point operations of a network, part by part."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.modeling import build_model
from fvcore.nn import FlopCountAnalysis
from tabulate import tabulate
from torch import Tensor, nn

from ..data.formats.registration import ensure_registered
from ..errors import ConfigError
from ..model_zoo import find_config, load_config, naming_source
from .backbone import GELANPAN, PAN
from .meta_arch import YOLOR

CAPTION_TOKENS = 20
OPERATORS = ("conv", "linear", "matmul", "attention")  # fvcore's names
COLUMNS = ("left", "right", "right")
BRANCHES = ("towers", "predictors")


class TracedNetwork(nn.Module):
    """A YOLOR model that fvcore can trace: tensors in, a tuple of tensors out."""

    def __init__(self, model: YOLOR) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, ids: Tensor) -> tuple[Tensor, ...]:
        raw = self.model.raw_outputs(images)
        outputs = [
            tensor
            for head in (raw.detection, raw.mask)
            if head is not None
            for tensor in head
            if tensor is not None
        ]
        if raw.semantic is not None:
            outputs.append(raw.semantic)
        if raw.caption is not None and self.model.caption_head is not None:
            outputs.append(self.model.caption_head.text_logits(raw.caption, ids))
        return tuple(outputs)


def build_network(path: str, overrides: list[str]) -> nn.Module:
    """Build the network of a YAML configuration or a LazyConfig, on the CPU.

    Raises:
        ValueError: it cannot be built, for any reason.
    """
    try:
        if path.endswith(".py"):
            cfg = LazyConfig.apply_overrides(LazyConfig.load(find_config(path)), overrides)
            return instantiate(cfg.model)
        cfg = load_config(path, overrides)
        with naming_source(path, overrides):
            if Path(cfg.DATASETS.DATA).exists():  # not needed if the numbers of classes are given
                ensure_registered(cfg, truth=False)
            cfg.MODEL.DEVICE = "cpu"
            return build_model(cfg)
    except (ValueError, OSError):
        raise
    except Exception as error:  # parsers, registries and constructors raise errors of many types
        raise ConfigError(f"{path}: {type(error).__name__}: {error}") from error


def part_names(model: nn.Module) -> dict[str, str]:
    """Part that each module belongs to, by module name; the longest matching name counts."""
    parts = {name: name.replace("_", " ") for name, _ in model.named_children()}
    if isinstance(model, YOLOR) and isinstance(model.backbone, PAN | GELANPAN):
        parts |= {"backbone": "neck", "backbone.bottom_up": "backbone"}
    for name in ("box", "class"):
        parts |= {f"detection_head.{name}_{kind}": f"detection head: {name}" for kind in BRANCHES}
    parts["detection_head.one_to_one"] = "detection head: one-to-one"
    parts |= {f"mask_head.coefficient_{kind}": "mask head: coefficients" for kind in BRANCHES}
    parts["mask_head.prototype_net"] = "mask head: prototypes"
    return parts


def _part(name: str, parts: Mapping[str, str]) -> str:
    known = [prefix for prefix in parts if name == prefix or name.startswith(f"{prefix}.")]
    return parts[max(known, key=len)] if known else "other"


def count_parameters(model: nn.Module) -> Counter[str]:
    """Number of parameters of each part; shared parameters count once."""
    parts = part_names(model)
    counts: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        counts[_part(name, parts)] += parameter.numel()
    return counts


def count_flops(model: YOLOR, *, size: int) -> Counter[str]:
    """Number of multiplications and additions of each part for one square image."""
    parts = part_names(model)
    images = torch.zeros(1, 3, size, size)
    ids = torch.ones(1, CAPTION_TOKENS, dtype=torch.int64)
    analysis = FlopCountAnalysis(TracedNetwork(model.eval()), (images, ids))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    analysis.set_op_handle("aten::scaled_dot_product_attention", _attention_products)
    products = {
        name: sum(by_operator[operator] for operator in OPERATORS)
        for name, by_operator in analysis.by_module_and_operator().items()
    }
    in_children: Counter[str] = Counter()
    for name, number in products.items():
        in_children[name.rpartition(".")[0]] += number if name else 0
    counts: Counter[str] = Counter()
    for name, number in products.items():
        if number > in_children[name]:
            counts[_part(name.removeprefix("model."), parts)] += 2 * (number - in_children[name])
    return counts


def _attention_products(inputs: Sequence[Any], outputs: Sequence[Any]) -> Counter[str]:
    """Multiplications of queries with keys and of attention weights with values."""
    query, key, value = (item.type().sizes() for item in inputs[:3])
    return Counter(attention=math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1]))


def statistics_table(model: nn.Module, *, size: int) -> str:
    """Table of parameters and, of a YOLOR model, GFLOPs; the totals are below it."""
    parameters = count_parameters(model)
    flops = count_flops(model, size=size) if isinstance(model, YOLOR) else Counter()
    rows = [
        [part, f"{count:,}", f"{flops[part] / 1e9:.2f}" if flops else ""]
        for part, count in parameters.items()
    ]
    headers = ["part", "parameters", f"GFLOPs at {size}"]
    lines = [tabulate(rows, headers=headers, colalign=COLUMNS, disable_numparse=True)]
    if flops:
        lines.append(f"\ntotal GFLOPs: {flops.total() / 1e9:.2f}")
    return "\n".join([*lines, f"total parameters: {parameters.total()}"])
