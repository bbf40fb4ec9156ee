"""All metrics of a run in one picture."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from detectron2.engine import HookBase
from detectron2.utils import comm
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..writers import CSV_NAME, Row, read_csv
from .harmless import never_fatal

COLUMNS = 3  # panels in a row
FEW = 30  # with fewer points, each is marked

Series = tuple[np.ndarray, np.ndarray]  # steps and values


class MetricCurves(HookBase):
    """Draws curves.png from the CSV file of the run when training ends; runs after the writers.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def after_train(self) -> None:
        table = self.folder / CSV_NAME
        if comm.is_main_process() and table.exists():
            with never_fatal("curves"):
                draw_curves(read_csv(table)).savefig(self.folder / "curves.png")


def draw_curves(rows: Mapping[int, Row]) -> Figure:
    """Draw a panel for each group of metrics.

    Args:
        rows: of the CSV file, by iteration.
    """
    panels = _by_panel(rows)
    height = -(-len(panels) // COLUMNS)
    figure = Figure(figsize=(5.5 * COLUMNS, 3.6 * height), layout="constrained")
    for number, (title, lines) in enumerate(panels.items()):
        _draw_panel(figure.add_subplot(height, COLUMNS, number + 1), title, lines)
    return figure


def _by_panel(rows: Mapping[int, Row]) -> dict[str, dict[str, Series]]:
    points: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for iteration, row in sorted(rows.items()):
        for name, value in row.items():
            points[name].append((iteration + 1, value))
    panels: dict[str, dict[str, Series]] = defaultdict(dict)
    for name, pairs in points.items():
        title = panel_of(name)
        if title:
            steps, values = np.array(pairs).T
            panels[title][name.removeprefix(f"{title}/")] = steps, values
    return panels


def panel_of(name: str) -> str:
    """The panel of a metric; "" for metrics that are not drawn.

    These are metrics of single classes ("bbox/AP-cat"), truthfulness by kind of claim of the
    captions' baselines ("sixth_truthful_color"), and the time that is left.
    """
    group, _, leaf = name.rpartition("/")
    if "-" in leaf or "_truthful_" in leaf or leaf == "seconds_left":
        return ""
    if leaf == "total_loss":
        return "total loss"
    if "CIDEr" in leaf:  # its scale differs from other caption metrics
        return f"{group} CIDEr"
    if "truthful" in leaf:
        return f"{group} truthful"
    return group or ("losses" if leaf.startswith("loss_") else leaf)


def _draw_panel(axes: Axes, title: str, lines: Mapping[str, Series]) -> None:
    """Draw lines with a legend beside them, in the order of their last values."""
    for label, (steps, values) in lines.items():
        axes.plot(steps, values, marker="." if len(steps) < FEW else "", label=label, linewidth=1)
    axes.set(title=title, xlabel="step", ylabel="ms" if title == "time" else "")
    axes.grid(alpha=0.3)
    if list(lines) != [title.replace(" ", "_")]:
        drawn = dict(zip(lines, axes.get_lines(), strict=True))
        order = sorted(lines, key=lambda label: -np.nan_to_num(lines[label][1][-1]))
        handles = [drawn[label] for label in order]
        axes.legend(handles=handles, fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
