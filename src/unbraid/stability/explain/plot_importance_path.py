"""Which parts does one path need, and where do they switch? Importances along t as a picture, the answer's curve above it."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from unbraid.core.errors import UserError
from unbraid.drawing.plot_cells import colour_key, colours
from unbraid.drawing.plot_style import Data, Plot, Theme, ThemeName, canvas, draw, panel, panel_title, rounded
from unbraid.stability.explain.plot import common_prefix

if TYPE_CHECKING:
    from unbraid.stability.explain.result import ExplainResult

MOST = 60
"""So many components are shown."""


def plot_importance_path(result: ExplainResult, pair: int = 0, theme: ThemeName = "light") -> Plot:
    """Show the importance of every component that is active somewhere on one path, those of the first end above, and the answer's curve.

    Raises:
        UserError: There is no pair of that number.
    """
    return draw(draw_importance_path, importance_path_data(result, pair), theme)


def importance_path_data(result: ExplainResult, pair: int = 0) -> Data:
    """Return the curve, the change of the active set at each step and the importances, sorted by where on the path they lie."""
    if not 0 <= pair < result.shares.pairs:
        raise UserError(f"Pair {pair} was asked for, and there are {result.shares.pairs}.", "Count from 0.")
    t, g = result.arrays["t"], result.arrays[f"importance.{pair}"]
    order = np.argsort((g * t[:, None]).sum(0) / np.maximum(g.sum(0), 1e-12), kind="stable")
    # Of many, those that change most along the path say when; the rest is on throughout.
    moving = set(np.argsort(-(g.max(0) - g.min(0)), kind="stable")[:MOST].tolist())
    shown = [index for index in order.tolist() if index in moving]
    width, prefix = result.shares.widths[pair], common_prefix(result.parts)
    return {
        "target": result.target,
        "place": result.place,
        "pair": pair,
        "t": rounded(t),
        "curve": rounded(result.arrays["curves"][pair, 0]),
        "changes": rounded(result.arrays["jaccard"][pair]),
        "t50": None if not np.isfinite(width.t50) else width.t50,
        "width": None if not np.isfinite(width.value) else width.value,
        "names": [result.parts[result.arrays[f"parts.{pair}"][index]].removeprefix(prefix) for index in shown],
        "active": int(g.shape[1]),
        "importance": rounded(g[:, shown].T) if shown else [],
    }


def draw_importance_path(data: Data, theme: Theme) -> Figure:
    """Draw the curve and the picture from their numbers."""
    rows = len(data["names"])
    height = max(rows, 1) * 0.11
    figure = canvas(height + 2.95, theme)
    t, left, width = data["t"], 1.75, 5.2
    above = panel(figure, left, 0.65, width, 1.2)
    above.plot(t, data["curve"], color=theme.learned, label="answer")
    middles = [(a + b) / 2 for a, b in pairwise(t)]
    above.bar(middles, data["changes"], width=t[1] - t[0], color=theme.other, alpha=0.5, linewidth=0, label="change of the active set")
    above.plot([0, 1], [0, 1], color=theme.muted, linewidth=0.8, linestyle=":")
    above.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="distance")
    above.set_xticklabels([])
    above.text(0.02, 0.9, "answer", color=theme.learned, fontsize=8, va="top")
    above.text(0.02, 0.75, "share of the active set that changes", color=theme.other, fontsize=8, va="top")
    wide = "no width" if data["width"] is None else f"width {data['width']:.2f}, t50 {data['t50']:.2f}"
    panel_title(above, f"{data['target']}, pair {data['pair']}: from {data['place']}", f"{wide}; dotted: a straight line", theme)
    below = panel(figure, left, 2.15, width, height)
    if rows:
        edge = (t[1] - t[0]) / 2
        below.imshow(
            np.asarray(data["importance"]),
            cmap=colours(theme),
            vmin=-1,
            vmax=1,
            aspect="auto",
            interpolation="none",
            extent=(t[0] - edge, t[-1] + edge, rows - 0.5, -0.5),
        )
    below.set(xlim=(0, 1), xlabel="t")
    below.set_yticks(range(rows), data["names"])
    below.tick_params(axis="y", labelsize=5.5)
    for axes in (above, below):
        if data["t50"] is not None:
            axes.axvline(data["t50"], color=theme.planted, linewidth=0.9, linestyle="--")
    more = "" if rows == data["active"] else f"the {rows} that change most of {data['active']} "
    below.annotate(
        f"importance: {more}components active on the path",
        (0, 1),
        xytext=(0, 5),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=8,
        color=theme.muted,
    )
    colour_key(figure, (left + width - 1.15, height + 2.62), "importance", ("0", "1"), theme, False)
    return figure
