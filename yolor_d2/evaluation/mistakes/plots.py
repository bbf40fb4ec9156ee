"""Plots of results, drawn without pyplot, whose state a notebook may use."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

MAX_NAMED_CURVES = 12
CELL = 0.16  # inches per class in a confusion matrix


def draw_precision_recall(path: Path, precision: np.ndarray, names: Sequence[str]) -> None:
    """Draw precision over recall of each class, and their mean.

    Args:
        path: PNG file to write.
        precision: (C, R) at R equal steps of recall from 0 to 1; -1 if a class has no objects.
        names: names of the classes.
    """
    recall = np.linspace(0, 1, precision.shape[1])
    known = [(curve, name) for curve, name in zip(precision, names, strict=True) if curve[0] >= 0]
    figure, axes = _figure(7, 5)
    for curve, name in known:
        if len(known) <= MAX_NAMED_CURVES:
            axes.plot(recall, curve, linewidth=1, label=f"{name} {100 * curve.mean():.1f}")
        else:
            axes.plot(recall, curve, linewidth=0.7, color="0.8")
    if known:
        mean = np.mean([curve for curve, _ in known], axis=0)
        label = f"all classes {100 * mean.mean():.1f}"
        axes.plot(recall, mean, linewidth=2.5, color="black", label=label)
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8, title="AP50")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    _save(figure, path)


def draw_confusion(path: Path, matrix: np.ndarray, names: Sequence[str]) -> None:
    """Draw a confusion matrix, normalized by row.

    Args:
        path: PNG file to write.
        matrix: (C, C) counts; rows are true classes, columns predicted ones.
        names: names of the classes.
    """
    totals = matrix.sum(axis=1, keepdims=True)
    shares = matrix / np.maximum(totals, 1)  # (C, C)
    side = max(5.0, CELL * len(names) + 2)
    figure, axes = _figure(side, side)
    image = axes.imshow(shares, vmin=0, vmax=1, cmap="Blues", interpolation="nearest")
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set(xlabel="predicted", ylabel="true")
    figure.colorbar(image, ax=axes, fraction=0.03, label="share of the true class")
    _save(figure, path)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), dpi=100)
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight")
