"""Running benchmarks of networks as their users do, only shortly."""

import json
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from benchmarks import __main__ as benchmark

FEW = ["--size", "64", "--repeats", "1", "--device", "cpu", "--threads", "1"]


def numbers_of(name: str, folder: Path, cfg: CfgNode, *arguments: str) -> dict[str, Any]:
    """What a benchmark writes of the network of a configuration."""
    config, numbers = folder / "config.yaml", folder / "numbers.json"
    config.write_text(cfg.dump())
    options = ["--config-file", str(config), *FEW, "--json", str(numbers)]
    benchmark.main([name, *options, *arguments])
    return json.loads(numbers.read_text())[name]
