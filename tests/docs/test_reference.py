"""The generated pages of the reference are complete."""

import re

import pytest
from detectron2.config import get_cfg

import yolor_d2
import yolor_d2_cli
from docs.site import commands, configuration
from yolor_d2.config import add_yolor_config

from .documents import ROOT


def test_every_key_is_explained() -> None:
    cfg = get_cfg()
    before = set(configuration.flat_keys(cfg))
    add_yolor_config(cfg)
    sections = configuration.read_sections()
    listed = [key for section in sections for group in section.groups for key in group.keys]
    assert sorted(listed) == sorted(set(configuration.flat_keys(cfg)) - before)
    comments = [group.comment for section in sections for group in section.groups]
    assert min(map(len, comments)) > 10


@pytest.mark.parametrize(
    "row",
    [
        "| `SOLVER.MAX_SKIPPED`{ #solver-max_skipped }",  # shares a comment
        "| `MODEL.CAPTION_HEAD.SCST.SAMPLES`{ #model-caption_head-scst-samples } | `0` | Self-crit",
        "| `SOLVER.AMP.ENABLED` | `False` | `True` |",  # of detectron2
    ],
)
def test_rows_of_keys(row: str) -> None:
    assert row.removeprefix("| ") in configuration.reference()


def test_the_first_of_two_keys_has_both_defaults() -> None:
    (row,) = [
        line for line in configuration.reference().splitlines() if line.startswith("| `TEST.BEST.")
    ]
    assert "| `''`<br>`'max'` |" in row
    assert "LazyConfig: `run.best_metric`, `run.best_mode`." in row


def test_every_command_and_argument_is_listed() -> None:
    text = commands.reference()
    programs = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert {f"yolor-d2 {name}" for name in yolor_d2_cli.MODULES} - {"yolor-d2 benchmark"} <= set(
        programs
    )
    tools = {path.stem for path in (ROOT / "yolor_d2/tools").glob("*.py")}
    with_parser = {
        t for t in tools if "make_parser" in (ROOT / f"yolor_d2/tools/{t}.py").read_text()
    }
    named = {*yolor_d2_cli.MODULES.values(), *commands.OTHER_TOOLS}
    assert with_parser <= named
    assert "| <code>--batch N&#124;auto</code> |" in text


def test_citation_has_the_version() -> None:
    lines = (ROOT / "CITATION.cff").read_text().splitlines()
    assert f"version: {yolor_d2.__version__}" in lines
