"""Which subcomponents does each input need? Importances on the probes, columns in the order of the features that they match."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from matplotlib.figure import Figure
from torch import Tensor

from unbraid.decompose.plot_observe import Observed
from unbraid.decompose.plot_pieces import matching_order, piece_cosines
from unbraid.decompose.recovery import matching
from unbraid.decompose.result import ALIVE_THRESHOLD, Decomposition
from unbraid.drawing.plot_matrix import MOST_COLUMNS, MOST_PANELS, draw_matrices, frame_key
from unbraid.drawing.plot_style import Data, Theme, rounded
from unbraid.targets.truth import SiteTruth


def importance_data(decomposition: Decomposition, observed: Observed) -> Data:
    """Return per site the importance matrix [inputs, columns], with columns in the order of what they match."""
    truth = decomposition.target.truth
    panels: list[Data] = []
    for path in list(decomposition.model.C)[:MOST_PANELS]:
        if truth is not None and observed.probes is not None and path in truth.sites:
            panels.append(_probe_panel(path, observed.probes[path], truth.sites[path], truth.tolerance))
        else:
            site = truth.sites.get(path) if truth is not None else None
            order = _planted_order(decomposition, path, site) if site is not None and site.pattern == "sparse" else None
            panels.append(_sample_panel(path, observed.sample[path], site, order))
    return {"panels": panels, "sites": len(decomposition.model.C), "tolerance": truth.tolerance if truth else None}


def _probe_panel(path: str, g: Tensor, site: SiteTruth, tolerance: float) -> Data:
    """Put the column that belongs to each feature first, then what else is on; mark the entries that count as errors."""
    n, C = g.shape
    on: list[int] = (g.max(dim=0).values > ALIVE_THRESHOLD).nonzero()[:, 0].tolist()
    wrong: list[list[int]] = []
    if site.pattern == "per_feature":
        padded = g if n <= C else torch.cat([g, g.new_zeros(n, n - C)], dim=1)
        own = [int(c) if c in on else -1 for c in matching(padded).tolist()]
        rest = _most_used(g, set(on) - set(own))
        wanted = own
    else:
        rest = _most_used(g, on)
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


def _most_used(g: Tensor, columns: Iterable[int]) -> list[int]:
    """Return columns by their mean importance, largest first."""
    mean: list[float] = g.mean(dim=0).tolist()
    return sorted(columns, key=lambda column: (-mean[column], column))


def _planted_order(decomposition: Decomposition, path: str, site: SiteTruth) -> list[int]:
    """Return every subcomponent in the order of the planted pieces that they match, module after module."""
    modules = list(dict.fromkeys(site.modules))
    by_module = sorted(range(site.rank), key=lambda piece: modules.index(site.modules[piece]) if modules else piece)
    return matching_order(piece_cosines(decomposition, path, site)[by_module])


def _sample_panel(path: str, g: Tensor, site: SiteTruth | None, order: list[int] | None) -> Data:
    """Fresh inputs as rows, by the subcomponent that they need first; columns in the order given, or by how much they are used."""
    on: list[int] = (g.max(dim=0).values > ALIVE_THRESHOLD).nonzero()[:, 0].tolist()
    columns = ([column for column in order if column in set(on)] if order is not None else _most_used(g, on))[:MOST_COLUMNS]
    values = g[:, columns]
    if columns:
        above = values > ALIVE_THRESHOLD
        first = torch.where(above.any(dim=1), above.float().argmax(dim=1), len(columns))
        values = values[first.argsort(stable=True)]
    return {
        "site": path,
        "pattern": site.pattern if site is not None else None,
        "planted": site.rank if site is not None else None,
        "rows": "inputs",
        "columns": columns,
        "own": 0,
        "values": rounded(values, 4),
        "wrong": [],
        "never_on": g.shape[1] - len(on),
    }


def draw_importance(data: Data, theme: Theme) -> Figure:
    """Draw the importance matrices."""
    notes: list[str] = []
    for p in data["panels"]:
        how = {"always_on": " always on", "sparse": ""}.get(p["pattern"])
        planted = "" if how is None else f"planted: {p['planted']}{how} · "
        on = sum(column >= 0 for column in p["columns"])
        notes.append(f"{planted}{on} on · {p['never_on']} never on")
    probed = {p["rows"] == "features" for p in data["panels"]}
    label = "input" if len(probed) > 1 else "feature that is on, one at a time" if True in probed else "fresh inputs"
    figure = draw_matrices(data["panels"], notes, ("importance", label, "subcomponent"), theme)
    if any(p["wrong"] for p in data["panels"]):
        frame_key(figure, theme, "wrong entry")
    return figure
