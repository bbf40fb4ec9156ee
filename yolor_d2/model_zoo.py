"""Our configurations by name, from a checkout as from an installed package."""

import difflib
from pathlib import Path

from detectron2.config import CfgNode, get_cfg

from .config import add_yolor_config


def config_folder() -> Path:
    """configs/: inside the package when it is installed, beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def get_config_file(name: str) -> str:
    """The path of a configuration such as "COCO/yolor_elan_mtl.yaml"."""
    folder = config_folder()
    path = folder / name
    if not path.is_file():
        known = sorted(str(file.relative_to(folder)) for file in folder.rglob("*.yaml"))
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.3) or known
        raise ValueError(f"there is no configuration {name}; there is {', '.join(near)}")
    return str(path)


def get_config(name: str) -> CfgNode:
    """A configuration by name: detectron2's defaults, ours, then the file."""
    return load_config(get_config_file(name))


def load_config(path: str, overrides: list[str] | None = None) -> CfgNode:
    """A configuration from a file, then KEY VALUE pairs; a ValueError names a wrong key."""
    cfg = get_cfg()
    add_yolor_config(cfg)
    try:
        cfg.merge_from_file(path)
        cfg.merge_from_list(overrides or [])
    except (AssertionError, KeyError) as error:  # yacs's ways of saying so
        raise ValueError(f"configuration: {error.args[0]}") from None
    return cfg
