"""Options of a run: reachable from both configuration systems."""

from dataclasses import fields

import pytest
from detectron2.config import CfgNode, LazyConfig

from yolor_d2.engine import options
from yolor_d2.engine.cpu_setting import CHOICES
from yolor_d2.engine.lazy import check_overrides
from yolor_d2.engine.options import KEYS, RunOptions, read_key, run_options
from yolor_d2.model_zoo import config_folder

from ..modeling.factory import tiny_config

NAMES = [each.name for each in fields(RunOptions)]


@pytest.mark.parametrize("name", NAMES)
def test_option_is_in_both_systems(name: str) -> None:
    cfg = tiny_config()
    each = RunOptions.__dataclass_fields__[name]
    for key in filter(None, (each.metadata["key"], each.metadata["switch"])):
        read_key(cfg, key)
    lazy = LazyConfig.load(str(config_folder() / "lazy/yolor_elan_mtl.py"))
    check_overrides(lazy, [f"run.{name}=1"])


def test_keys_are_different() -> None:
    assert len(set(KEYS.values())) == len(NAMES)


@pytest.mark.parametrize("section", ["LOG", "TEST.BEST", "TEST.EARLY_STOP"])
def test_key_of_a_section_is_an_option(section: str) -> None:
    """A key that no field has would be read nowhere, or in one system only."""
    keys = {f"{section}.{key}" for key in read_key(tiny_config(), section)}
    assert keys <= set(KEYS.values())


def test_values_of_yacs() -> None:
    """Each key gets another value than its default, and its switch is on."""
    cfg = tiny_config()
    expected = {}
    for each in fields(RunOptions):
        section, _, name = each.metadata["key"].rpartition(".")
        node: CfgNode = read_key(cfg, section) if section else cfg
        before = node[name]
        changed = CHANGED[each.name] if each.name in CHANGED else _other(before)
        expected[each.name] = node[name] = changed
        if each.metadata["switch"]:
            section, _, name = each.metadata["switch"].rpartition(".")
            read_key(cfg, section)[name] = True
    found = RunOptions.from_config(cfg)
    assert {name: getattr(found, name) for name in NAMES} == expected | {"precision": ""}  # fp16
    assert run_options(**expected).on("cuda") == run_options(**expected)


def test_compiling_and_checkpointing_exclude_each_other() -> None:
    key = "MODEL.YOLOR.ACTIVATION_CHECKPOINTING"
    assert RunOptions.from_config(tiny_config((), key, True)).activation_checkpointing
    with pytest.raises(ValueError, match=f"{key} and MODEL.YOLOR.COMPILE exclude each other"):
        RunOptions.from_config(tiny_config((), key, True, "MODEL.YOLOR.COMPILE", True))


CHANGED = {
    "precision": "fp16",
    "clip_type": "norm",
    "cpu": "timed",
    "activation_checkpointing": False,  # excludes compile
    "compile_mode": "reduce-overhead",
    "loss_factors": [["loss_box", 2.0, 0.5]],
    "gradient_shares": [["detection", 2.0]],
    "teacher_tasks": ["detection"],
    "teacher_score_thresh": 0.5,
    "nonfinite": "skip",
    "eval_weights": "raw",
    "freeze": ["backbone"],
    "expected_results": [["bbox", "AP", 1.0, 0.1]],
}


def _other(value: object) -> object:
    if isinstance(value, bool):
        return not value
    return f"{value}x" if isinstance(value, str) else value + 1  # type: ignore[operator]


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("nonfinite", "hope", "must be one of stop, skip, not hope"),
        ("accum_steps", 0, "is 0; it must be at least 1"),
        ("clip_value", -1.0, "is -1.0; it must be positive"),
        ("max_minutes", -0.5, "is -0.5; it must not be negative"),
        ("teacher_score_thresh", 2.0, "is 2.0; it must be between 0 and 1"),
        ("eval_weights", "best", "must be one of ema, raw, not best"),
    ],
)
def test_error_names_the_key_of_the_system(name: str, value: object, problem: str) -> None:
    clip = {"clip_type": "norm", "clip_value": 1.0}
    with pytest.raises(ValueError, match=rf"^run\.{name} {problem}"):
        run_options(output_dir="", max_iter=1, **(clip | {name: value}))
    cfg = tiny_config((), KEYS[name], value)
    with pytest.raises(ValueError, match=rf"^{KEYS[name]} {problem}"):
        RunOptions.from_config(cfg)


@pytest.mark.parametrize("native", [True, False])
def test_precision_on_a_cpu(monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    monkeypatch.setattr(options, "multiplies_bf16", lambda: native)

    def precision(cpu: str, dtype: str) -> str:
        return run_options(output_dir="", max_iter=1, precision=dtype, cpu=cpu).on("cpu").precision

    assert [precision(cpu, "bf16") for cpu in CHOICES] == [
        "bf16" if native or cpu == "keys" else "" for cpu in CHOICES
    ]
    assert {precision(cpu, dtype) for cpu in CHOICES for dtype in ("fp16", "")} == {""}
