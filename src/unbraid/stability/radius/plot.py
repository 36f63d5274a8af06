"""How far do activations move before the answer changes? One survival curve per family of directions, with its band and what was censored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unbraid.drawing.plot_style import Data, Plot, Theme, ThemeName, canvas, draw, panel, panel_title, rounded

if TYPE_CHECKING:
    from unbraid.stability.radius.result import RadiusResult

POINTS = 241
NULL_STYLE, OWN_STYLE = "--", "-"


def plot_survival(result: RadiusResult, threshold: int = 0, theme: ThemeName = "light") -> Plot:
    """Show P(radius > r) of each family at one of the thresholds; nulls are dashed.

    Args:
        result: What was measured.
        threshold: Which threshold, by its number.
        theme: "light" or "dark".
    """
    return draw(draw_survival, survival_data(result, threshold), theme)


def survival_data(result: RadiusResult, threshold: int) -> Data:
    """Return each family's curve with its 95 % band over anchors, and how many of its rays were censored."""
    at = np.linspace(0.0, result.furthest, POINTS)
    curves: list[dict[str, Any]] = []
    for name in result.families:
        survival = result.survival(name, threshold)
        if not survival.rays:
            continue
        value, low, high = survival.at(at)
        is_null = name in result.nulls.values() or name not in result.nulls
        curves.append(
            {
                "name": name,
                "null": is_null,
                "survives": rounded(value),
                "low": rounded(low),
                "high": rounded(high),
                "median": survival.radius_at(0.5).value,
                "rays": survival.rays,
                "censored": survival.censored,
            }
        )
    name, tau, read = result.thresholds[threshold]
    return {
        "title": f"{result.target}, {result.where}: how far until the answer changes",
        "note": f"{name} ({read}: {tau:.3g}); bands: 95 % over {len(result.arrays['radii'])} anchors; dashed: nulls",
        "unit": result.unit,
        "span": result.span,
        "radii": rounded(at),
        "curves": curves,
    }


def draw_survival(data: Data, theme: Theme) -> Figure:
    """Draw the curves from their numbers."""
    figure = canvas(4.1, theme)
    axes = panel(figure, 0.7, 0.65, 4.6, 2.75)
    colours = _colours(data["curves"], theme)
    for curve, colour in zip(data["curves"], colours, strict=True):
        axes.fill_between(data["radii"], curve["low"], curve["high"], step="post", color=colour, alpha=0.15, linewidth=0)
        axes.step(data["radii"], curve["survives"], NULL_STYLE if curve["null"] else OWN_STYLE, where="post", color=colour, linewidth=1.6)
        if curve["censored"]:
            # As in any survival plot, a tick where rays were lost sight of: here all at the end.
            axes.plot(data["radii"][-1], curve["survives"][-1], "|", color=colour, markersize=9, markeredgewidth=1.6, clip_on=False)
    if data["span"] < data["radii"][-1]:
        axes.axvline(data["span"], color=theme.muted, linewidth=0.8, linestyle=":")
        axes.annotate(
            "median between two\nreal activations",
            (data["span"], 0.97),
            xytext=(-4, 0),
            textcoords="offset points",
            ha="right",
            va="top",
            fontsize=7.5,
            color=theme.muted,
        )
    unit = "turned by, degrees" if data["unit"] == "degrees" else "moved by"
    axes.set(xlim=(0, data["radii"][-1]), ylim=(0, 1.02), xlabel=unit, ylabel="share of rays that have not crossed")
    axes.grid(True, axis="y")
    _names(axes, data["curves"], colours, theme)
    panel_title(axes, data["title"], data["note"], theme)
    return figure


def _colours(curves: list[dict[str, Any]], theme: Theme) -> list[str]:
    """Give families the palette's colours in their order, and nulls grey or the colour of what they are a null of."""
    palette = [theme.learned, theme.planted, theme.chance, theme.other]
    found: dict[str, str] = {}
    for curve in (curve for curve in curves if not curve["null"]):
        found[curve["name"]] = palette[len(found) % len(palette)]
    for curve in (curve for curve in curves if curve["null"]):
        own = curve["name"].removesuffix(" mixed")
        found[curve["name"]] = found.get(own, theme.ink if curve["name"] == "covariance" else theme.muted)
    return [found[curve["name"]] for curve in curves]


def _names(axes: Axes, curves: list[dict[str, Any]], colours: list[str], theme: Theme) -> None:
    """Write the families beside the panel with their medians: most curves end at 0, where labels would be on top of each other."""
    for index, (curve, colour) in enumerate(zip(curves, colours, strict=True)):
        height = 0.95 - min(0.145, 0.95 / len(curves)) * index
        axes.plot(
            [1.03, 1.09],
            [height, height],
            NULL_STYLE if curve["null"] else OWN_STYLE,
            color=colour,
            linewidth=1.6,
            transform=axes.transAxes,
            clip_on=False,
        )
        median = "undefined" if curve["median"] is None else f"{curve['median']:.3g}"
        lost = f", {curve['censored']} of {curve['rays']} censored" if curve["censored"] else ""
        place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "annotation_clip": False, "va": "center"}
        axes.annotate(_short(curve["name"]), (1.11, height), xytext=(0, 4), fontsize=8, color=theme.ink, **place)
        axes.annotate(f"median {median}{lost}", (1.11, height), xytext=(0, -6), fontsize=7, color=theme.muted, **place)


def _short(name: str) -> str:
    """Return a family's name without the path of a run."""
    kind, colon, run = name.partition(":")
    return f"{kind}:{run.rstrip('/').rpartition('/')[2]}" if colon else name
