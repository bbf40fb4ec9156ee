"""Configurations: *.yaml files, KEY VALUE pairs, LazyConfig overrides, texts in checkpoints."""

import json
from argparse import Namespace
from random import Random
from typing import Any, NamedTuple

import yaml
from detectron2.config import CfgNode, LazyConfig

from yolor_d2.engine.lazy import read_lazy
from yolor_d2.engine.options import RunOptions
from yolor_d2.inference.lazy_recipe import PARTS, LazyRecipe, parse_lazy
from yolor_d2.inference.yaml_recipe import YamlRecipe, parse_yaml
from yolor_d2.model_zoo import config_folder, get_config, load_config

from ..byte_mutators import mutate_bytes
from ..cases import GIVEN, Case, Target
from ..tree_mutators import hostile, mutate_text, mutate_tree

FILE, LAZY = "toy/yolor_elan_n_toy.yaml", "lazy/yolor_elan_pan.py"
NAME = "config.yaml"
ALIASES = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{k + 1}: &a{k + 1} [{', '.join([f'*a{k}'] * 9)}]\n" for k in range(9)
)
NODES = "A0: &a0 {x: 1, y: 2}\n" + "".join(
    f"A{k + 1}: &a{k + 1} {{{', '.join(f'k{n}: *a{k}' for n in range(9))}}}\n" for k in range(9)
)
TEXTS = (
    ALIASES,
    NODES,
    "!!python/object/apply:os.system ['touch executed']",
    "MODEL: !!python/object/apply:os.mkdir [executed]",
    "MODEL: !!python/name:os.system",
    "_BASE_: config.yaml\n",
    "_BASE_: .\n",
    "_BASE_: [config.yaml]\n",
    "_BASE_: 5\n",
    "_BASE_: ../../../../etc/passwd\n",
    "[" * 20_000,
    "{a: " * 20_000,
    "a: &a [*a]",
    "a: &a {b: *a}",
    "MODEL:\n  <<: 5\n",
    "? [a]\n: b",
    "5: 6",
    "MODEL: {1: 2}",
    "--- a\n--- b",
    "%YAML 9.9\n---\na: b",
    "",
)
PLACES = ("configuration", "MODEL.", "SOLVER.", "INPUT.", "TEST.", "DATASETS.", "LOG.")
WORDS = (
    *("(" * 3000, "[" * 3000, "-" * 3000, "{" * 3000, "1" * 5000, "1e999", "nan", "inf", "-inf"),
    *("None", "True", "[]", "()", "{}", "{1: 2}", "b'x'", "1j", "...", "__import__('os')", "\0"),
    *("9" * 400, "-1", "0", "[1, [2]]", "'", "\\", "${x}", "a=b", "", " ", "1,2", "[1,2", "null"),
    *("\ud800", "~", "!", "a:b", "{a:1}", "[a,b]", "'x", "0x10", "1_000", "0o7", "x.y", "*", "+1"),
)


class State(NamedTuple):
    """Valid configurations, and their keys."""

    text: str
    keys: tuple[str, ...]
    lazy_keys: tuple[str, ...]
    lazy_text: str


def prepare() -> State:
    text = (config_folder() / FILE).read_text()
    lazy = LazyConfig.load(str(config_folder() / LAZY))
    return State(text, tuple(_keys(get_config(FILE))), tuple(_keys(lazy)), LazyConfig.to_py(lazy))


def _keys(node: Any, before: str = "") -> list[str]:
    """Return the full names of all values."""
    found = []
    for name, value in node.items():
        key = f"{before}{name}"
        found += _keys(value, f"{key}.") if hasattr(value, "items") else [key]
    return found


def mutate(rng: Random, index: int, state: State) -> Case:
    """Make a configuration of one of the kinds."""
    kind = rng.choice(("yaml", "yaml", "pairs", "pairs", "lazy", "stored"))
    if kind == "yaml":
        data, what = _mutate_yaml(rng, state.text)
        return Case({NAME: data}, ["yaml", []], f"yaml: {what}", (NAME, *PLACES))
    if kind == "pairs":
        words: list[str] = []
        for _ in range(rng.choice((1, 1, 2))):
            key = rng.choice(state.keys)
            words += [key if rng.random() < 0.85 else _other_key(rng, key), _value(rng)]
        words += ["X"] if rng.random() < 0.05 else []
        places = ("configuration", "command line", *words[::2])
        return Case({}, ["pairs", words], f"pairs: {words}"[:200], places)
    if kind == "lazy":
        names = [rng.choice(state.lazy_keys) for _ in range(rng.choice((1, 1, 2)))]
        names = [name if rng.random() < 0.85 else _other_key(rng, name) for name in names]
        words = [f"{name}{rng.choice(('=', '=', '=', ''))}{_value(rng)}" for name in names]
        places = (
            "LazyConfig",
            "configuration",
            *names,
            *(n.rpartition(".")[2] or "?" for n in names),
        )
        return Case({}, ["lazy", words], f"lazy: {words}"[:200], places)
    text = state.lazy_text if rng.random() < 0.7 else state.text
    data, what = mutate_text(rng, text)
    if rng.random() < 0.3:
        target = rng.choice(
            ("os.system", "builtins.exec", "yolor_d2.files.write_text", "torch.load")
        )
        calls = data.count(b"yolor_d2.modeling.")
        data = data.replace(
            b"yolor_d2.modeling.", f"{target}.".encode(), rng.randint(1, max(calls, 1))
        )
        what = f"calls {target}"
    return Case({"text": data}, ["stored", []], f"stored: {what}", ("stored text",))


def _value(rng: Random) -> str:
    value = rng.choice(WORDS) if rng.random() < 0.6 else str(hostile(rng))[:5000]
    return value.replace("\0", "") if rng.random() < 0.5 else value


def _other_key(rng: Random, key: str) -> str:
    parts = key.split(".")
    return rng.choice(
        (
            key.lower(),
            parts[0],
            ".".join(parts[:-1]),
            f"{key}.X",
            "",
            ".",
            f".{key}",
            "_BASE_",
            f"~{key}",
        )
    )


def _mutate_yaml(rng: Random, text: str) -> tuple[bytes, str]:
    kind = rng.random()
    if kind < 0.25:
        special = rng.choice(TEXTS)
        return special.encode(), special[:40]
    if kind < 0.4:
        special = rng.choice(TEXTS)
        return f"{text}\n{special}".encode(), f"appended {special[:40]}"
    if kind < 0.7:
        tree, what = mutate_tree(rng, yaml.safe_load(text))
        try:
            return yaml.safe_dump(tree).encode(), what
        except (UnicodeEncodeError, yaml.YAMLError):
            return b"MODEL: [", what
    if kind < 0.9:
        return mutate_text(rng, text)
    return mutate_bytes(rng, text.encode())


def run(state: State, case: Case) -> int | None:
    """Read a configuration as the programs do."""
    kind, words = case.arguments
    if kind == "lazy":
        args = Namespace(
            config_file=LAZY, opts=list(words), eval_only=True, check_cluster=False, resume=False
        )
        assert read_lazy(args).options.max_iter is not None
    elif kind == "stored":
        _check_stored(case.files["text"])
    else:
        cfg = load_config(f"{GIVEN}/{NAME}" if kind == "yaml" else FILE, list(words))
        _check_same(cfg)
        RunOptions.from_config(cfg)
        YamlRecipe(cfg, device="cpu")
    return None


def _check_same(cfg: CfgNode) -> None:
    """A dumped configuration is read as the same."""
    again = CfgNode.load_cfg(cfg.dump())
    given, found = (json.dumps(each, sort_keys=True) for each in (cfg, again))
    assert given == found, "its dump is another configuration"


def _check_stored(data: bytes) -> None:
    """Texts in checkpoints only name parts of the networks."""
    text = data.decode(errors="replace")
    try:
        cfg = parse_yaml(text) or parse_lazy(text)
        if cfg is None:
            raise ValueError("not a configuration")
        if isinstance(cfg, CfgNode):
            YamlRecipe(cfg, device="cpu")
            return
        for name in _targets(cfg.get("model")):
            assert name.startswith(PARTS), f"{name} would be called"
        LazyRecipe(cfg, device="cpu")
    except ValueError as error:
        raise ValueError(f"stored text: {error}") from None


def _targets(node: Any) -> list[str]:
    if hasattr(node, "items"):
        own = [str(node["_target_"])] if "_target_" in node else []
        return own + [name for value in node.values() for name in _targets(value)]
    return []


CONFIGS = Target(
    about="yaml files, KEY VALUE, LazyConfig overrides, stored texts; right: equal after a dump",
    prepare=prepare,
    mutate=mutate,
    run=run,
)
