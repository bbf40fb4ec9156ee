"""Curves of metrics; errors in them do not end the run."""

import math
from pathlib import Path

import cv2
import pytest
from detectron2.engine import HookBase
from detectron2.engine.hooks import PeriodicWriter

from yolor_d2.engine.hooks import MetricCurves
from yolor_d2.engine.hooks.curves import draw_curves, panel_of
from yolor_d2.engine.writers import CSVWriter

from .scripted import run

ROWS = {
    0: {"total_loss": 5.0, "loss_box": 3.0, "loss_cls": 2.0, "lr": 0.1, "validation/loss_box": 4.0},
    2: {"total_loss": 4.0, "loss_box": 2.5, "loss_cls": 1.5, "lr": 0.2, "bbox/AP": math.nan},
    4: {"total_loss": 3.0, "loss_box": 2.0, "loss_cls": 1.0, "lr": 0.1, "bbox/AP": 7.0},
}


@pytest.mark.parametrize(
    ("name", "panel"),
    [
        ("loss_box", "losses"),
        ("total_loss", "total loss"),
        ("validation/total_loss", "total loss"),
        ("validation_ema/loss_mask", "validation_ema"),
        ("bbox/AP50", "bbox"),
        ("bbox/AP-traffic light", ""),
        ("some_set/sem_seg/mIoU", "some_set/sem_seg"),
        ("caption/Bleu_4", "caption"),
        ("caption/sixth_CIDEr", "caption CIDEr"),
        ("caption/truthful_color", "caption truthful"),
        ("caption/other_truthful", "caption truthful"),
        ("caption/other_truthful_color", ""),
        ("panoptic_seg/PQ_th", "panoptic_seg"),
        ("gradient/caption", "gradient"),
        ("time/data", "time"),
        ("lr", "lr"),
        ("seconds_left", ""),
    ],
)
def test_panels(name: str, panel: str) -> None:
    assert panel_of(name) == panel


def test_every_metric_is_plotted() -> None:
    axes = {a.get_title(): a for a in draw_curves(ROWS).axes}
    assert set(axes) == {"total loss", "losses", "lr", "validation", "bbox"}
    lines = {line.get_label(): line for line in axes["losses"].get_lines()}
    assert set(lines) == {"loss_box", "loss_cls"}
    assert lines["loss_box"].get_xdata().tolist() == [1, 3, 5]
    assert lines["loss_box"].get_ydata().tolist() == [3.0, 2.5, 2.0]
    assert axes["bbox"].get_lines()[0].get_xdata().tolist() == [3, 5]
    assert axes["bbox"].get_lines()[0].get_label() == "AP"


def test_legends_are_beside_the_lines() -> None:
    """In the order of the last values; a panel of its only metric has none."""
    figure = draw_curves(ROWS)
    figure.draw_without_rendering()
    panels = {a.get_title(): a for a in figure.axes}
    assert panels["lr"].get_legend() is None
    for title in ("losses", "bbox", "validation"):
        legend = panels[title].get_legend()
        assert legend.get_window_extent().x0 >= panels[title].get_window_extent().x1
    names = [text.get_text() for text in panels["losses"].get_legend().get_texts()]
    assert names == ["loss_box", "loss_cls"]


def train(folder: Path, *, start: int = 0) -> None:
    hooks: list[HookBase] = [PeriodicWriter([CSVWriter(folder / "metrics.csv")], period=1)]
    script = {iteration + start: row for iteration, row in ROWS.items()}
    run(script, *hooks, MetricCurves(folder), start=start, steps=5)


def test_curves_are_redrawn_after_a_resume(tmp_path: Path) -> None:
    train(tmp_path)
    first = cv2.imread(str(tmp_path / "curves.png"))
    train(tmp_path, start=5)
    second = cv2.imread(str(tmp_path / "curves.png"))
    assert first.std() > 10
    assert first.shape == second.shape
    assert (first != second).any()


def test_failure_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "metrics.csv").write_text("no table\nat all\n")
    run({}, MetricCurves(tmp_path))
    assert "curves could not be drawn" in caplog.text


def test_no_curves_without_a_table(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run({}, MetricCurves(tmp_path))
    assert not list(tmp_path.iterdir())
    assert "curves" not in caplog.text
