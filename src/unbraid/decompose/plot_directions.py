"""Do the recovered directions lie on the planted ones? A picture in the plane, for sites that read from or write to two dimensions."""

from __future__ import annotations

from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from unbraid.decompose.plot_observe import Observed
from unbraid.decompose.result import Decomposition
from unbraid.drawing.plot_style import WIDTH, Data, Theme, canvas, panel, panel_title, rounded
from unbraid.targets.truth import SiteTruth

MOST_PANELS = 3


def directions_data(decomposition: Decomposition, observed: Observed) -> Data | None:
    """Return, per sparse site with two hidden dimensions, planted and recovered vectors [n, 2]; None without such a site.

    For feature j the planted vector is what the whole matrix does for it. A recovered vector is what one alive subcomponent
    does for the feature that it serves most; an idle one is drawn by its length alone.
    """
    truth = decomposition.target.truth
    if truth is None:
        return None
    panels: list[Data] = []
    for path, site in truth.sites.items():
        V, U = (factor.detach().cpu() for factor in decomposition.model.sites[path].factors.views())
        if site.pattern != "per_feature" or site.read_basis is not None:
            continue
        if site.compare == "read" and U.shape[1] == 2:
            panels.append(_panel(path, site, V.T, U, site.V @ site.U, observed.alive[path]))
        elif site.compare == "write" and V.shape[0] == 2:
            panels.append(_panel(path, site, U, V.T, (site.V @ site.U).T, observed.alive[path]))
    return {"panels": panels[:MOST_PANELS], "sites": len(panels)} if panels else None


def _panel(path: str, site: SiteTruth, amounts: Tensor, vectors: Tensor, planted: Tensor, alive: Tensor) -> Data:
    """Compare `amounts [C, features]` times `vectors [C, 2]` with the planted `[features, 2]`."""
    feature = amounts.abs().argmax(dim=1)
    served = amounts.gather(1, feature[:, None]) * vectors
    idle = amounts.norm(dim=1, keepdim=True) * vectors
    on = alive.nonzero()[:, 0]
    return {
        "site": path,
        "side": "writes" if site.compare == "read" else "reads",
        "planted": rounded(planted, 4),
        "recovered": rounded(served[on], 4),
        "component": on.tolist(),
        "feature": feature[on].tolist(),
        "idle": rounded(idle[~alive], 4),
    }


def draw_directions(data: Data, theme: Theme) -> Figure:
    """Draw the planes side by side."""
    panels: list[Data] = data["panels"]
    left, gap, top, width = 0.25, 0.4, 0.95, 3.0
    width = min(width, (WIDTH - 2 * left - gap * (len(panels) - 1)) / len(panels))
    left = (WIDTH - width * len(panels) - gap * (len(panels) - 1)) / 2 if len(panels) > 1 else left
    figure = canvas(top + width + 0.15, theme)
    reach = 1.22 * max(torch.tensor(p["planted"] + p["recovered"]).norm(dim=1).max().item() for p in panels)
    for index, p in enumerate(panels):
        axes = panel(figure, left + index * (width + gap), top, width, width)
        _plane(axes, p, reach, theme)
        panel_title(axes, p["site"], f"what it {p['side']} for each feature · {len(p['recovered'])} alive, {len(p['idle'])} idle", theme)
    _legend(figure, theme)
    return figure


def _plane(axes: Axes, p: Data, reach: float, theme: Theme) -> None:
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.axhline(0, color=theme.line, linewidth=0.8, zorder=0)
    axes.axvline(0, color=theme.line, linewidth=0.8, zorder=0)
    for j, (x, y) in enumerate(p["planted"]):
        axes.plot([0, x], [0, y], color=theme.planted, linewidth=7, alpha=0.32, zorder=2)
        length = (x * x + y * y) ** 0.5 or 1.0
        far = 1 + 0.11 * reach / length
        axes.text(x * far, y * far, str(j), ha="center", va="center", fontsize=9, weight="bold", color=theme.planted)
    for x, y in p["recovered"]:
        axes.plot([0, x], [0, y], color=theme.learned, linewidth=1.6, zorder=3)
    if p["recovered"]:
        points: Any = list(zip(*p["recovered"], strict=True))
        axes.scatter(*points, s=26, color=theme.learned, zorder=4, linewidths=0, label="recovered")
    if p["idle"]:
        points = list(zip(*p["idle"], strict=True))
        axes.scatter(*points, s=7, color=theme.muted, zorder=1, linewidths=0)


def _legend(figure: Figure, theme: Theme) -> None:
    handles = [
        Line2D([], [], color=theme.planted, linewidth=7, alpha=0.32, label="planted"),
        Line2D([], [], color=theme.learned, linewidth=1.6, marker="o", markersize=5, label="recovered"),
        Line2D([], [], color=theme.muted, linewidth=0, marker="o", markersize=2.6, label="never needed"),
    ]
    place: Any = {"loc": "upper left", "ncols": 3, "frameon": False, "borderaxespad": 0.6, "handlelength": 1.6, "labelcolor": theme.muted}
    figure.legend(handles=handles, fontsize=8, **place)
