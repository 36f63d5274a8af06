"""What does a population of curves look like? Every pair's curve, their median and the middle half of them, with a straight way beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from unbraid.drawing.plot_style import Data, Plot, Theme, ThemeName, canvas, draw, panel, panel_title, rounded
from unbraid.stability.engine.curve import two_sided

if TYPE_CHECKING:
    from unbraid.stability.path.result import PathResult, Population

SHOWN = 60
_GRID = np.linspace(0.0, 1.0, 101)


def plot_curves(result: PathResult, theme: ThemeName = "light") -> Plot:
    """Show the curves of the model's own pairs, the controls' medians beside them, and every condition's width with its interval."""
    return draw(draw_curves, curves_data(result), theme)


def curves_data(result: PathResult) -> Data:
    """Return the curves on one grid, and the widths."""
    own = _on_grid(result.populations["model"], result.read)
    low, median, high = np.nanquantile(own, [0.25, 0.5, 0.75], axis=0)
    controls = {
        name: rounded(np.nanmedian(_on_grid(population, result.read), axis=0), 4)
        for name, population in result.populations.items()
        if name in ("untrained", "covariance", "frozen mlp")
    }
    rows = [
        {"name": row["condition"], "width": row["width"], "pairs": row["pairs"], "defined": row["defined"]}
        for row in result.rows()
        if row["width"] is not None
    ]
    return {
        "title": f"{result.target}: from one activation to another at {result.place}",
        "read": result.read,
        "t": rounded(_GRID, 4),
        "curves": rounded(own[:SHOWN], 4),
        "median": rounded(median, 4),
        "low": rounded(low, 4),
        "high": rounded(high, 4),
        "controls": controls,
        "widths": rows,
    }


def _on_grid(population: Population, read: str) -> np.ndarray:
    both = two_sided(population.to_start[read], population.to_end[read])
    return np.stack([np.interp(_GRID, t, curve) for t, curve in zip(population.t, both, strict=True)])


def draw_curves(data: Data, theme: Theme) -> Figure:
    """Draw the curves and widths from their numbers."""
    figure = canvas(3.9, theme)
    axes = panel(figure, 0.55, 0.65, 3.3, 2.6)
    for curve in data["curves"]:
        axes.plot(data["t"], curve, color=theme.learned, linewidth=0.5, alpha=0.18)
    axes.fill_between(data["t"], data["low"], data["high"], color=theme.learned, alpha=0.25, linewidth=0)
    axes.plot(data["t"], data["median"], color=theme.learned, linewidth=2)
    axes.plot([0, 1], [0, 1], ":", color=theme.muted, linewidth=1)
    colours = {"untrained": theme.chance, "covariance": theme.other, "frozen mlp": theme.planted}
    for name, curve in data["controls"].items():
        axes.plot(data["t"], curve, "--", color=colours[name], linewidth=1.2, label=name)
    axes.plot([], [], color=theme.learned, linewidth=2, label="model")
    axes.legend(frameon=False, fontsize=7.5, loc="upper left", labelcolor=theme.muted)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="t, share of the way", ylabel=f"two-sided distance of the answer ({data['read']})")
    axes.grid(True, axis="y")
    panel_title(axes, data["title"], "every curve a pair; band: the middle half; dotted: a straight way", theme)
    _draw_widths(figure, data, theme)
    return figure


def _draw_widths(figure: Figure, data: Data, theme: Theme) -> None:
    """One row per condition: its median width and interval."""
    axes = panel(figure, 5.1, 0.65, 2.2, 2.6)
    names = [f"{row['name']} ({row['defined']})" for row in data["widths"]]
    for index, row in enumerate(data["widths"]):
        width = row["width"]
        colour = theme.learned if row["name"] == "model" else theme.muted
        axes.plot([width["low"], width["high"]], [index, index], color=colour, linewidth=2)
        axes.plot(width["value"], index, "o", color=colour, markersize=4.5)
    axes.axvline(0.8, color=theme.muted, linestyle=":", linewidth=1)
    axes.set(yticks=range(len(names)), yticklabels=names, xlabel="width from 10 % to 90 %", xlim=(0, max(1.0, axes.get_xlim()[1])))
    axes.invert_yaxis()
    panel_title(axes, "Width by condition", "median and 95 % over (so many) pairs", theme)
