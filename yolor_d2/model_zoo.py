"""Configurations of yolor_d2 by name, in a checkout and in an installed package."""

import difflib
from pathlib import Path

from detectron2.config import CfgNode, get_cfg

from .config import add_yolor_config


def config_folder() -> Path:
    """Path of configs/: inside an installed package, beside the package in a checkout."""
    package = Path(__file__).parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def get_config_file(name: str) -> str:
    """Return the path of a configuration such as "COCO/yolor_elan_mtl.yaml"."""
    folder = config_folder()
    path = folder / name
    if not path.is_file():
        known = sorted(str(file.relative_to(folder)) for file in folder.rglob("*.yaml"))
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.3) or known
        raise ValueError(f"no configuration {name}; did you mean {', '.join(near)}?")
    return str(path)


def get_config(name: str) -> CfgNode:
    """Return a configuration by name: defaults of detectron2 and yolor_d2, then the file."""
    return load_config(get_config_file(name))


def load_config(path: str, overrides: list[str] | None = None) -> CfgNode:
    """Return a configuration from a file and KEY VALUE pairs.

    Raises:
        ValueError: a key is unknown or a value has the wrong type.
    """
    cfg = get_cfg()
    add_yolor_config(cfg)
    try:
        cfg.merge_from_file(path)
        cfg.merge_from_list(overrides or [])
    except (AssertionError, KeyError) as error:  # raised by yacs
        raise ValueError(f"configuration: {error.args[0]}") from None
    return cfg
