"""How do curves get their names? Beside their ends, moved apart where they would touch, instead of in a legend."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes

from unbraid.drawing.plot_style import spread


def end_labels(axes: Axes, values: Sequence[float], texts: Sequence[str], colours: Sequence[str]) -> None:
    """Write names to the right of a panel at the heights of their values, which must lie within the axis."""
    low, high = (float(end) for end in axes.get_ylim())
    height = float(axes.get_window_extent().height * 72 / axes.figure.dpi)
    if axes.get_yscale() == "log":
        shares = [math.log(value / low) / math.log(high / low) for value in values]
    else:
        shares = [(value - low) / (high - low) for value in values]
    for at, text, colour in zip(spread([share * height for share in shares], 11), texts, colours, strict=True):
        axes.annotate(
            text,
            (1, at / height),
            xytext=(6, 0),
            xycoords="axes fraction",
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=colour,
        )
