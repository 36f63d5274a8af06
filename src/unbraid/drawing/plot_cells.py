"""How is a grid of numbers drawn? Few cells with gaps and their numbers, many by colour alone, full grids as a picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from unbraid.drawing.plot_style import Theme, panel

FAINT = 0.02  # cells nearer to nothing are not drawn where there are many
MOST_CELLS = 2500
STEPS = [digit * 10**power for power in range(9) for digit in (1, 2, 5)]  # between ticks


def two_digits(value: float) -> str:
    """Write a cell's number with two digits after the point; what would be 0.00 stays empty."""
    return f"{value:.2f}".replace("-", "−") if abs(value) >= 0.005 else ""


def draw_cells(
    axes: Axes, values: Any, theme: Theme, scale: float = 1.0, gaps: bool = False, write: Callable[[float], str] | None = None
) -> None:
    """Fill an axes with a matrix [rows, columns], row 0 at the top; a cell that is NaN stays empty.

    Args:
        axes: Where to draw.
        values: The matrix.
        theme: Its colours.
        scale: The value that has the ramp's strongest colour; minus this has the opposite ramp's.
        gaps: Whether cells stand apart, and every one is drawn.
        write: What stands in a cell; None for nothing.
    """
    values = np.asarray(values, dtype=np.float64)
    rows, columns = values.shape
    shares = values / scale
    axes.set(xlim=(-0.5, max(columns, 1) - 0.5), ylim=(max(rows, 1) - 0.5, -0.5))
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    drawn = np.isfinite(shares) & (gaps | (np.abs(shares) >= FAINT))
    at = np.argwhere(drawn)
    if len(at) > MOST_CELLS or (not gaps and 2 * len(at) > values.size):
        # As a picture inside the SVG, one pixel per cell: squares would show seams where they touch, and thousands weigh too much.
        axes.set_facecolor(theme.surface)
        shown = np.ma.masked_invalid(shares)
        axes.imshow(shown, cmap=colours(theme), vmin=-1, vmax=1, aspect="auto", interpolation="none", label="cells")
    else:
        axes.set_facecolor(theme.surface if gaps else theme.empty)
        cells = PolyCollection(squares(at, 0.46 if gaps else 0.5), cmap=colours(theme), linewidths=0, label="cells")
        cells.set_array(shares[drawn])
        cells.set_clim(-1, 1)
        axes.add_collection(cells, autolim=False)
    if write is not None:
        for r, c in at:
            inside = theme.surface if abs(shares[r, c]) > 0.55 else theme.ink
            axes.text(c, r, write(float(values[r, c])), ha="center", va="center", fontsize=7.5, color=inside)


def squares(cells: Any, half: float) -> Any:
    """Return the corners of a square around each (row, column), [n, 4, 2]."""
    corners = np.asarray([(-half, -half), (half, -half), (half, half), (-half, half)])
    return cells[:, None, ::-1] + corners[None]


def tick_step(count: int, most: int) -> int:
    """Return how far ticks stand apart so that `count` cells have at most `most` of them."""
    return next(step for step in STEPS if count <= most * step)


def colours(theme: Theme) -> LinearSegmentedColormap:
    """Return the map from [-1, 1] to colours: the opposite ramp, nothing at 0, the ramp."""
    return LinearSegmentedColormap.from_list(f"unbraid-{theme.name}", [*reversed(theme.opposite[1:]), *theme.ramp])


def colour_key(
    figure: Figure, place: tuple[float, float], label: str, ends: tuple[str, str], theme: Theme, signed: bool = False, width: float = 0.9
) -> None:
    """Draw a strip of the colours from an upper left corner in inches, between what its ends stand for."""
    steps = np.linspace(-1 if signed else 0, 1, 21 if signed else 11)
    axes = panel(figure, place[0], place[1], width, 0.1)
    axes.axis("off")
    axes.set(xlim=(0, len(steps)), ylim=(0, 1))
    strip = [[(i, 0), (i + 1.05, 0), (i + 1.05, 1), (i, 1)] for i in range(len(steps))]
    axes.add_collection(PolyCollection(strip, facecolors=colours(theme)((steps + 1) / 2), linewidths=0))
    style: Any = {"transform": axes.transAxes, "va": "center", "fontsize": 8, "color": theme.muted}
    axes.text(-0.06, 0.5, f"{label}  {ends[0]}", ha="right", **style)
    axes.text(1.06, 0.5, ends[1], ha="left", **style)
