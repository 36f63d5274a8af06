"""What do the regions look like? The anchors by their answers and coloured by region, the tree in which they merge, and how many there are at each τ."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy import ndarray
from scipy.cluster.hierarchy import dendrogram

from unbraid.drawing.plot_labels import end_labels
from unbraid.drawing.plot_style import Data, Plot, Theme, ThemeName, canvas, draw, log_ticks, panel, panel_title, rounded
from unbraid.stability.plane.plot import COLOURS
from unbraid.stability.regions.result import TAUS, RegionsResult

SHOWN = 60
"""How many branches of the tree are drawn, the last ones to merge."""
MARKS = ("o", "s", "^", "D", "v", "P", "X")


def plot_region_map(result: RegionsResult, theme: ThemeName = "light") -> Plot:
    """Show the map of a result."""
    return draw(draw_region_map, region_map_data(result), theme)


def region_map_data(result: RegionsResult) -> Data:
    """Return the anchors' places and regions, the merges, and the number of regions at each τ."""
    found = result.maps["model"]
    places, shown = classical_scaling(found.gap)
    median = found.tau / result.config.tau
    return {
        "title": f"{result.target}: {result.place} → {result.read}",
        "context": result.context,
        "places": rounded(places, 4),
        "shown": rounded(shown, 3),
        "labels": result.labels.tolist(),
        "anchors": list(result.anchors),
        "merges": [[int(i), int(j), float(f"{height / median:.4g}"), int(size)] for i, j, height, size in found.linkage()],
        "tau": result.config.tau,
        "taus": list(TAUS),
        "counts": {name: list(counts) for name, counts in result.counts.items()},
        "verdict": result.verdict,
    }


def classical_scaling(distances: Float[ndarray, "n n"]) -> tuple[Float[ndarray, "n 2"], float]:
    """Return places in two dimensions whose distances are nearest to these, and the share of the squared distances that they show.

    Source: Torgerson 1952. For Euclidean distances these are the first two principal components.
    """
    n = len(distances)
    centre = np.eye(n) - 1 / n
    values, vectors = np.linalg.eigh(-centre @ np.square(distances) @ centre / 2)
    top = np.maximum(values[[-1, -2]], 0)
    places = vectors[:, [-1, -2]] * np.sqrt(top)
    places *= np.where(np.abs(places).argmax(0)[None] >= 0, np.sign(places[np.abs(places).argmax(0), [0, 1]]), 1)
    total = float(values[values > 0].sum())
    return places, float(top.sum() / total) if total > 0 else float("nan")


def draw_region_map(data: Data, theme: Theme) -> Figure:
    """Draw the map, the tree and the counts."""
    figure = canvas(6.75, theme)
    labels = np.asarray(data["labels"])
    sizes = np.bincount(labels)
    coloured = [region for region in range(min(len(sizes), len(COLOURS))) if sizes[region] > 1]
    axes = panel(figure, 0.25, 0.65, 4.5, 3.3)
    _map(axes, data, labels, coloured, theme)
    alone = int((sizes == 1).sum())
    note = f"{len(sizes)} regions, {alone} of one anchor; two dimensions show {data['shown']:.0%} of the squared distances"
    panel_title(axes, data["title"], note, theme)
    _key(panel(figure, 4.9, 0.75, 2.6, 3.2), data, labels, coloured, theme)
    _tree(panel(figure, 0.6, 4.6, 3.0, 1.2), data, theme)
    _counts(panel(figure, 4.3, 4.6, 2.15, 1.2), data, theme)
    axes.annotate(
        "\n".join(textwrap.wrap(data["verdict"], 110)),
        (0.25 / 7.6, 0.012),
        xycoords="figure fraction",
        fontsize=8,
        color=theme.muted,
        va="bottom",
    )
    return figure


def _map(axes: Axes, data: Data, labels: ndarray, coloured: list[int], theme: Theme) -> None:
    """Draw the anchors: the largest regions in colours and marks of their own, the others as quiet dots."""
    places = np.asarray(data["places"])
    rest = ~np.isin(labels, coloured)
    axes.plot(places[rest, 0], places[rest, 1], ".", color=theme.muted, markersize=4, alpha=0.6)
    for region in coloured:
        inside = places[labels == region]
        axes.plot(inside[:, 0], inside[:, 1], MARKS[region], color=COLOURS[region], markersize=5, alpha=0.85, markeredgewidth=0)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.set(xticks=[], yticks=[])
    axes.set_aspect("equal", "datalim")


def _key(axes: Axes, data: Data, labels: ndarray, coloured: list[int], theme: Theme) -> None:
    """Name the coloured regions by the first of their anchors."""
    axes.axis("off")
    axes.set(xlim=(0, 2.6), ylim=(3.2, 0))
    context = " ".join(data["context"].split())
    top = 0.1
    if context:
        axes.text(0, top, "last tokens after", color=theme.muted, fontsize=8, va="center")
        for line in textwrap.wrap(f"“{context}”", 38)[-2:]:
            top += 0.17
            axes.text(0, top, line, color=theme.muted, fontsize=8, va="center")
        top += 0.3
    for region in coloured:
        members = [data["anchors"][i] for i in np.flatnonzero(labels == region)]
        words = textwrap.shorten(" ".join(_shown(word) for word in members[:12]), 30, placeholder=" …")
        axes.plot([0.07], [top], MARKS[region], color=COLOURS[region], markersize=5, markeredgewidth=0, clip_on=False)
        axes.text(0.2, top, f"{len(members)}", va="center", color=theme.ink)
        axes.text(0.5, top, words, va="center", fontsize=8, color=theme.ink)
        top += 0.26
    rest = int((~np.isin(labels, coloured)).sum())
    if rest:
        axes.plot([0.07], [top], ".", color=theme.muted, markersize=4)
        axes.text(0.2, top, f"{rest}", va="center", color=theme.ink)
        axes.text(0.5, top, "in smaller regions, or alone", va="center", fontsize=8, color=theme.ink)


def _tree(axes: Axes, data: Data, theme: Theme) -> None:
    """Draw the merges, with the height at which regions are cut."""
    merges = np.asarray(data["merges"], dtype=np.float64)
    drawn: Any = dendrogram(merges, SHOWN, "lastp", no_plot=True, color_threshold=0)
    for x, y in zip(drawn["icoord"], drawn["dcoord"], strict=True):
        axes.plot(x, y, color=theme.learned, linewidth=0.8)
    axes.axhline(data["tau"], color=theme.planted, linewidth=1, linestyle="--")
    axes.annotate(
        "τ", (1, data["tau"]), xycoords=("axes fraction", "data"), xytext=(3, -3), textcoords="offset points", color=theme.planted
    )
    axes.set(xticks=[], ylim=(0, None), ylabel="of the median gap")
    note = f"at the larger of barrier and gap; the last {SHOWN}" if len(merges) >= SHOWN else "at the larger of barrier and gap"
    panel_title(axes, "How anchors merge", note, theme)


def _counts(axes: Axes, data: Data, theme: Theme) -> None:
    """Draw the number of regions against τ, the controls beside the model."""
    colours = {"model": theme.learned, "untrained": theme.other, "matched": theme.chance}
    names = {"model": "model", "untrained": "untrained", "matched": "random anchors"}
    ends: list[float] = []
    for name, counts in data["counts"].items():
        axes.plot(data["taus"], counts, color=colours[name], linestyle="-" if name == "model" else "--", linewidth=1.5)
        ends.append(float(counts[len(counts) // 2]))
    axes.axvline(data["tau"], color=theme.planted, linewidth=1, linestyle="--")
    axes.set(xscale="log", xlabel="τ, of the median gap", ylim=(0, None))
    log_ticks(axes, "x")
    panel_title(axes, "How many regions", f"among {len(data['anchors'])} anchors", theme)
    heights = [float(axes.get_ylim()[1]) * share for share in (0.95, 0.75, 0.55)][: len(ends)]
    end_labels(axes, heights, [names[name] for name in data["counts"]], [colours[name] for name in data["counts"]])


def _shown(word: str) -> str:
    """Return a token as a figure can show it."""
    plain = word.replace("\n", "↵")
    return plain.strip() if plain.strip() else plain.replace(" ", "␣")
