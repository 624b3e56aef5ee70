"""Figures of a report: the confusion matrix, curves over epochs or samples, reliability.

Functions return new Figure objects; pyplot and its global state are not used.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ferpipe._system.terminal import printable
from ferpipe.experiments.report.formatting import SPLIT_NAMES
from ferpipe.experiments.results import Results

if TYPE_CHECKING:  # matplotlib is slow to import
    from matplotlib.figure import Figure

__all__ = [
    "DARK",
    "LIGHT",
    "Panel",
    "curve_panels",
    "draw_confusion",
    "draw_panels",
    "plain_text",
    "reliability_panels",
]

PANEL_SIZE = (3.8, 2.7)  # inches
# quantity -> label of a line -> key of a network's history
_HISTORY = {
    "loss": {"train": "train_loss", "validation": "valid_loss"},
    "accuracy": {"train": "train_accuracy", "validation": "valid_accuracy"},
}


# x, y and spread (or None), of equal length
Line: TypeAlias = tuple[Sequence, Sequence, Sequence | None]


@dataclass(frozen=True)
class Theme:
    """Colors of a light or a dark page, and of text, grid and lines on it."""

    page: str
    ink: str
    muted: str
    grid: str
    lines: tuple[str, ...]


LIGHT = Theme("#ffffff", "#1d2024", "#626a73", "#e3e5e8", ("#8a929b", "#1d5f94"))
DARK = Theme("#15171a", "#e3e6e9", "#9aa3ad", "#33393f", ("#8b949e", "#79b8e6"))


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes
    ----------
    title, x_label : str
        Labels of the y and the x axis.
    lines : dict of str to (x, y, spread)
        Label to sequences of equal length; spread and its values may be None.
    """

    title: str
    x_label: str
    lines: dict[str, Line]

    @property
    def alt(self) -> str:
        """The panel in words, for people who cannot see it."""
        parts = [
            f"{label} goes from {y[0]:.3f} at {x[0]:.6g} to {y[-1]:.3f} at {x[-1]:.6g}"
            for label, (x, y, _) in self.lines.items()
        ]
        return f"Line chart of {self.title} over {self.x_label}: {'; '.join(parts)}."


def curve_panels(results: Results, summary: dict[str, Any]) -> list[Panel]:
    """Make panels of training histories over epochs, or of scores over samples.

    Parameters
    ----------
    results : Results
        ``history`` and ``refit`` are used.
    summary : dict
        As ``summarize`` returns it; its ``learning_curve`` is used if no network has a
        history.

    Returns
    -------
    panels : list of Panel
        Empty if there is nothing to draw.
    """
    panels = []
    for step, epochs in results.history.items():
        for quantity, keys in _HISTORY.items():
            lines: dict[str, Line] = {}
            for label, key in keys.items():
                known = [
                    (number, epoch[key])
                    for number, epoch in enumerate(epochs, start=1)
                    if epoch.get(key) is not None and np.isfinite(epoch[key])
                ]
                if known:
                    x, y = zip(*known, strict=True)
                    lines[label] = (x, y, None)
            if lines:
                panels.append(Panel(f"{step}: {quantity}", "epoch", lines))
    curve = summary["learning_curve"]
    if panels or curve is None:
        return panels
    lines = {
        label: (curve["n_train"], curve[part]["mean"], curve[part]["spread"])
        for label, part in (("train", "train"), ("test", "test"))
    }
    return [Panel(results.refit, "training samples", lines)]


def reliability_panels(summary: dict[str, Any]) -> list[Panel]:
    """Make a panel of accuracy over confidence, if there are probabilities.

    Parameters
    ----------
    summary : dict
        As ``summarize`` returns it.

    Returns
    -------
    panels : list of Panel
        One, or none.
    """
    calibration = summary["splits"][summary["primary"]]["calibration"]
    if calibration is None:
        return []
    sure = [part["confidence"] for part in calibration["bins"]]
    right = [part["accuracy"] for part in calibration["bins"]]
    lines: dict[str, Line] = {
        "equal": ((0, 1), (0, 1), None),
        "test": (sure, right, None),
    }
    return [Panel("accuracy by confidence", "confidence", lines)]


def draw_panels(panels: Sequence[Panel], summary: dict[str, Any], theme: Theme) -> "Figure":
    """Draw panels, two per row.

    Parameters
    ----------
    panels : sequence of Panel
        At least one.
    summary : dict
        As ``summarize`` returns it; figures of synthetic data have a label.
    theme : Theme
        Colors.

    Returns
    -------
    figure : matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    n_columns = min(2, len(panels))
    n_rows = -(-len(panels) // n_columns)
    size = (PANEL_SIZE[0] * n_columns, PANEL_SIZE[1] * n_rows)
    figure = Figure(size, layout="constrained", facecolor=theme.page)
    for i, panel in enumerate(panels):
        axes = figure.add_subplot(n_rows, n_columns, i + 1)
        for (label, (x, y, spread)), color in zip(
            panel.lines.items(), theme.lines, strict=False
        ):
            marker = "o" if 2 < len(x) < 10 else ""
            axes.plot(
                x, y, color=color, label=plain_text(label), marker=marker, markersize=3.5
            )
            if spread is not None and None not in spread:
                low, high = np.subtract(y, spread), np.add(y, spread)
                axes.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)
        are_whole = all(
            float(value).is_integer() for x, *_ in panel.lines.values() for value in x
        )
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=are_whole))
        _style(axes, theme)
        axes.grid(axis="y", color=theme.grid, linewidth=0.8)
        axes.set_xlabel(panel.x_label, color=theme.muted, fontsize=9)
        title = plain_text(panel.title)
        axes.set_title(title, loc="left", color=theme.ink, fontsize=10, weight="bold")
        if summary["synthetic"]:
            axes.set_title("synthetic data", loc="right", color=theme.muted, fontsize=8)
        axes.legend(
            fontsize=9,
            labelcolor=theme.ink,
            facecolor=theme.page,
            edgecolor="none",
            framealpha=1,
        )
    return figure


def draw_confusion(summary: dict[str, Any]) -> "Figure":
    """Draw the confusion matrix of the primary result, shaded by share of the true class.

    Parameters
    ----------
    summary : dict
        As ``summarize`` returns it.

    Returns
    -------
    figure : matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    names = [plain_text(name) for name in summary["classes"]]
    counts = np.array(summary["splits"][summary["primary"]]["confusion"])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 2.2 + 0.62 * len(names)
    figure = Figure((side, side - 0.2), layout="constrained", facecolor=LIGHT.page)
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.ndindex(counts.shape):
        if counts[i, j]:
            axes.text(
                j,
                i,
                f"{100 * shares[i, j]:.0f} %\n{counts[i, j]}",
                color="white" if shares[i, j] > 0.6 else LIGHT.ink,
                ha="center",
                va="center",
                fontsize=8.5,
            )
    ticks = np.arange(len(names))
    axes.set_xticks(ticks, names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks, names)
    _style(axes, LIGHT)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("predicted", color=LIGHT.muted)
    axes.set_ylabel("true", color=LIGHT.muted)
    synthetic = ", synthetic data" if summary["synthetic"] else ""
    axes.set_title(
        f"{plain_text(summary['name'])}, {SPLIT_NAMES[summary['primary']]}{synthetic}",
        loc="left",
        color=LIGHT.ink,
        fontsize=10,
        weight="bold",
    )
    return figure


def plain_text(name: str) -> str:
    """Escape control characters and dollar signs, which would begin a formula."""
    return printable(name).replace("$", r"\$")


def _style(axes: Any, theme: Theme) -> None:
    axes.set_facecolor(theme.page)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(theme.muted)
    axes.tick_params(colors=theme.muted, labelcolor=theme.ink, labelsize=9, length=0)
