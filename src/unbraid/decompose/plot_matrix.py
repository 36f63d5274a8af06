"""Which subcomponent answers to which feature? Importances on the probes, and planted against recovered pieces, as matrices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from unbraid.decompose.plot_observe import Observed
from unbraid.decompose.plot_style import WIDTH, Data, Theme, canvas, panel, panel_title, rounded
from unbraid.decompose.recovery import matching
from unbraid.decompose.result import ALIVE_THRESHOLD, Decomposition
from unbraid.targets.truth import SiteTruth

MOST_PANELS, MOST_COLUMNS, FEW = 6, 160, 12
FAINT = 0.02  # cells below are not drawn where there are many
MOST_CELLS = 2500


def importance_data(decomposition: Decomposition, observed: Observed) -> Data:
    """Return per site the importance matrix [inputs, columns], with columns in the order of what they match."""
    truth = decomposition.target.truth
    panels: list[Data] = []
    for path in list(decomposition.model.C)[:MOST_PANELS]:
        if truth is not None and observed.probes is not None and path in truth.sites:
            panels.append(_probe_panel(path, observed.probes[path], truth.sites[path], truth.tolerance))
        else:
            panels.append(_sample_panel(path, observed.sample[path]))
    return {"panels": panels, "sites": len(decomposition.model.C), "tolerance": truth.tolerance if truth else None}


def _probe_panel(path: str, g: Tensor, site: SiteTruth, tolerance: float) -> Data:
    """Put the column that belongs to each feature first, then what else is on; mark the entries that count as errors."""
    n, C = g.shape
    on = (g.max(dim=0).values > ALIVE_THRESHOLD).nonzero()[:, 0].tolist()
    wrong: list[list[int]] = []
    if site.pattern == "per_feature":
        padded = g if n <= C else torch.cat([g, g.new_zeros(n, n - C)], dim=1)
        own = [int(c) if c in on else -1 for c in matching(padded).tolist()]
        rest = sorted(set(on) - set(own), key=lambda c: -float(g[:, c].mean()))
        wanted = own
    else:
        rest = sorted(on, key=lambda c: -float(g[:, c].mean()))
        wanted = []
    columns = (wanted + rest)[:MOST_COLUMNS]
    values = torch.stack([g[:, c] if c >= 0 else g.new_zeros(n) for c in columns], dim=1) if columns else g.new_zeros(n, 0)
    if wanted:
        diagonal = torch.eye(n, len(columns), dtype=torch.bool)
        bad = torch.where(diagonal, values < 1 - tolerance, values > tolerance)
        wrong = bad.nonzero().tolist()
    never = C - len(on)
    return {
        "site": path,
        "pattern": site.pattern,
        "planted": site.rank,
        "rows": "features",
        "columns": columns,
        "own": len(wanted),
        "values": rounded(values, 4),
        "wrong": wrong,
        "never_on": never,
    }


def _sample_panel(path: str, g: Tensor) -> Data:
    """Without a truth: fresh inputs as rows, subcomponents by how much they are used, inputs by the one they need first."""
    on = (g.max(dim=0).values > ALIVE_THRESHOLD).nonzero()[:, 0].tolist()
    columns = sorted(on, key=lambda c: -float(g[:, c].mean()))[:MOST_COLUMNS]
    values = g[:, columns]
    if columns:
        above = values > ALIVE_THRESHOLD
        first = torch.where(above.any(dim=1), above.float().argmax(dim=1), len(columns))
        values = values[first.argsort(stable=True)]
    return {
        "site": path,
        "pattern": None,
        "planted": None,
        "rows": "inputs",
        "columns": columns,
        "own": 0,
        "values": rounded(values, 4),
        "wrong": [],
        "never_on": g.shape[1] - len(on),
    }


def pieces_data(decomposition: Decomposition, observed: Observed) -> Data | None:
    """Return per sparse site the cosine of each planted piece with each alive subcomponent, both as matrices; None without any."""
    truth = decomposition.target.truth
    sparse = [path for path, site in truth.sites.items() if site.pattern == "per_feature"] if truth else []
    if truth is None or not sparse:
        return None
    panels: list[Data] = []
    for path in sparse[:MOST_PANELS]:
        site = truth.sites[path]
        V, U = (factor.detach().cpu() for factor in decomposition.model.sites[path].factors.views())
        alive = observed.alive[path].nonzero()[:, 0]
        basis = site.read_basis if site.read_basis is not None else torch.eye(V.shape[0])
        read = F.normalize(basis.T @ site.V, dim=0).T @ F.normalize(basis.T @ V[:, alive], dim=0)
        cosine = read * (F.normalize(site.U, dim=1) @ F.normalize(U[alive], dim=1).T)
        rows, taken = linear_sum_assignment(cosine.numpy(), maximize=True)
        order = [int(taken[i]) for i in np.argsort(rows)] + [i for i in range(len(alive)) if i not in set(taken.tolist())]
        best = float(cosine.max(dim=1).values.mean()) if len(alive) else 0.0
        columns = [int(alive[i]) for i in order][:MOST_COLUMNS]
        panels.append(
            {
                "site": path,
                "columns": columns,
                "rows": "pieces",
                "own": min(site.rank, len(columns)),
                "values": rounded(cosine[:, order][:, :MOST_COLUMNS], 4),
                "wrong": [],
                "mean_best_cosine": rounded(best, 4),
            }
        )
    return {"panels": panels, "sites": len(sparse)}


def draw_importance(data: Data, theme: Theme) -> Figure:
    """Draw the importance matrices."""
    truth = data["tolerance"] is not None
    notes: list[str] = []
    for p in data["panels"]:
        always = f"planted: {p['planted']} always on · " if p["pattern"] == "always_on" else ""
        on = sum(column >= 0 for column in p["columns"])
        notes.append(f"{always}{on} on · {p['never_on']} never on")
    label = "feature that is on, one at a time" if truth else "fresh inputs"
    figure = _draw_matrices(data["panels"], notes, ("importance", label, "subcomponent"), theme)
    if any(p["wrong"] for p in data["panels"]):
        _key(figure, theme, "wrong entry")
    return figure


def draw_pieces(data: Data, theme: Theme) -> Figure:
    """Draw the cosine matrices."""
    notes = [f"mean best cosine {p['mean_best_cosine']:.3f} · {len(p['columns'])} alive" for p in data["panels"]]
    return _draw_matrices(data["panels"], notes, ("cosine", "planted piece", "alive subcomponent"), theme)


def _draw_matrices(panels: list[Data], notes: list[str], labels: tuple[str, str, str], theme: Theme) -> Figure:
    """Lay matrices out in rows of two or three, with one colour key."""
    small = all(len(p["values"]) <= FEW and len(p["columns"]) <= FEW for p in panels)
    across = min(len(panels), 3 if small else 2) if len(panels) != 4 else 2
    left, gap, top, below = 0.62, 0.72, 0.92, 0.62
    width = min((WIDTH - left - 0.12 - gap * (across - 1)) / across, 3.1)
    heights = [width * min(max(len(p["values"]) / max(len(p["columns"]), 1), 0.3), 1.15) for p in panels]
    rows = [heights[i : i + across] for i in range(0, len(heights), across)]
    figure = canvas(sum(max(row) + top + below for row in rows), theme)
    edge = 0.0
    for r, row in enumerate(rows):
        for c, height in enumerate(row):
            index = r * across + c
            axes = panel(figure, left + c * (width + gap), edge + top, width, height)
            _matrix(axes, panels[index], theme, (labels[1] if c == 0 else "", labels[2]))
            panel_title(axes, str(panels[index]["site"]), notes[index], theme)
        edge += max(row) + top + below
    _colour_key(figure, labels[0], any(_lowest(p) < -FAINT for p in panels), theme)
    return figure


def _lowest(p: Data) -> float:
    return min((min(row) for row in p["values"] if row), default=0.0)


def _matrix(axes: Axes, p: Data, theme: Theme, labels: tuple[str, str]) -> None:
    """Draw one matrix: every cell where there are few, only what is not zero where there are many."""
    values = np.asarray(p["values"], dtype=np.float64).reshape(len(p["values"]), len(p["columns"]))
    n, columns = values.shape
    few = n <= FEW and columns <= FEW
    axes.set(xlim=(-0.5, max(columns, 1) - 0.5), ylim=(n - 0.5, -0.5), xlabel=labels[1], ylabel=labels[0])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    cells = np.argwhere(np.ones_like(values, dtype=bool) if few else np.abs(values) >= FAINT)
    if len(cells) > MOST_CELLS:
        axes.imshow(values, cmap=colours(theme), vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    else:
        axes.set_facecolor(theme.surface if few else theme.empty)
        half = 0.46 if few else 0.5
        drawn = PolyCollection(_squares(cells, half), cmap=colours(theme), linewidths=0, gid="cells")
        drawn.set_array(values[cells[:, 0], cells[:, 1]])
        drawn.set_clim(-1, 1)
        axes.add_collection(drawn, autolim=False)
    if few:
        for r, c in cells:
            if abs(values[r, c]) >= 0.005:
                inside = theme.surface if abs(values[r, c]) > 0.55 else theme.ink
                axes.text(c, r, f"{values[r, c]:.2f}".replace("-", "−"), ha="center", va="center", fontsize=7.5, color=inside)
    if p["wrong"]:
        frame = PolyCollection(_squares(np.asarray(p["wrong"]), 0.5), facecolors="none", edgecolors=theme.planted, linewidths=1.1)
        axes.add_collection(frame, autolim=False)
    if 0 < p["own"] < columns:
        axes.axvline(p["own"] - 0.5, color=theme.muted, linewidth=0.8)
    _ticks(axes, p, n)


def _squares(cells: Any, half: float) -> Any:
    """Return the corners of a square around each (row, column), [n, 4, 2]."""
    corners = np.asarray([(-half, -half), (half, -half), (half, half), (-half, half)])
    return cells[:, None, ::-1] + corners[None]


def _ticks(axes: Axes, p: Data, n: int) -> None:
    columns = p["columns"]
    step = 1 if n <= FEW else 10 if n <= 60 else 20
    axes.set_yticks(range(0, n, step), [str(i) for i in range(0, n, step)])
    if len(columns) <= FEW:
        axes.set_xticks(range(len(columns)), ["none" if c < 0 else str(c) for c in columns])
    else:
        step = 10 ** math.ceil(math.log10(len(columns) / 8)) // 2 or 1
        axes.set_xticks(range(0, len(columns), step), [str(i) for i in range(0, len(columns), step)])
        axes.set_xlabel(f"{axes.get_xlabel()}s, in this order")


def colours(theme: Theme) -> LinearSegmentedColormap:
    """Return the map from [-1, 1] to colours: the opposite ramp, nothing at 0, the ramp."""
    return LinearSegmentedColormap.from_list(f"unbraid-{theme.name}", [*reversed(theme.opposite[1:]), *theme.ramp])


def _colour_key(figure: Figure, label: str, signed: bool, theme: Theme) -> None:
    """Draw a strip of the colours at the upper right."""
    steps = np.linspace(-1 if signed else 0, 1, 21 if signed else 11)
    axes = panel(figure, WIDTH - 0.12 - 1.15, 0.16, 0.9, 0.1)
    axes.axis("off")
    axes.set(xlim=(0, len(steps)), ylim=(0, 1))
    strip = [[(i, 0), (i + 1.05, 0), (i + 1.05, 1), (i, 1)] for i in range(len(steps))]
    axes.add_collection(PolyCollection(strip, facecolors=colours(theme)((steps + 1) / 2), linewidths=0))
    axes.text(-0.06, 0.5, f"{label}  {'−1' if signed else '0'}", transform=axes.transAxes, ha="right", va="center", fontsize=8, color=theme.muted)
    axes.text(1.06, 0.5, "1", transform=axes.transAxes, ha="left", va="center", fontsize=8, color=theme.muted)


def _key(figure: Figure, theme: Theme, text: str) -> None:
    """Say at the upper left what the frames mean."""
    axes = panel(figure, 0.62, 0.16, 0.1, 0.1)
    axes.axis("off")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.add_collection(PolyCollection([[(0, 0), (1, 0), (1, 1), (0, 1)]], facecolors="none", edgecolors=theme.planted, clip_on=False))
    axes.text(1.6, 0.5, text, ha="left", va="center", fontsize=8, color=theme.muted)
