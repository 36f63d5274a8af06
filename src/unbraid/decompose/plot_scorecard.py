"""How far is each line from its bar? Every number as a multiple of the error that its bar allows, beside the truth and the nulls."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from unbraid.decompose.scorecard import NULLS, Bar, Scorecard
from unbraid.drawing.plot_style import WIDTH, Data, Theme, canvas, log_ticks, panel

CUT = 1000.0
MOST_LINES = 40


def scorecard_data(scorecard: Scorecard) -> Data | None:
    """Return, per line with a bar, the error over what the bar allows (1 is the bar), cut at 1/1000 and 1000; None without bars."""
    lines = [line for line in scorecard.lines if line.bar is not None]
    rows = [
        {
            "key": line.key,
            "title": line.title,
            "group": line.group,
            "passed": line.passed,
            "value": error_share(line.value.value, line.bar),
            "oracle": None if line.oracle is None else error_share(line.oracle, line.bar),
            "nulls": {name: error_share(line.nulls[name], line.bar) for name in NULLS if name in line.nulls},
        }
        for line in lines[:MOST_LINES]
        if line.bar is not None
    ]
    return {"lines": rows, "barred": len(lines), "cut": CUT} if rows else None


def error_share(value: float, bar: Bar) -> float:
    """Return how many times the allowed error a value has, cut at 1/1000 and 1000; at most 1 exactly when the bar is met.

    The error is what is missing to 1 under a lower bar (or the ratio, for values that are no shares), the value itself under an
    upper bar, and the distance from the middle between two.
    """
    low, high = bar.low, bar.high
    if low is not None and high is not None:
        error, allowed = abs(value - (low + high) / 2), (high - low) / 2
    elif low is not None:
        error, allowed = (1 - value, 1 - low) if 0 < low < 1 else (low, value)
    else:
        error, allowed = value, high or 0.0
    if error <= 0:
        return 1 / CUT
    share = error / allowed if allowed > 0 else math.inf
    return float(f"{min(max(share, 1 / CUT), CUT):.4g}")


def draw_scorecard(data: Data, theme: Theme) -> Figure:
    """Draw one row per line, in its groups."""
    rows: list[Data] = data["lines"]
    groups = list(dict.fromkeys(str(row["group"]) for row in rows))
    step, between = 0.235, 0.2
    height = step * len(rows) + between * len(groups)
    figure = canvas(height + 0.95, theme)
    axes = panel(figure, 2.75, 0.42, WIDTH - 2.75 - 0.3, height)
    axes.set_xscale("log")
    axes.set(xlim=(0.6 / CUT, CUT / 0.6), ylim=(height, 0), yticks=[])
    axes.spines[:].set_visible(False)
    axes.axvspan(0.6 / CUT, 1, color=theme.chance, alpha=0.09, linewidth=0)
    axes.axvline(1, color=theme.ink, linewidth=1)
    at = 0.0
    for group in groups:
        at += between
        axes.annotate(group, (0, at - 0.06), xytext=(-190, 0), **_left(), fontsize=8, weight="bold", color=theme.muted)
        for row in (row for row in rows if row["group"] == group):
            at += step
            _row(axes, row, at - step / 2 + 0.03, theme)
    log_ticks(axes, "x")
    axes.set_xlabel("error, as a multiple of what the bar allows (cut at 1/1000 and 1000)")
    axes.text(0.9, -0.06, "passes", ha="right", va="bottom", fontsize=8, color=theme.chance, weight="bold")
    axes.text(1.12, -0.06, "fails", ha="left", va="bottom", fontsize=8, color=theme.muted)
    _legend(figure, theme)
    return figure


def _left() -> dict[str, Any]:
    return {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center", "annotation_clip": False}


def _row(axes: Axes, row: Data, at: float, theme: Theme) -> None:
    colour = theme.learned if row["passed"] else theme.planted
    axes.annotate(row["title"], (0, at), xytext=(-190, 0), **_left(), fontsize=8.5, color=theme.ink)
    axes.axhline(at, color=theme.line, linewidth=0.6, zorder=0)
    axes.plot([1, row["value"]], [at, at], color=colour, linewidth=1.6, alpha=0.55, solid_capstyle="butt")
    axes.plot(list(row["nulls"].values()), [at] * len(row["nulls"]), "|", color=theme.muted, markersize=8, markeredgewidth=1.3)
    if row["oracle"] is not None:
        axes.plot(row["oracle"], at, "D", color="none", markeredgecolor=theme.ink, markersize=4.5, markeredgewidth=1)
    axes.plot(row["value"], at, "o" if row["passed"] else "X", color=colour, markersize=6.5, markeredgewidth=0, label=f"line-{row['key']}")


def _legend(figure: Figure, theme: Theme) -> None:
    def mark(marker: str, label: str, **style: object) -> Line2D:
        return Line2D([], [], linewidth=0, marker=marker, label=label, **style)  # type: ignore[arg-type]

    handles = [
        mark("o", "passes", color=theme.learned, markersize=6, markeredgewidth=0),
        mark("X", "misses", color=theme.planted, markersize=6, markeredgewidth=0),
        mark("D", "planted truth", color="none", markeredgecolor=theme.ink, markersize=4.5),
        mark("|", "nulls", color=theme.muted, markersize=8),
    ]
    figure.legend(
        handles=handles, loc="upper left", ncols=4, frameon=False, fontsize=8, borderaxespad=0.5, handletextpad=0.2, labelcolor=theme.muted
    )
