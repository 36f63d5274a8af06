"""What are the stable regions among these activations? One map: paths, components, hierarchy, and how far the answer may be trusted.

Nothing here knows models: an answer is a function of points, so that read-outs whose regions are known can be put in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

from unbraid.core.agreement import agreement
from unbraid.core.errors import UserError
from unbraid.core.statistics import Estimate
from unbraid.stability.engine.distances import Distance
from unbraid.stability.regions.barriers import STRAIGHT, Response, Walks, gaps, walk
from unbraid.stability.regions.config import RegionsConfig
from unbraid.stability.regions.graph import components, first_pairs, hierarchy, resampled, triangles, violations, walk_until_settled

PLATEAU = 0.6
"""The flat share of a path with a plateau at each end by the lenient criterion: the change takes at most 0.4 of it."""
RESAMPLES = 500


@dataclass(frozen=True)
class RegionMap:
    """Paths between anchors, and the regions that they show.

    Attributes:
        walks: The paths; the first `chance` of them are random pairs.
        chance: How many those are.
        gap: How far apart the answers of every two anchors are, [n, n].
        tau: How far an answer may go and still be in the region.
        unsettled: How many paths that could still join two regions at τ were not walked.
        triples: Anchors i ~ j ~ k, [k, 3], the middle one second.
        fidelity: How far answers at the anchors are from the model's own, as a share; NaN where anchors are none of the model's own.
    """

    walks: Walks
    chance: int
    gap: Float[ndarray, "n n"]
    tau: float
    unsettled: int
    triples: Int[ndarray, "k 3"]
    fidelity: float = float("nan")

    @property
    def n(self) -> int:
        """How many anchors there are."""
        return len(self.gap)

    def labels(self, tau: float | None = None) -> Int[ndarray, " n"]:
        """Return each anchor's region, the largest one 0; another τ than the map's own may count too many, since its last paths were not walked."""
        return components(self.n, self.walks.pairs, self.walks.reach < (self.tau if tau is None else tau))

    def sizes(self) -> Int[ndarray, " regions"]:
        """Return how many anchors each region has."""
        return np.bincount(self.labels())

    def gap_labels(self) -> Int[ndarray, " n"]:
        """Return what the regions would be if only the answers at the anchors counted, and no path."""
        pairs = np.column_stack(np.triu_indices(self.n, 1))
        return components(self.n, pairs, self.gap[pairs[:, 0], pairs[:, 1]] < self.tau)

    def counts(self, taus: Float[ndarray, " m"]) -> list[int]:
        """Return the number of regions at each τ."""
        return [int(self.labels(float(tau)).max()) + 1 for tau in taus]

    def linkage(self) -> Float[ndarray, "m 4"]:
        """Return the hierarchy: single linkage on max(B, G), as scipy writes it."""
        return hierarchy(self.n, self.walks)

    def across(self) -> Bool[ndarray, " m"]:
        """Return which paths are random pairs of different answers (G ≥ τ): the population that statements about paths are about."""
        return (np.arange(len(self.walks.gap)) < self.chance) & (self.walks.gap >= self.tau) & (self.walks.gap > 0)

    def flat(self) -> Estimate | None:
        """Return the mean flat share of such paths; None where there are none. A straight line has 0.2."""
        return over_anchors(self.walks.flat, self.walks.pairs, self.across(), self.n)

    def plateaus(self) -> Estimate | None:
        """Return the share of such paths with a plateau at each end; None where there are none."""
        return over_anchors((self.walks.flat >= PLATEAU).astype(float), self.walks.pairs, self.across(), self.n)

    def excess(self) -> Estimate | None:
        """Return the mean of R / G - 1 over such paths: how much further than their ends they go. 0 along straight lines."""
        ratio = self.walks.reach / np.where(self.walks.gap > 0, self.walks.gap, np.nan) - 1
        return over_anchors(ratio, self.walks.pairs, self.across(), self.n)

    def violations(self) -> Estimate | None:
        """Return the share of triples i ~ j ~ k in which i and k are no neighbours; None where no anchor has two neighbours."""
        bad = violations(self.walks, self.triples, self.tau)
        return over_groups(bad.astype(float), self.triples[:, 1]) if len(bad) else None

    def stability(self, seed: int = 0) -> Estimate:
        """Return the ARI between these regions and those that anchors drawn again with replacement form alone, with its 95 % range."""
        draws = resampled(self.n, self.walks, self.tau, self.labels(), 200, np.random.default_rng(seed))
        scores = [agreement(again.tolist(), before.tolist()).ari for again, before in draws]
        low, high = np.quantile(scores, [0.025, 0.975])
        return Estimate(float(np.mean(scores)), float(low), float(high), self.n)


def map_regions(
    response: Response, distance: Distance, anchors: Float[Tensor, "n d"], config: RegionsConfig, fidelity: float = float("nan")
) -> RegionMap:
    """Find the stable regions of anchors.

    Args:
        response: Points → answers.
        distance: How far apart two answers are.
        anchors: The activations.
        config: The settings; see `RegionsConfig`.
        fidelity: Kept in the map.

    Raises:
        UserError: Half of all pairs of anchors have the same answer, so that τ would be 0.
    """
    generator = np.random.default_rng(config.seed)
    gap = gaps(response(anchors), distance)
    tau = config.tau * float(np.median(gap[np.triu_indices(len(gap), 1)]))
    if not tau > 0:
        raise UserError("Half of all pairs of anchors have the same answer, so that there is no scale.", "Choose anchors that differ more.")

    def along(pairs: ndarray) -> Walks:
        return walk(response, distance, anchors, pairs, config.grid, config.at_once)

    chance = min(config.random, len(gap) * (len(gap) - 1) // 2)
    walks = along(first_pairs(gap, config.neighbours, chance, generator))
    walks, unsettled = walk_until_settled(along, walks, gap, tau, config.most)
    walks, triples = triangles(along, walks, tau, config.triples, len(gap), generator)
    return RegionMap(walks, chance, gap, tau, unsettled, triples, fidelity)


def verdict(found: RegionMap, untrained: RegionMap | None) -> str:
    """Say in words whether there are plateaus: flat ends beyond those of a straight line, and of the untrained model."""
    flat, excess = found.flat(), found.excess()
    if flat is None or excess is None:
        return "undefined: no random pair has answers further apart than τ"
    told = f"paths are near their ends' answers for {flat.value:.2f} [{flat.low:.2f}, {flat.high:.2f}] of their length"
    if flat.low <= STRAIGHT + 0.005:  # half of the last digit that is told
        also = "; barriers equal gaps" if abs(excess.value) < 0.01 else ""
        return f"no plateau{also}: {told}, and a straight line's for {STRAIGHT:.2f}"
    before = None if untrained is None else untrained.flat()
    if before is not None and flat.low <= before.high:
        return f"no plateau beyond the untrained model's: {told}, there for {before.value:.2f} [{before.low:.2f}, {before.high:.2f}]"
    reference = f"{STRAIGHT:.2f} for a straight line" + (f", {before.value:.2f} untrained" if before is not None else "")
    if flat.value >= PLATEAU:
        return f"plateaus: {told}; {reference}"
    beside = "a straight line's" if before is None else "the controls'"
    return f"no plateaus ({PLATEAU:.2f}), though flatter than {beside}: {told}; {reference}"


def over_anchors(
    values: Float[ndarray, " m"], pairs: Int[ndarray, "m 2"], chosen: Bool[ndarray, " m"], n: int, seed: int = 0
) -> Estimate | None:
    """Return the mean over chosen pairs, with its interval by drawing anchors, not pairs, again: pairs that share one are not independent.

    Source: Snijders and Borgatti 1999, the vertex bootstrap. The estimate's `n` counts pairs whose value is defined.
    """
    chosen = chosen & np.isfinite(values)
    if not chosen.any():
        return None
    values, pairs = values[chosen], pairs[chosen]
    generator = np.random.default_rng(seed)
    means: list[float] = []
    for _ in range(RESAMPLES):
        times = np.bincount(generator.integers(0, n, n), minlength=n)
        weights = times[pairs[:, 0]] * times[pairs[:, 1]]
        if weights.sum():
            means.append(float(weights @ values / weights.sum()))
    mean = float(values.mean())
    low, high = np.quantile(means, [0.025, 0.975]) if means else (mean, mean)
    return Estimate(mean, float(low), float(high), len(values))


def over_groups(values: Float[ndarray, " m"], groups: Int[ndarray, " m"], seed: int = 0) -> Estimate:
    """Return the mean with its interval by drawing whole groups again; the estimate's `n` counts the values."""
    _, index = np.unique(groups, return_inverse=True)
    sums, sizes = np.bincount(index, values), np.bincount(index)
    picks = np.random.default_rng(seed).integers(0, len(sizes), (RESAMPLES, len(sizes)))
    low, high = np.quantile(sums[picks].sum(1) / sizes[picks].sum(1), [0.025, 0.975])
    return Estimate(float(values.mean()), float(low), float(high), len(values))
