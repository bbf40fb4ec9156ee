"""Parameters and GFLOPs of a configuration's network, part by part.

    python -m yolor_d2.tools.model_info --config-file FILE [--size 640] [KEY VALUE ...]

A LazyConfig (FILE ends in .py) takes key=value instead.

A GFLOP is a billion multiplications or additions in convolutions, linear layers and attention,
counted by fvcore over one image. Captions are counted as 20 tokens decoded at once.
"""

import argparse
import math
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.modeling import build_model
from fvcore.nn import FlopCountAnalysis
from tabulate import tabulate
from torch import Tensor, nn

from ..model_zoo import load_config
from ..modeling.backbone import PAN, SIZE_DIVISIBILITY
from ..modeling.meta_arch import YOLOR

CAPTION_TOKENS = 20
OPERATORS = ("conv", "linear", "matmul", "attention")  # as fvcore calls them
COLUMNS = ("left", "right", "right")
BRANCHES = ("towers", "predictors")


class Network(nn.Module):
    """A YOLOR model as fvcore traces it: tensors in, a tuple of tensors out."""

    def __init__(self, model: YOLOR) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, ids: Tensor) -> tuple[Tensor, ...]:
        raw = self.model.raw_outputs(images)
        outputs = [tensor for head in raw[:2] if head is not None for tensor in head]
        if raw.semantic is not None:
            outputs.append(raw.semantic)
        if raw.tokens is not None and self.model.caption_head is not None:
            outputs.append(self.model.caption_head.text_logits(raw.tokens, ids))
        return tuple(outputs)


def parts_of(model: nn.Module) -> dict[str, str]:
    """What each module that is counted is called, by the module's name. The longest name counts."""
    parts = {name: name.replace("_", " ") for name, _ in model.named_children()}
    if isinstance(model, YOLOR) and isinstance(model.backbone, PAN):
        parts |= {"backbone": "neck", "backbone.bottom_up": "backbone"}
    for name in ("box", "class"):
        parts |= {f"detection_head.{name}_{kind}": f"detection head: {name}" for kind in BRANCHES}
    parts |= {f"mask_head.coefficient_{kind}": "mask head: coefficients" for kind in BRANCHES}
    parts["mask_head.prototype_net"] = "mask head: prototypes"
    return parts


def _part(name: str, parts: dict[str, str]) -> str:
    known = [prefix for prefix in parts if name == prefix or name.startswith(f"{prefix}.")]
    return parts[max(known, key=len)] if known else "other"


def count_parameters(model: nn.Module) -> Counter[str]:
    """Parameters of each part; what two modules share counts once."""
    parts = parts_of(model)
    counts: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        counts[_part(name, parts)] += parameter.numel()
    return counts


def count_flops(model: YOLOR, *, size: int) -> Counter[str]:
    """Multiplications and additions of each part for one square image."""
    parts = parts_of(model)
    images = torch.zeros(1, 3, size, size)
    ids = torch.ones(1, CAPTION_TOKENS, dtype=torch.int64)
    analysis = FlopCountAnalysis(Network(model.eval()), (images, ids))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    analysis.set_op_handle("aten::scaled_dot_product_attention", _attention_products)
    products = {
        name: sum(by_operator[operator] for operator in OPERATORS)
        for name, by_operator in analysis.by_module_and_operator().items()
    }
    inside: Counter[str] = Counter()  # what a module's children do
    for name, number in products.items():
        inside[name.rpartition(".")[0]] += number if name else 0
    counts: Counter[str] = Counter()
    for name, number in products.items():
        if number > inside[name]:
            counts[_part(name.removeprefix("model."), parts)] += 2 * (number - inside[name])
    return counts


def _attention_products(inputs: Sequence[Any], outputs: Sequence[Any]) -> Counter[str]:
    """Multiplications of queries with keys and of weights with values."""
    query, key, value = (item.type().sizes() for item in inputs[:3])
    return Counter(attention=math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1]))


def print_info(model: nn.Module, *, size: int) -> None:
    """Print the table; GFLOPs only of a YOLOR model."""
    parameters = count_parameters(model)
    flops = count_flops(model, size=size) if isinstance(model, YOLOR) else Counter()
    rows = [
        [part, f"{count:,}", f"{flops[part] / 1e9:.2f}" if flops else ""]
        for part, count in parameters.items()
    ]
    print(
        tabulate(
            rows,
            headers=["part", "parameters", f"GFLOPs at {size}"],
            colalign=COLUMNS,
            disable_numparse=True,
        )
    )
    if flops:
        print(f"\ntotal GFLOPs: {flops.total() / 1e9:.2f}")
    print(f"total parameters: {parameters.total()}")


def build(path: str, overrides: list[str]) -> nn.Module:
    """The network of a configuration of either kind, on the CPU.

    Raises:
        ValueError: it cannot be built, whatever the reason.
    """
    try:
        if path.endswith(".py"):
            cfg = LazyConfig.apply_overrides(LazyConfig.load(path), overrides)
            return instantiate(cfg.model)
        cfg = load_config(path, overrides)
        cfg.MODEL.DEVICE = "cpu"
        return build_model(cfg)
    except (ValueError, OSError):
        raise
    except Exception as error:  # a registry's, the parsers', constructors': all name the culprit
        raise ValueError(f"{path}: {type(error).__name__}: {error}") from error


def main(argv: Sequence[str] | None = None) -> int:
    """Print what a configuration's network has; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, metavar="FILE")
    parser.add_argument("--size", type=int, default=640, help="of the square image")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE")
    args = parser.parse_args(argv)
    try:
        if args.size < 1 or args.size % SIZE_DIVISIBILITY:
            raise ValueError(f"--size must be a multiple of {SIZE_DIVISIBILITY}, not {args.size}")
        model = build(args.config_file, args.overrides)
    except (ValueError, OSError) as error:
        print(f"model_info: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print_info(model, size=args.size)
    return 0


if __name__ == "__main__":
    sys.exit(main())
