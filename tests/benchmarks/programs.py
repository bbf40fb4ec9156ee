"""Short runs of benchmarks of networks from the command line."""

import json
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from benchmarks.__main__ import main

FEW = ["--size", "64", "--repeats", "1", "--device", "cpu", "--threads", "1"]


def numbers_of(name: str, folder: Path, cfg: CfgNode, *arguments: str) -> dict[str, Any]:
    """Run a benchmark on the network of a configuration and return its results."""
    config, numbers = folder / "config.yaml", folder / "numbers.json"
    config.write_text(cfg.dump())
    options = ["--config-file", str(config), *FEW, "--json", str(numbers)]
    main([name, *options, *arguments])
    return json.loads(numbers.read_text())[name]
