"""How is the sceptic's panel drawn? Four pictures: loss by feature, responses, loss by crowding, cross-terms; two where inputs are classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from unbraid.drawing.plot_cells import colour_key, draw_cells, tick_step
from unbraid.drawing.plot_labels import end_labels
from unbraid.drawing.plot_style import WIDTH, Data, Plot, Theme, ThemeName, canvas, draw, panel, panel_title
from unbraid.targets.panel import Panel

FEW = 12
LEFT, HALF, SECOND = 0.66, 2.6, 4.4  # inches: where a picture begins, its width, where the second column begins
TOP, HEIGHT, NEXT = 0.86, 1.95, 3.85


def plot_panel(measured: Panel, theme: ThemeName = "light") -> Plot:
    """Show what a sceptic asks of a toy first."""
    return draw(draw_panel, measured.tree(), theme)


def draw_panel(data: Data, theme: Theme) -> Figure:
    """Draw the panel from its numbers."""
    crossed = data["cross_terms"] is not None
    wide = not crossed and not data["loss_by_active"]
    figure = canvas(6.35 if crossed else 3.4, theme)
    _legend(figure, theme)
    _per_feature(panel(figure, LEFT, TOP, WIDTH - LEFT - 0.4 if wide else HALF, HEIGHT), data, theme)
    if data["responses"]:
        _responses(figure, data["responses"], data["features"], theme)
    if data["loss_by_active"]:
        _by_active(panel(figure, LEFT if crossed else SECOND, NEXT if crossed else TOP, HALF - 0.45, HEIGHT), data, theme)
    if crossed:
        _cross_terms(figure, data, theme)
    return figure


def _legend(figure: Figure, theme: Theme) -> None:
    handles = [
        Line2D([], [], color=theme.learned, marker="o", markersize=5, label="model"),
        Line2D([], [], color=theme.muted, marker="_", markersize=9, markeredgewidth=1.6, linewidth=0, label="naive: without the mechanism"),
        Line2D([], [], color=theme.planted, marker="D", markersize=4.5, markerfacecolor="none", linewidth=0, label="oracle: as planted"),
    ]
    place: Any = {"loc": "upper left", "ncols": 3, "frameon": False, "borderaxespad": 0.6, "handlelength": 1.6, "labelcolor": theme.muted}
    figure.legend(handles=handles, fontsize=8, bbox_to_anchor=((LEFT - 0.2) / WIDTH, 1), **place)


def _per_feature(axes: Axes, data: Data, theme: Theme) -> None:
    """Draw the loss of each feature; many stand in the order of their loss."""
    loss, naive, oracle = (np.asarray(data[f"{kind}_per_feature"], dtype=np.float64) for kind in ("loss", "naive", "oracle"))
    n = len(loss)
    order = np.arange(n) if n <= FEW else np.argsort(loss, kind="stable")
    at = np.arange(n)
    size = 5.5 if n <= FEW else 3.2 if n <= 150 else 1.8
    axes.plot(at, naive[order], "_", color=theme.muted, markersize=13 if n <= FEW else 4, markeredgewidth=1.6, label="naive")
    axes.plot(at, oracle[order], "D", color=theme.planted, markersize=size - 1, markerfacecolor="none", label="oracle")
    axes.plot(at, loss[order], "o", color=theme.learned, markersize=size, markeredgewidth=0, label="loss")
    _from_zero(axes, [*loss, *naive, *oracle])
    axes.set_xlim(-0.6, n - 0.4)
    named = n <= FEW
    axes.set_xticks(at if named else [], data["features"] if named else [])
    if named and any(len(name) > 3 for name in data["features"]):
        axes.tick_params(axis="x", labelrotation=28 if n > 3 else 0)
        for label in axes.get_xticklabels():
            label.set_horizontalalignment("right" if n > 3 else "center")
    axes.set_xlabel(data["word"] if named else f"{n} {_plural(data['word'])}, smallest loss first")
    share = loss.mean() / naive.mean() if naive.mean() > 0 else float("nan")
    panel_title(axes, f"Loss by {data['word']}", f"{_unit(data)} · mean is {100 * share:.3g} % of naive", theme)


def _unit(data: Data) -> str:
    return str(data["unit"]).split(",", maxsplit=1)[0]


def _plural(word: str) -> str:
    return word + ("es" if word.endswith("s") else "s")


def _from_zero(axes: Axes, values: list[float]) -> None:
    top = max([value for value in values if np.isfinite(value)], default=1.0) or 1.0
    axes.set_ylim(-0.04 * top, 1.12 * top)
    axes.grid(True, axis="y")
    axes.spines["left"].set_visible(False)


def _responses(figure: Figure, responses: list[Data], names: list[str], theme: Theme) -> None:
    """Draw the typical feature's response beside the worst one's, on the same scale."""
    curves = ("wanted", "alone", "others_wanted", "others_low", "others_high")
    levels = [level for r in responses for key in curves for level in (r[key] or [])]
    low, high = min(levels), max(levels)
    gap = 0.3
    width = (HALF - gap * (len(responses) - 1)) / len(responses)
    for index, r in enumerate(responses):
        axes = panel(figure, SECOND + index * (width + gap), TOP, width, HEIGHT)
        if r["others_mean"] is not None:
            axes.fill_between(r["values"], r["others_low"], r["others_high"], color=theme.learned, alpha=0.2, linewidth=0, label="others")
            axes.plot(r["values"], r["others_mean"], color=theme.learned, linewidth=1, dashes=(3, 2), label="others-mean")
        axes.plot(r["values"], r["wanted"], color=theme.planted, linewidth=4, alpha=0.4, label="wanted")
        axes.plot(r["values"], r["alone"], color=theme.learned, linewidth=1.7, label="alone")
        margin = 0.06 * (high - low) or 1.0
        axes.set(ylim=(low - margin, high + margin), xlim=(r["values"][0], r["values"][-1]), xlabel=f"value of {names[r['feature']]}")
        axes.set_xticks([r["values"][0], r["values"][-1]], [f"{x:.3g}".replace("-", "−") for x in (r["values"][0], r["values"][-1])])
        axes.grid(True, axis="y")
        axes.spines["left"].set_visible(False)
        if index:
            axes.tick_params(labelleft=False)
        axes.text(0.04, 0.98, r["label"], transform=axes.transAxes, va="top", fontsize=8, weight="bold", color=theme.muted)
        if index == 0:
            panel_title(axes, "Response", "thick: wanted · line: alone · band: 10–90 %, others on", theme)


def _by_active(axes: Axes, data: Data, theme: Theme) -> None:
    """Draw the loss against how much is on at once."""
    rows = data["loss_by_active"]
    count = [row["count"] for row in rows]
    loss, error, naive, oracle = ([row[key] for row in rows] for key in ("loss", "error", "naive", "oracle"))
    axes.fill_between(count, np.subtract(loss, error), np.add(loss, error), color=theme.learned, alpha=0.2, linewidth=0)
    lone = len(rows) == 1  # a line with one point would not be seen
    axes.plot(count, naive, "_" if lone else "-", color=theme.muted, linewidth=1.4, markersize=13, markeredgewidth=1.6, label="naive")
    axes.plot(
        count, oracle, "D" if lone else "-", color=theme.planted, linewidth=1.4, markersize=4.5, markerfacecolor="none", label="oracle"
    )
    axes.plot(count, loss, "o-", color=theme.learned, markersize=4.5, label="loss")
    _from_zero(axes, [*np.add(loss, error), *naive, *oracle])
    step = tick_step(max(count) - min(count) + 1, 9)
    axes.set_xticks(range(min(count), max(count) + 1, step))
    axes.set(xlim=(min(count) - 0.3, max(count) + 0.3), xlabel=f"{data['count_word']} (≥ {min(row['n'] for row in rows):,} inputs each)")
    end_labels(axes, [loss[-1], naive[-1], oracle[-1]], ["model", "naive", "oracle"], [theme.learned, theme.muted, theme.planted])
    whole = data["on_data"]
    per = "per one that is on · " if data["cross_terms"] is not None else ""
    panel_title(axes, "Loss by crowding", f"{per}on all data {whole['loss']:.3g}, naive {whole['naive']:.3g}", theme)


def _cross_terms(figure: Figure, data: Data, theme: Theme) -> None:
    """Draw how far the effects of two features fail to add up."""
    values, wanted = (np.asarray(data[key], dtype=np.float64) for key in ("cross_terms", "wanted_cross_terms"))
    n = len(values)
    axes = panel(figure, SECOND, NEXT, HEIGHT, HEIGHT)
    largest = float(np.nanmax(np.concatenate([values.ravel(), wanted.ravel(), [0.0]]))) if n > 1 else 0.0
    draw_cells(axes, values, theme, scale=largest or 1.0, gaps=n <= FEW)
    step = 1 if n <= FEW else tick_step(n, 5)
    names = [data["features"][i] for i in data["cross_features"]]
    axes.set_xticks(range(0, n, step), names[::step])
    axes.set_yticks(range(0, n, step), names[::step])
    axes.set_xlabel(f"{n} of {len(data['features'])} features" if n < len(data["features"]) else "feature")
    colour_key(figure, (SECOND + HEIGHT + 0.14, NEXT + 0.05), "", ("0", f"{largest:.2g}"), theme, width=0.28)
    mean, right = (float(np.nanmean(x)) if n > 1 else 0.0 for x in (values, wanted))
    panel_title(axes, "Cross-terms", f"|f(i,j) − f(i) − f(j) + f()|, mean {mean:.2g}, wanted {right:.2g}", theme)
