"""Choice of the device, and Markdown output of benchmarks."""

from collections.abc import Mapping

import torch
from tabulate import tabulate

from .model_setting import Aim, Result, Table

FORMATS = {  # by column
    "M parameters": ".1f",
    "share": ".1%",
    "times as fast": ".2f",
    "ours is faster": ".2f",
    "peak MB": ",.0f",
    "gradients MB": ",.0f",
    "rest MB": ",.0f",
    "images": ",.0f",
    "GB/s": ".2f",
    "relative difference": ".1e",
    "relative difference, bf16": ".1e",
    "relative difference, fp16": ".1e",
    "different tensors": ".0f",
    "scale": ",.0f",
    "first loss": ".3f",
    "last loss": ".3f",
    "box AP": ".2f",
    "mask AP": ".2f",
    "mIoU": ".2f",
    "PQ": ".2f",
    "CIDEr": ".3f",
}
DEFAULT_FORMAT = ",.1f"


def chosen_device(name: str) -> torch.device:
    """Return the device for --device "auto", "cpu" or "cuda"."""
    has_gpu = torch.cuda.is_available()
    if name == "cuda" and not has_gpu:
        raise ValueError("--device cuda: PyTorch finds no GPU")
    return torch.device("cuda" if has_gpu and name != "cpu" else "cpu")


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def print_result(result: Result) -> None:
    """Print Markdown for docs/internals/performance.md."""
    for table in result.tables:
        _print_table(table)
    for aim in result.aims:
        print_aim(aim)


def print_aim(aim: Aim) -> None:
    """Print whether a target value is reached."""
    print(f"\n{'reached' if aim.reached else 'MISSED'}: {aim.text} ({aim.value:.2f})")


def _print_table(table: Table) -> None:
    columns = list(next(iter(table.rows.values())))
    rows = [[name, *_cells(row, columns)] for name, row in table.rows.items()]
    print()
    print(
        tabulate(
            rows,
            headers=[table.title, *columns],
            tablefmt="pipe",
            colalign=["left", *["right"] * len(columns)],
            disable_numparse=True,
        )
    )


def _cells(row: Mapping[str, float], columns: list[str]) -> list[str]:
    return [cell(column, row[column]) for column in columns]


def cell(column: str, value: float) -> str:
    """A value as text, in the format of its column."""
    return format(value, FORMATS.get(column, DEFAULT_FORMAT))
