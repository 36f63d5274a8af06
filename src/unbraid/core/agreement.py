"""How alike are two ways of sorting the same things? ARI, NMI, homogeneity and completeness, each thing counted once or by a weight.

With weights 1 the numbers are scikit-learn's (Hubert & Arabie 1985; Rosenberg & Hirschberg 2007).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray


@dataclass(frozen=True)
class Agreement:
    """How well found groups agree with planted labels.

    Attributes:
        ari: Adjusted Rand index: 1 when they agree, about 0 by chance.
        nmi: Mutual information over the mean of both entropies.
        homogeneity: 1 when no group mixes planted modules.
        completeness: 1 when no planted module is split over groups.
    """

    ari: float
    nmi: float
    homogeneity: float
    completeness: float


NOTHING = Agreement(0.0, 0.0, 0.0, 0.0)
"""Where there is nothing to sort, nothing was found."""


def agreement(found: Sequence[int], planted: Sequence[int], weights: Sequence[float] | None = None) -> Agreement:
    """Compare found groups with planted labels.

    Args:
        found: The group of each thing.
        planted: Its planted label.
        weights: How much it counts; None for equally.
    """
    if len(found) == 0:
        return NOTHING
    w = np.ones(len(found)) if weights is None else np.asarray(weights, dtype=np.float64)
    w = w / w.mean()
    table = contingency(np.asarray(found), np.asarray(planted), w)
    rows, columns, total = table.sum(1), table.sum(0), table.sum()
    h_found, h_planted = _entropy(rows / total), _entropy(columns / total)
    mutual = max(h_found + h_planted - _entropy(table.ravel() / total), 0.0)
    return Agreement(
        _ari(table, float(w @ w)),
        1.0 if h_found + h_planted == 0 else min(2 * mutual / (h_found + h_planted), 1.0),
        1.0 if h_planted == 0 else min(mutual / h_planted, 1.0),
        1.0 if h_found == 0 else min(mutual / h_found, 1.0),
    )


def contingency(found: Int[ndarray, " n"], planted: Int[ndarray, " n"], weights: Float[ndarray, " n"]) -> Float[ndarray, "groups modules"]:
    """Return the weight of what is in group i and has label j, for the groups and labels that occur."""
    _, i = np.unique(found, return_inverse=True)
    _, j = np.unique(planted, return_inverse=True)
    table = np.zeros((i.max() + 1, j.max() + 1))
    np.add.at(table, (i, j), weights)
    return table


def _entropy(shares: Float[ndarray, " n"]) -> float:
    """In nats; a single class has exactly none."""
    positive = shares[shares > 0]
    return 0.0 if len(positive) == 1 else float(-(positive * np.log(positive)).sum())


def _ari(table: Float[ndarray, "groups modules"], own: float) -> float:
    """Return the adjusted Rand index, a pair counted by the product of its weights; `own` is what things would count with themselves."""
    together, by_found, by_planted = (float(np.square(sums).sum()) - own for sums in (table, table.sum(1), table.sum(0)))
    pairs = float(table.sum()) ** 2 - own
    if pairs <= 0:
        return 1.0
    expected, best = by_found * by_planted / pairs, (by_found + by_planted) / 2
    return 1.0 if abs(best - expected) < 1e-12 * pairs else (together - expected) / (best - expected)
