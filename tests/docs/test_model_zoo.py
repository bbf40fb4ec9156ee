"""Tables of configurations have the networks' parameters and GFLOPs."""

import re
from pathlib import Path

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.modeling import build_model
from torch import nn

from yolor_d2.checkpoint.published import NETWORKS
from yolor_d2.model_zoo import config_folder, get_config
from yolor_d2.modeling.statistics import count_flops

from .documents import ROOT

ROW = re.compile(r"^\| `([\w/]+\.(?:yaml|py))` \|.*?\| ([\d,]+)(?: \| ([\d.]+))? \|", re.MULTILINE)
SHORT_ROW = re.compile(r"^\| `([\w/]+\.yaml)` \|.*\| ([\d.]+) M \| ([\d.]+) \|$", re.MULTILINE)
SHARED = {"Base-YOLOR.yaml", "lazy/common.py"}
ZOO = {
    name: (int(parameters.replace(",", "")), gflops)
    for name, parameters, gflops in ROW.findall((ROOT / "docs/model_zoo.md").read_text())
}


def build(name: str, device: str) -> nn.Module:
    """Build the network of a configuration (without initialization on the device "meta")."""
    with torch.device(device):
        if name.endswith(".py"):
            return instantiate(LazyConfig.load(str(config_folder() / name)).model)
        cfg = get_config(name)
        cfg.MODEL.DEVICE = device
        return build_model(cfg)


def test_every_configuration_has_a_row() -> None:
    folder = config_folder()
    files = [path for path in folder.rglob("*") if path.suffix in (".yaml", ".py")]
    assert set(ZOO) == {str(Path(path).relative_to(folder)) for path in files} - SHARED


@pytest.mark.parametrize("name", ZOO)
def test_parameters(name: str) -> None:
    assert sum(p.numel() for p in build(name, "meta").parameters()) == ZOO[name][0]


@pytest.mark.parametrize("name", ["toy/yolor_elan_n_toy.yaml"])
def test_gflops(name: str) -> None:
    """A small network only; tests/tools/test_model_info.py counts a large one."""
    assert f"{count_flops(build(name, 'cpu'), size=640).total() / 1e9:.1f}" == ZOO[name][1]


def test_readme_has_the_same_numbers() -> None:
    rows = SHORT_ROW.findall((ROOT / "README.md").read_text())
    assert len(rows) == 6
    for name, millions, gflops in rows:
        assert (f"{ZOO[name][0] / 1e6:.2f}", ZOO[name][1]) == (millions, gflops), name


def test_published_weights_have_a_row_each() -> None:
    table = (ROOT / "docs/model_zoo.md").read_text()
    for network in NETWORKS.values():
        published = network.publication
        if not published.file:
            continue
        start = f"| `{network.config}` | `{published.file}` | {published.repository} |"
        (row,) = [line for line in table.splitlines() if line.startswith(start)]
        assert f"| {published.license} |" in row
        numbers = re.findall(r"(\d+\.\d) (?:box AP|mask AP|mIoU|PQ|CIDEr|BLEU-4)", row)
        assert [float(number) for number in numbers] == list(published.results.values())
        if network.config.endswith(".yaml"):
            expected = get_config(network.config).TEST.EXPECTED_RESULTS
            assert [f"{task}/{name}" for task, name, *_ in expected] == list(published.results)
