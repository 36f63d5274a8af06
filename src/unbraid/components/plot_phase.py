"""Where in a plane of two knobs are the modules found? A grid of each score with its numbers, ours first, baselines beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unbraid.drawing.plot_cells import colour_key, draw_cells
from unbraid.drawing.plot_style import WIDTH, Data, Plot, Theme, ThemeName, canvas, draw, panel, panel_title

BASELINE = "baseline: "
TITLES = {
    "module_ari": ("unbraid: modules", "ARI with the planted modules"),
    "piece_coverage": ("unbraid: pieces matched", "share of the planted pieces"),
    "piece_cosine": ("unbraid: pieces", "mean |cos| with the planted pieces"),
}
ACROSS = 3
LEFT, GAP, TOP, BELOW, KEY = 0.78, 0.42, 0.72, 0.62, 0.3  # inches


def plot_phase(toy: str, grid: Data, theme: ThemeName = "light") -> Plot:
    """Show a toy's phase diagram.

    Args:
        toy: Its name.
        grid: `row_knob`, `rows`, `column_knob`, `columns`, and `scores`: name → grid [rows][columns] in [-1, 1], None where a cell
            is missing; names that begin with "baseline: " stand beside ours.
        theme: Light or dark.
    """
    return draw(draw_phase, {"toy": toy, **grid}, theme)


def draw_phase(data: Data, theme: Theme) -> Figure:
    """Draw the grids from their numbers, in rows of three: our scores, then each baseline."""
    names = sorted(
        data["scores"], key=lambda name: (name.startswith(BASELINE), list(TITLES).index(name) if name in TITLES else len(TITLES))
    )
    across = min(len(names), ACROSS) or 1
    rows = math.ceil(len(names) / across)
    width = min((WIDTH - LEFT - 0.12 - GAP * (across - 1)) / across, 2.6)
    height = width * min(max(len(data["rows"]) / max(len(data["columns"]), 1), 0.45), 1.15)
    step = TOP + height + BELOW
    figure = canvas(KEY + rows * step, theme)
    for index, name in enumerate(names):
        r, c = divmod(index, across)
        axes = panel(figure, LEFT + c * (width + GAP), KEY + r * step + TOP, width, height)
        _grid(axes, data, data["scores"][name], theme, c == 0)
        title, note = TITLES.get(name, (name.removeprefix(BASELINE), "baseline, ARI" if name.startswith(BASELINE) else ""))
        panel_title(axes, title, note, theme)
    colour_key(figure, (WIDTH - 0.12 - 1.15, 0.16), "score", ("0", "1"), theme)
    return figure


def _grid(axes: Axes, data: Data, grid: Sequence[Sequence[float | None]], theme: Theme, first: bool) -> None:
    values = np.array([[math.nan if value is None else value for value in row] for row in grid], dtype=np.float64)
    draw_cells(axes, values, theme, gaps=True, write=_short if values.shape[1] <= 6 else None)
    for r, c in np.argwhere(np.isnan(values)):
        axes.text(c, r, "–", ha="center", va="center", fontsize=8, color=theme.muted)
    axes.set_xticks(range(len(data["columns"])), [_value(value) for value in data["columns"]])
    axes.set_yticks(range(len(data["rows"])), [_value(value) for value in data["rows"]] if first else [])
    axes.set_xlabel(str(data["column_knob"]).replace("_", " "))
    axes.set_ylabel(str(data["row_knob"]).replace("_", " ") if first else "")


def _short(value: float) -> str:
    return f"{value:.2f}".replace("-", "−").replace("−0.00", "0.00")


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
