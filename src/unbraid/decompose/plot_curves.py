"""How did training go, how sharp is the cliff between used and unused subcomponents, and what does a stronger adversary break?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unbraid.decompose.result import Decomposition
from unbraid.decompose.scorecard import NULLS, Scorecard
from unbraid.drawing.plot_labels import end_labels
from unbraid.drawing.plot_style import WIDTH, Data, Theme, canvas, log_ticks, panel, panel_title, power_text, rounded

MOST_PANELS, MOST_NAMED, MOST_POINTS = 12, 6, 400
FLOOR = 1e-7  # mean importances below are drawn here: they are zero in the hard sigmoid's flat end or never seen
LADDER_FLOOR = 1e-4  # a share of the behaviour below this is nothing; a truth that loses 1e-12 would stretch the axis out of sight
LADDER_CURVES = ("lost", "low", "high", "oracle")


def training_data(decomposition: Decomposition) -> Data | None:
    """Return the losses and L0 per site at the logged steps; None where nothing was logged."""
    rows = decomposition.metrics
    if len(rows) < 2:
        return None
    rows = rows[:: math.ceil(len(rows) / MOST_POINTS)]
    steps = [int(row["step"]) for row in rows]
    names = [key for key in rows[-1] if key.startswith("train/") and not key.startswith("train/l0")]
    sites = [key for key in rows[-1] if key.startswith("train/l0/")]
    losses = {key.removeprefix("train/"): [_logged(row, key) for row in rows] for key in names}
    l0 = {key.removeprefix("train/l0/"): [_logged(row, key) for row in rows] for key in sites}
    return {"step": steps, "losses": losses, "l0": l0}


def _logged(row: Mapping[str, float], key: str) -> float | None:
    return rounded(row[key]) if key in row else None


def draw_training(data: Data, theme: Theme) -> Figure:
    """Draw losses and L0 side by side."""
    figure = canvas(3.1, theme)
    losses = panel(figure, 0.62, 0.62, 1.9, 1.95)
    _curves(losses, data["step"], data["losses"], theme)
    panel_title(losses, "Losses", "each before its coefficient; total after", theme)
    l0 = panel(figure, 4.3, 0.62, 1.9, 1.95)
    _curves(l0, data["step"], data["l0"], theme)
    panel_title(l0, "L0", "subcomponents above 0.1 per input, by site", theme)
    return figure


def _curves(axes: Axes, steps: Sequence[int], curves: dict[str, list[float | None]], theme: Theme) -> None:
    """Draw curves on a logarithmic axis, each with its name at its end; many curves go without names."""
    palette = [theme.learned, theme.planted, theme.chance, theme.other, theme.ink, theme.muted]
    named = len(curves) <= MOST_NAMED
    axes.set_yscale("log")
    ends: list[tuple[str, float, str]] = []
    for index, (name, values) in enumerate(curves.items()):
        shown = [value if value else math.nan for value in values]
        colour = theme.ink if name == "loss" else palette[(index - ("loss" in curves)) % 4] if named else theme.learned
        axes.plot(steps, shown, color=colour, alpha=1 if named else 0.5, linewidth=1.6 if named else 1, label=f"curve-{name}")
        finite = [value for value in shown if math.isfinite(value)]
        if finite:
            ends.append(("total" if name == "loss" else name, finite[-1], colour))
    axes.set(xlim=(0, steps[-1]), xlabel="step")
    axes.set_xticks([0, steps[-1] / 2, steps[-1]], [f"{round(x):,}" for x in (0, steps[-1] / 2, steps[-1])])
    axes.grid(True, axis="y")
    axes.spines["left"].set_visible(False)
    log_ticks(axes)
    if named and ends:
        names = ["…" + name[-19:] if len(name) > 20 else name for name, _, _ in ends]
        end_labels(axes, [value for _, value, _ in ends], names, [colour for _, _, colour in ends])


def spectrum_data(scorecard: Scorecard) -> Data:
    """Return per site the sorted mean importances, where they fall most, and how many pieces are planted."""
    panels: list[Data] = []
    known = {line.key: line for line in scorecard.lines}
    for path, values in list(scorecard.spectrum.items())[:MOST_PANELS]:
        floored = [max(float(value), FLOOR) for value in values]
        falls = [upper / lower for upper, lower in pairwise(floored)]
        cliff = max(range(len(falls)), key=falls.__getitem__) if falls else None
        line = known.get(f"alive/{path}")
        panels.append(
            {
                "site": path,
                "mean_importance": rounded(values),
                "cliff_after": None if cliff is None else cliff + 1,
                "cliff_factor": None if cliff is None else rounded(falls[cliff], 3),
                "planted": None if line is None or line.oracle is None else int(line.oracle),
            }
        )
    return {"panels": panels, "sites": len(scorecard.spectrum), "floor": FLOOR}


def draw_spectrum(data: Data, theme: Theme) -> Figure:
    """Draw one panel per site."""
    panels: list[Data] = data["panels"]
    across = min(len(panels), 2 if len(panels) in (2, 4) else 3)
    left, gap, top, below, height = 0.62, 0.62, 0.72, 0.55, 1.75
    width = min((WIDTH - left - 0.15 - gap * (across - 1)) / across, 4.2)
    rows = math.ceil(len(panels) / across)
    figure = canvas(rows * (top + height + below), theme)
    for index, p in enumerate(panels):
        r, c = divmod(index, across)
        axes = panel(figure, left + c * (width + gap), r * (top + height + below) + top, width, height)
        _spectrum(axes, p, data["floor"], theme)
        if c == 0:
            axes.set_ylabel("mean importance")
    return figure


def _spectrum(axes: Axes, p: Data, floor: float, theme: Theme) -> None:
    values = [max(value, floor) for value in p["mean_importance"]]
    cliff, planted = p["cliff_after"], p["planted"]
    used = cliff or len(values)
    axes.set_yscale("log")
    size = 5 if len(values) <= 60 else 3 if len(values) <= 250 else 1.6
    axes.plot(range(1, used + 1), values[:used], "o", color=theme.learned, markersize=size, markeredgewidth=0, label="used")
    axes.plot(
        range(used + 1, len(values) + 1), values[used:], "o", color=theme.muted, markersize=size * 0.8, markeredgewidth=0, label="unused"
    )
    axes.set(xlim=(0, len(values) + 1), ylim=(floor / 2.5, 2), xlabel="subcomponents, most used first")
    axes.grid(True, axis="y")
    axes.spines["left"].set_visible(False)
    log_ticks(axes)
    if planted is not None:
        axes.axvline(planted + 0.5, color=theme.planted, linewidth=1.2, dashes=(3, 2))
        right = planted < 0.62 * len(values)
        shift = 5 if right else -5
        place: Any = {
            "xycoords": ("data", "axes fraction"),
            "textcoords": "offset points",
            "fontsize": 8,
            "ha": "left" if right else "right",
        }
        axes.annotate(f"{planted} planted", (planted + 0.5, 0.2), xytext=(shift, 0), va="center", color=theme.planted, **place)
    panel_title(axes, p["site"], _cliff_text(p, floor), theme)


def _cliff_text(p: Data, floor: float) -> str:
    values, cliff, factor = p["mean_importance"], p["cliff_after"], p["cliff_factor"]
    if cliff is None or factor < 10:
        return f"no cliff among {len(values)}"
    least = "≥ " if values[cliff] <= floor else ""
    fall = f"{factor:,.0f}" if factor < 1e5 else power_text(10.0 ** math.floor(math.log10(factor)))
    return f"falls {least if factor < 1e5 else '≥ '}{fall}× after {cliff} of {len(values)}"


def ladder_data(scorecard: Scorecard) -> Data | None:
    """Return the share of the behaviour lost at each budget, for the decomposition and the planted truth, beside the nulls; None without."""
    lines = sorted(
        (line for line in scorecard.lines if line.key.removeprefix("pgd_").isdigit()), key=lambda line: int(line.key.removeprefix("pgd_"))
    )
    if not lines:
        return None
    chance = next((line for line in scorecard.lines if line.key == "stoch_masked"), None)
    return {
        "budget": [int(line.key.removeprefix("pgd_")) for line in lines],
        "lost": rounded([line.value.value for line in lines]),
        "low": rounded([line.value.low for line in lines]),
        "high": rounded([line.value.high for line in lines]),
        "n": [line.value.n for line in lines],
        "oracle": None if any(line.oracle is None for line in lines) else rounded([line.oracle for line in lines]),
        "chance": None if chance is None else rounded(chance.value.value),
        "bar": None if lines[0].bar is None or lines[0].bar.high is None else rounded(lines[0].bar.high),
        "nulls": {name: rounded(lines[0].nulls[name]) for name in NULLS if name in lines[0].nulls},
        "floor": LADDER_FLOOR,
    }


def draw_ladder(data: Data, theme: Theme) -> Figure:
    """Draw the ladder, with what lies below the floor on the floor."""
    figure = canvas(3.5, theme)
    axes = panel(figure, 0.62, 0.62, WIDTH - 0.62 - 1.75, 2.35)
    budget, floor = data["budget"], data["floor"]
    lost, low, high, oracle = (None if data[key] is None else [max(level, floor) for level in data[key]] for key in LADDER_CURVES)
    fixed = [*data["nulls"].values(), data["chance"] or 0, data["bar"] or 0]
    levels = [*(lost or []), *(low or []), *(high or []), *(oracle or []), *(level for level in fixed if level > 0)]
    axes.set_yscale("log")
    axes.set_xscale("log", base=2)
    axes.set(
        xlim=(budget[0] / 1.12, budget[-1] * 1.06), ylim=(max(min(levels), floor) / 1.6, max(levels) * 1.7), xlabel="steps of the adversary"
    )
    axes.set_xticks(budget, [f"{steps:,}" for steps in budget])
    axes.xaxis.set_minor_locator(axes.xaxis.get_major_locator())
    axes.grid(True, axis="y")
    axes.spines["left"].set_visible(False)
    log_ticks(axes)
    labels: list[tuple[float, str, str]] = []
    for name, level in data["nulls"].items():
        axes.axhline(max(level, floor), color=theme.muted, linewidth=1, dashes=(1, 2))
        labels.append((level, f"null: {name}", theme.muted))
    if data["chance"] is not None:
        axes.axhline(max(data["chance"], floor), color=theme.chance, linewidth=1.2, dashes=(4, 2))
        labels.append((data["chance"], "random masks", theme.chance))
    if oracle:
        axes.plot(budget, oracle, "o-", color=theme.planted, markersize=4.5, label="oracle", clip_on=False)
        labels.append((data["oracle"][-1], "planted truth", theme.planted))
    axes.fill_between(budget, low or [], high or [], color=theme.learned, alpha=0.18, linewidth=0)
    axes.plot(budget, lost or [], "o-", color=theme.learned, markersize=5, label="lost")
    labels.append((data["lost"][-1], "decomposition", theme.learned))
    if data["bar"]:
        axes.plot(budget[0], data["bar"], "_", color=theme.ink, markersize=16, markeredgewidth=2)
        axes.annotate("bar", (budget[0], data["bar"]), xytext=(10, 5), textcoords="offset points", fontsize=8, color=theme.ink)
    below = f", below {power_text(floor)}"
    texts = [text + below if value < floor else text for value, text, _ in labels]
    end_labels(axes, [max(value, floor) for value, _, _ in labels], texts, [colour for _, _, colour in labels])
    cut = f"; cut at {power_text(floor)}" if any(value < floor for value, _, _ in labels) else ""
    panel_title(
        axes, "Share of the behaviour lost", f"1 is everything; nulls and bar at the first budget; bands are 95 % intervals{cut}", theme
    )
    return figure
