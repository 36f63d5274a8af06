"""How much of the plateau does each part build? A bar per set of parts, beside the band of random sets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from unbraid.drawing.plot_style import Data, Plot, Theme, ThemeName, canvas, draw, panel, panel_title, rounded
from unbraid.stability.explain.share_rows import Share
from unbraid.stability.explain.shares import Interval

if TYPE_CHECKING:
    from unbraid.stability.explain.result import ExplainResult

SINGLES = 5
MOST_ROWS = 34


def plot_shares(result: ExplainResult, theme: ThemeName = "light") -> Plot:
    """Show each set's share of the plateau with its interval over pairs, the band that random sets of its size fill, and the largest single components."""
    return draw(draw_shares, shares_data(result), theme)


def shares_data(result: ExplainResult) -> Data:
    """Return one row per set: its share, and the band of random sets of its size and norms; and what there is to be shared out."""
    shares, prefix = result.shares, common_prefix(result.parts)
    rows = [_row(row, row.name) for row in shares.rows if row.name != "all"]
    rows += [_row(row, f"{row.name}, all orders") for row in shares.fair]
    rows += [_row(Share("", 1, single.share), result.parts[single.part]) for single in shares.singles[:SINGLES]]
    return {
        "target": result.target,
        "place": result.place,
        "pairs": shares.pairs,
        "widening": _numbers(shares.widening),
        "prefix": prefix,
        "rows": [row | {"name": row["name"].replace(prefix, "", 1)} for row in rows if row["share"] is not None][:MOST_ROWS],
    }


def _row(row: Share, name: str) -> Data:
    null = row.norm if row.norm is not None and math.isfinite(row.norm.value) else row.size
    return {"name": name, "parts": row.parts, "share": _numbers(row.share), "null": None if null is None else _numbers(null)}


def _numbers(value: Interval) -> list[float] | None:
    """Return a value with the ends of its interval, which are the value itself where there is one pair; None where it is undefined."""
    if not math.isfinite(value.value):
        return None
    ends = [end if math.isfinite(end) else value.value for end in (value.low, value.high)]
    return rounded([value.value, *ends])


def common_prefix(names: Sequence[str]) -> str:
    """Return what all paths begin with, up to a dot, which a figure leaves out."""
    paths = [name.rsplit(" ", 1)[0].split(".") for name in names]
    shared = takewhile(lambda words: len(set(words)) == 1, zip(*(path[:-1] for path in paths), strict=False))
    return "".join(f"{words[0]}." for words in shared)


def draw_shares(data: Data, theme: Theme) -> Figure:
    """Draw the bars from their numbers."""
    rows = data["rows"]
    height = max(len(rows), 1) * 0.2
    figure = canvas(height + 1.3, theme)
    axes = panel(figure, 2.2, 0.75, 5.2, height)
    for index, row in enumerate(rows):
        value, low, high = row["share"]
        if row["null"] is not None:
            _, bottom, top = row["null"]
            axes.barh(index, top - bottom, left=bottom, height=0.86, color=theme.chance, alpha=0.28, linewidth=0)
        axes.barh(index, value, height=0.44, color=theme.learned, linewidth=0)
        if high > low:
            axes.plot([low, high], [index, index], color=theme.ink, linewidth=1)
    axes.axvline(0, color=theme.muted, linewidth=0.8)
    axes.axvline(1, color=theme.muted, linewidth=0.8, linestyle=":")
    axes.set(ylim=(len(rows) - 0.4, -0.6), xlabel="share of the plateau (the widening without it / without everything)")
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
    axes.tick_params(axis="y", labelsize=7)
    axes.grid(True, axis="x")
    axes.spines["left"].set_visible(False)
    widening = data["widening"]
    there = "" if widening is None else f"; without everything wider by {widening[0]:.3f} [{widening[1]:.3f}, {widening[2]:.3f}]"
    note = f"{data['pairs']} pair{'s' if data['pairs'] != 1 else ''}{there}; green: random sets of like size and norms"
    title = panel(figure, 0.12, 0.75, 7.2, height)
    title.axis("off")
    panel_title(title, f"{data['target']}: what builds the plateaus from {data['place']}", note, theme)
    return figure
