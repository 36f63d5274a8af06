"""How else could the anchors be sorted, and do the regions say the same? Other partitions, and agreement with a permutation null beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist
from sklearn.cluster import KMeans

from unbraid.core.agreement import agreement, contingency

MEASURES = ("purity", "nmi", "ari")


@dataclass(frozen=True)
class Compared:
    """How well regions agree with another partition, in one measure.

    Attributes:
        value: The agreement.
        low: Lower end of its 95 % interval over anchors.
        high: Upper end.
        null: The mean agreement of permuted labels: what so many groups of these sizes have by chance.
        p: The share of permutations that agree at least as well, counting the real one.
    """

    value: float
    low: float
    high: float
    null: float
    p: float


def density_clusters(points: Float[ndarray, "n d"], count: int, seed: int) -> Int[ndarray, " n"]:
    """Return k-means clusters: regions of density, which know nothing of what is done with them."""
    distinct = len(np.unique(points, axis=0))
    means: Any = KMeans(min(count, distinct), random_state=seed)
    return means.set_params(n_init=4).fit_predict(points)


def pattern_clusters(patterns: Bool[ndarray, "n units"], count: int) -> Int[ndarray, " n"]:
    """Return clusters of on-off patterns by average linkage on the Jaccard distance."""
    if len(patterns) < 2:
        return np.zeros(len(patterns), dtype=int)
    return fcluster(linkage(pdist(patterns, "jaccard"), "average"), count, "maxclust") - 1


def agreement_of(regions: Int[ndarray, " n"], other: Int[ndarray, " n"]) -> Float[ndarray, " 3"]:
    """Return purity (the share of anchors whose region's commonest label is theirs), NMI and ARI."""
    found = agreement(regions.tolist(), other.tolist())
    table = contingency(regions, other, np.ones(len(regions)))
    return np.asarray([table.max(1).sum() / len(regions), found.nmi, found.ari])


def compare_partitions(regions: Int[ndarray, " n"], other: Int[ndarray, " n"], permutations: int, seed: int) -> dict[str, Compared] | None:
    """Compare regions with another partition, each measure with its interval over anchors and its permutation null.

    Returns:
        Per measure; None where either has a single group or only groups of one, so that there is nothing to agree about.
    """
    n = len(regions)
    if any(len(np.unique(labels)) in (1, n) for labels in (regions, other)):
        return None
    generator = np.random.default_rng(seed)
    value = agreement_of(regions, other)
    null = np.stack([agreement_of(regions, generator.permutation(other)) for _ in range(permutations)])
    # Half of the anchors at a time, without copies, which would agree with themselves; halves vary about the whole as the whole does about
    # what it was drawn from (Politis and Romano 1994). Purity and NMI are larger for few, so the interval is put around the value.
    halves = [generator.permutation(n)[: n // 2] for _ in range(permutations)]
    again = np.stack([agreement_of(regions[kept], other[kept]) for kept in halves])
    low, high = np.quantile(again - again.mean(0), [0.025, 0.975], axis=0) + value
    return {
        name: Compared(
            float(value[index]),
            float(low[index]),
            float(high[index]),
            float(null[:, index].mean()),
            float((1 + (null[:, index] >= value[index]).sum()) / (1 + permutations)),
        )
        for index, name in enumerate(MEASURES)
    }
