"""How is a matrix with a meaning per cell drawn? Few cells with their numbers, many by colour alone, wrong ones in frames."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from unbraid.drawing.plot_cells import FAINT, colour_key, draw_cells, squares, tick_step, two_digits
from unbraid.drawing.plot_style import WIDTH, Data, Theme, canvas, panel, panel_title

MOST_PANELS, MOST_COLUMNS, FEW = 6, 160, 12
MOST_DIGITS = 34  # under one row of columns


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
    signed = any(_lowest(p) < -FAINT for p in panels)
    colour_key(figure, (WIDTH - 0.12 - 1.15, 0.16), labels[0], ("−1" if signed else "0", "1"), theme, signed)
    return figure


def _lowest(p: Data) -> float:
    return min((min(row) for row in p["values"] if row), default=0.0)


def _matrix(axes: Axes, p: Data, theme: Theme, labels: tuple[str, str]) -> None:
    """Draw one matrix: every cell where there are few, only what is not zero where there are many."""
    values = np.asarray(p["values"], dtype=np.float64).reshape(len(p["values"]), len(p["columns"]))
    n, columns = values.shape
    few = n <= FEW and columns <= FEW
    axes.set(xlabel=labels[1], ylabel=labels[0])
    draw_cells(axes, values, theme, gaps=few, write=two_digits if few else None)
    if p["wrong"]:
        frame = PolyCollection(
            squares(np.asarray(p["wrong"]), 0.5), facecolors="none", edgecolors=theme.planted, linewidths=1.1 if n <= 60 else 0.5
        )
        axes.add_collection(frame, autolim=False)
    if 0 < p["own"] < columns:
        axes.axvline(p["own"] - 0.5, color=theme.muted, linewidth=0.8)
    _ticks(axes, p, n)


def _ticks(axes: Axes, p: Data, n: int) -> None:
    columns = p["columns"]
    step = 1 if n <= FEW else tick_step(n, 5)
    axes.set_yticks(range(0, n, step), [str(i) for i in range(0, n, step)])
    if len(columns) <= FEW:
        names = ["none" if c < 0 else str(c) for c in columns]
        # Long numbers under narrow columns would run into each other: every second one, then.
        step = 2 if len(columns) * max(map(len, names), default=0) > MOST_DIGITS else 1
        axes.set_xticks(range(0, len(columns), step), names[::step])
    else:
        step = tick_step(len(columns), 8)
        axes.set_xticks(range(0, len(columns), step), [str(i) for i in range(0, len(columns), step)])
        axes.set_xlabel(f"{axes.get_xlabel()}s, in this order")


def frame_key(figure: Figure, theme: Theme, text: str) -> None:
    """Say at the upper left what the frames mean."""
    axes = panel(figure, 0.62, 0.16, 0.1, 0.1)
    axes.axis("off")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.add_collection(PolyCollection([[(0, 0), (1, 0), (1, 1), (0, 1)]], facecolors="none", edgecolors=theme.planted, clip_on=False))
    axes.text(1.6, 0.5, text, ha="left", va="center", fontsize=8, color=theme.muted)
