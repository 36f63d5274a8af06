"""Is each planted piece a subcomponent? The cosine of every planted rank-one matrix with every alive one."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from unbraid.decompose.plot_observe import Observed
from unbraid.decompose.result import Decomposition
from unbraid.drawing.plot_matrix import MOST_COLUMNS, MOST_PANELS, draw_matrices
from unbraid.drawing.plot_style import Data, Theme, rounded
from unbraid.targets.truth import SiteTruth


def pieces_data(decomposition: Decomposition, observed: Observed) -> Data | None:
    """Return per sparse site the cosine of each planted piece with each alive subcomponent, both as matrices; None without any."""
    truth = decomposition.target.truth
    sparse = [path for path, site in truth.sites.items() if site.pattern != "always_on" and not site.any_basis] if truth else []
    if truth is None or not sparse:
        return None
    panels: list[Data] = []
    for path in sparse[:MOST_PANELS]:
        site = truth.sites[path]
        alive = observed.alive[path].nonzero()[:, 0]
        cosine = piece_cosines(decomposition, path, site)[:MOST_COLUMNS, alive]
        order = matching_order(cosine)
        best = float(cosine.max(dim=1).values.mean()) if len(alive) else 0.0
        columns = [int(alive[i]) for i in order][:MOST_COLUMNS]
        panels.append(
            {
                "site": path,
                "columns": columns,
                "rows": "pieces",
                "own": min(site.rank, len(columns), MOST_COLUMNS),
                "values": rounded(cosine[:, order][:, :MOST_COLUMNS], 4),
                "wrong": [],
                "mean_best_cosine": rounded(best, 4),
            }
        )
    return {"panels": panels, "sites": len(sparse)}


def piece_cosines(decomposition: Decomposition, path: str, site: SiteTruth) -> Float[Tensor, "planted C"]:
    """Return the cosine of each planted piece with each subcomponent of its site, both as matrices."""
    V, U = (factor.detach().cpu() for factor in decomposition.model.sites[path].factors.views())
    basis = site.read_basis if site.read_basis is not None else torch.eye(V.shape[0])
    read = F.normalize(basis.T @ site.V, dim=0).T @ F.normalize(basis.T @ V, dim=0)
    return read * (F.normalize(site.U, dim=1) @ F.normalize(U, dim=1).T)


def matching_order(cosine: Float[Tensor, "planted columns"]) -> list[int]:
    """Return the columns in the order of the planted pieces that they match best, one each, and then the others."""
    rows, taken = linear_sum_assignment(cosine.numpy(), maximize=True)
    return [int(taken[i]) for i in np.argsort(rows)] + [i for i in range(cosine.shape[1]) if i not in set(taken.tolist())]


def draw_pieces(data: Data, theme: Theme) -> Figure:
    """Draw the cosine matrices."""
    notes = [f"mean best cosine {p['mean_best_cosine']:.3f} · {len(p['columns'])} alive" for p in data["panels"]]
    return draw_matrices(data["panels"], notes, ("cosine", "planted piece", "alive subcomponent"), theme)
