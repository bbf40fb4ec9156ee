"""Configurations of yolor_d2 by name, in a checkout and in an installed package."""

import difflib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml
from detectron2.config import CfgNode, get_cfg

from .config import add_yolor_config
from .config.merging import (
    COMMAND_LINE,
    errors_from,
    integers_to_floats,
    merge_overrides,
    parse_config,
    read_key,
)
from .errors import ConfigError, OptionError

BASE_KEY = "_BASE_"
KEY = re.compile(r"[A-Z][A-Z0-9_]*(\.[A-Z0-9_]+)+")  # at the start of a message


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
        kind = ".py" if name.endswith(".py") else ".yaml"
        known = sorted(str(file.relative_to(folder)) for file in folder.rglob(f"*{kind}"))
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.3) or known
        raise ConfigError(f"no configuration {name}; did you mean {', '.join(near)}?")
    return str(path)


def find_config(name: str) -> str:
    """Return the path of a file, or of a configuration by name."""
    if not name:
        raise OptionError(
            "--config-file is missing; it takes a file or a name such as toy/yolor_elan_n_toy.yaml"
        )
    return name if Path(name).is_file() else get_config_file(name)


def get_config(name: str) -> CfgNode:
    """Return a configuration by name: defaults of detectron2 and yolor_d2, then the file."""
    return load_config(get_config_file(name))


def load_config(path: str, overrides: list[str] | None = None) -> CfgNode:
    """Return a configuration from a file and KEY VALUE pairs.

    Args:
        path: a file or a name such as "COCO/yolor_elan_mtl.yaml"; the same is true of _BASE_.
        overrides: KEY, VALUE, ...

    Raises:
        ConfigError: there is no such file, a key is unknown, or a value has the wrong type.
    """
    path = find_config(path)
    cfg = get_cfg()
    add_yolor_config(cfg)
    _merge_file(cfg, Path(path))
    merge_overrides(cfg, overrides or [])
    return cfg


@contextmanager
def naming_source(path: str, overrides: Sequence[str] = ()) -> Iterator[None]:
    """Context of checks of a configuration: errors about a key name the place that sets it.

    Args:
        path: file or name of the configuration.
        overrides: KEY, VALUE, ... of the command line.
    """
    try:
        yield
    except ConfigError as error:
        key = KEY.match(str(error))
        source = _source_of(key[0], path, overrides) if key and not path.endswith(".py") else ""
        if not source:
            raise
        raise ConfigError(f"{source}: {error}") from error


def _source_of(key: str, path: str, overrides: Sequence[str]) -> str:
    """The place that sets a key; "" for a default."""
    if key in overrides[::2]:
        return COMMAND_LINE
    file = Path(find_config(path))
    content = _read_yaml(file)
    while read_key(content, key) is None:
        base = content.get(BASE_KEY)
        if not isinstance(base, str) or "://" in base:
            return ""
        file = _base_file(file, base)
        content = _read_yaml(file)
    return str(file)


def _base_file(path: Path, base: str) -> Path:
    """The path of a file's _BASE_."""
    beside = path.parent / Path(base).expanduser()
    return beside if beside.is_file() else Path(get_config_file(base))


def _read_yaml(path: Path) -> CfgNode:
    try:
        content = parse_config(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not a text file, as configurations are") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{path}{place}: is not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: is not valid YAML: {reason}") from None
    except (AssertionError, AttributeError, TypeError, ValueError):  # by yacs, of other content
        content = None
    except RecursionError:
        raise ConfigError(f"{path}: is not valid YAML: it is nested too deeply") from None
    if not content or not _has_text_keys(content):
        raise ConfigError(f"{path}: has no configuration, which is lines of KEY: VALUE")
    return content


def _has_text_keys(node: CfgNode) -> bool:
    return all(
        isinstance(key, str) and (not isinstance(value, CfgNode) or _has_text_keys(value))
        for key, value in node.items()
    )


def _merge_file(cfg: CfgNode, path: Path, derived: tuple[Path, ...] = ()) -> None:
    """Merge a file and its _BASE_, relative paths or names of the model zoo.

    Args:
        cfg: the configuration.
        path: of the file.
        derived: files that the file is a _BASE_ of, directly or not.
    """
    if any(path.samefile(other) for other in derived):
        chain = " > ".join(map(str, (*derived, path)))
        raise ConfigError(f"{derived[0]}: its {BASE_KEY} files must not be a cycle: {chain}")
    content = _read_yaml(path)
    base = content.get(BASE_KEY, [])
    names = base if isinstance(base, list) else [base]
    if not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{path}: its {BASE_KEY} is not the name of a file")
    if any("://" in name for name in names) or content.get("VERSION", cfg.VERSION) != cfg.VERSION:
        _merge_by_detectron2(cfg, path)
    else:
        content.pop(BASE_KEY, None)
        for name in names:
            with errors_from(f"{path}: {BASE_KEY}", cfg):
                found = _base_file(path, name)
            _merge_file(cfg, found, (*derived, path))
        with errors_from(str(path), cfg):
            integers_to_floats(content, cfg)
            cfg.merge_from_other_cfg(content)
    if content.keys() >= get_cfg().keys() and "FULL_MODEL" not in content.SOLVER.CLIP_GRADIENTS:
        # Written by a run of an earlier version, which clipped all gradients together.
        cfg.SOLVER.CLIP_GRADIENTS.FULL_MODEL = True


def _merge_by_detectron2(cfg: CfgNode, path: Path) -> None:
    """Merge a file of another version of detectron2's format, or with a _BASE_ at an address."""
    try:
        with errors_from(str(path), cfg):
            cfg.merge_from_file(str(path), allow_unsafe=False)  # by default, YAML tags are run
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: a file of its {BASE_KEY} is not valid YAML: {reason}") from None
