"""How is a matrix with a meaning per cell drawn? Few cells with their numbers, many by colour alone, wrong ones in frames."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from unbraid.decompose.plot_style import WIDTH, Data, Theme, canvas, panel, panel_title

MOST_PANELS, MOST_COLUMNS, FEW = 6, 160, 12
FAINT = 0.02  # cells below are not drawn where there are many
MOST_CELLS = 2500


def draw_matrices(panels: list[Data], notes: list[str], labels: tuple[str, str, str], theme: Theme) -> Figure:
    """Lay matrices out in rows of two or three, with one colour key."""
    small = all(len(p["values"]) <= FEW and len(p["columns"]) <= FEW for p in panels)
    across = min(len(panels), 3 if small else 2) if len(panels) != 4 else 2
    left, gap, top, below = 0.62, 0.72, 0.8, 0.62
    width = min((WIDTH - left - 0.12 - gap * (across - 1)) / across, 3.1)
    shapes = [len(p["values"]) / max(len(p["columns"]), 1) for p in panels]
    heights = [width * min(max(*shapes[i : i + across], 0.3), 1.0) for i in range(0, len(panels), across)]
    figure = canvas(sum(heights) + len(heights) * (top + below), theme)
    for index, (p, note) in enumerate(zip(panels, notes, strict=True)):
        r, c = divmod(index, across)
        above = sum(heights[:r]) + r * (top + below) + top
        axes = panel(figure, left + c * (width + gap), above, width, heights[r])
        _matrix(axes, p, theme, (labels[1] if c == 0 else "", labels[2]))
        panel_title(axes, str(p["site"]), note, theme)
    _colour_key(figure, labels[0], any(_lowest(p) < -FAINT for p in panels), theme)
    return figure


def _lowest(p: Data) -> float:
    return min((min(row) for row in p["values"] if row), default=0.0)


def _matrix(axes: Axes, p: Data, theme: Theme, labels: tuple[str, str]) -> None:
    """Draw one matrix: every cell where there are few, only what is not zero where there are many."""
    values = np.asarray(p["values"], dtype=np.float64).reshape(len(p["values"]), len(p["columns"]))
    n, columns = values.shape
    few = n <= FEW and columns <= FEW
    axes.set(xlim=(-0.5, max(columns, 1) - 0.5), ylim=(n - 0.5, -0.5), xlabel=labels[1], ylabel=labels[0])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    cells = np.argwhere(np.ones_like(values, dtype=bool) if few else np.abs(values) >= FAINT)
    if len(cells) > MOST_CELLS:
        axes.imshow(values, cmap=colours(theme), vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    else:
        axes.set_facecolor(theme.surface if few else theme.empty)
        half = 0.46 if few else 0.5
        drawn = PolyCollection(_squares(cells, half), cmap=colours(theme), linewidths=0, label="cells")
        drawn.set_array(values[cells[:, 0], cells[:, 1]])
        drawn.set_clim(-1, 1)
        axes.add_collection(drawn, autolim=False)
    if few:
        for r, c in cells:
            if abs(values[r, c]) >= 0.005:
                inside = theme.surface if abs(values[r, c]) > 0.55 else theme.ink
                axes.text(c, r, f"{values[r, c]:.2f}".replace("-", "−"), ha="center", va="center", fontsize=7.5, color=inside)
    if p["wrong"]:
        frame = PolyCollection(
            _squares(np.asarray(p["wrong"]), 0.5), facecolors="none", edgecolors=theme.planted, linewidths=1.1 if n <= 60 else 0.5
        )
        axes.add_collection(frame, autolim=False)
    if 0 < p["own"] < columns:
        axes.axvline(p["own"] - 0.5, color=theme.muted, linewidth=0.8)
    _ticks(axes, p, n)


def _squares(cells: Any, half: float) -> Any:
    """Return the corners of a square around each (row, column), [n, 4, 2]."""
    corners = np.asarray([(-half, -half), (half, -half), (half, half), (-half, half)])
    return cells[:, None, ::-1] + corners[None]


def _ticks(axes: Axes, p: Data, n: int) -> None:
    columns = p["columns"]
    step = 1 if n <= FEW else 10 if n <= 60 else 20
    axes.set_yticks(range(0, n, step), [str(i) for i in range(0, n, step)])
    if len(columns) <= FEW:
        axes.set_xticks(range(len(columns)), ["none" if c < 0 else str(c) for c in columns])
    else:
        step = 10 ** math.ceil(math.log10(len(columns) / 8)) // 2 or 1
        axes.set_xticks(range(0, len(columns), step), [str(i) for i in range(0, len(columns), step)])
        axes.set_xlabel(f"{axes.get_xlabel()}s, in this order")


def colours(theme: Theme) -> LinearSegmentedColormap:
    """Return the map from [-1, 1] to colours: the opposite ramp, nothing at 0, the ramp."""
    return LinearSegmentedColormap.from_list(f"unbraid-{theme.name}", [*reversed(theme.opposite[1:]), *theme.ramp])


def _colour_key(figure: Figure, label: str, signed: bool, theme: Theme) -> None:
    """Draw a strip of the colours at the upper right."""
    steps = np.linspace(-1 if signed else 0, 1, 21 if signed else 11)
    axes = panel(figure, WIDTH - 0.12 - 1.15, 0.16, 0.9, 0.1)
    axes.axis("off")
    axes.set(xlim=(0, len(steps)), ylim=(0, 1))
    strip = [[(i, 0), (i + 1.05, 0), (i + 1.05, 1), (i, 1)] for i in range(len(steps))]
    axes.add_collection(PolyCollection(strip, facecolors=colours(theme)((steps + 1) / 2), linewidths=0))
    axes.text(
        -0.06, 0.5, f"{label}  {'−1' if signed else '0'}", transform=axes.transAxes, ha="right", va="center", fontsize=8, color=theme.muted
    )
    axes.text(1.06, 0.5, "1", transform=axes.transAxes, ha="left", va="center", fontsize=8, color=theme.muted)


def frame_key(figure: Figure, theme: Theme, text: str) -> None:
    """Say at the upper left what the frames mean."""
    axes = panel(figure, 0.62, 0.16, 0.1, 0.1)
    axes.axis("off")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.add_collection(PolyCollection([[(0, 0), (1, 0), (1, 1), (0, 1)]], facecolors="none", edgecolors=theme.planted, clip_on=False))
    axes.text(1.6, 0.5, text, ha="left", va="center", fontsize=8, color=theme.muted)
