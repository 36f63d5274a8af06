"""Which anchors share a region? Graphs over pairs whose paths were walked: which to walk, components, and the hierarchy.

Two anchors are neighbours where the path between them never gets further than τ from either end's answer (R < τ, which includes the gap). A region
is a connected component of neighbours. The hierarchy is single linkage on max(B, G).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.cluster.hierarchy import linkage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree
from scipy.spatial.distance import squareform

from unbraid.stability.regions.barriers import Walks

Walk = Callable[[Int[ndarray, "m 2"]], Walks]


def components(n: int, pairs: Int[ndarray, "m 2"], together: Bool[ndarray, " m"]) -> Int[ndarray, " n"]:
    """Return the connected component of each of n anchors; number 0 is the largest."""
    edges = pairs[together]
    graph = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(n, n))
    _, labels = connected_components(graph, directed=False)
    order = np.argsort(-np.bincount(labels), kind="stable")
    return np.argsort(order)[labels]


def first_pairs(gap: Float[ndarray, "n n"], neighbours: int, random: int, generator: np.random.Generator) -> Int[ndarray, "m 2"]:
    """Return the pairs to walk first: each anchor's nearest ones in their answers, a tree that joins them all, and random ones.

    The random ones come first and are exactly `random` many (or all there are), so that they stand for all pairs.
    """
    n = len(gap)
    upper = np.column_stack(np.triu_indices(n, 1))
    chance = upper[generator.choice(len(upper), min(random, len(upper)), replace=False)]
    own = gap + np.diag(np.full(n, np.inf))
    nearest = np.argsort(own, axis=1, kind="stable")[:, : min(neighbours, n - 1)]
    near = np.column_stack([np.repeat(np.arange(n), nearest.shape[1]), nearest.ravel()])
    # A sparse graph takes 0 for no edge; answers that are quite equal are still joined.
    tree = np.column_stack(minimum_spanning_tree(np.triu(np.maximum(gap, np.finfo(float).tiny), 1)).nonzero())
    return _distinct(np.concatenate([chance, near, tree]))


def _distinct(pairs: Int[ndarray, "m 2"]) -> Int[ndarray, "k 2"]:
    """Return the pairs, each once and the smaller number first, in the order in which they come."""
    ordered = np.sort(pairs, axis=1)
    _, first = np.unique(ordered, axis=0, return_index=True)
    return ordered[np.sort(first)]


def walk_until_settled(walk: Walk, walks: Walks, gap: Float[ndarray, "n n"], tau: float, most: int) -> tuple[Walks, int]:
    """Walk the paths that could still join two regions at τ, nearest answers first, until none is left or so many were walked.

    A path cannot join anchors whose gap is τ or more. So, once none is left, the regions are those that walking every pair would give.

    Returns:
        All paths, and how many that could still join two regions were not walked.
    """
    n, walked = len(gap), 0
    while True:
        labels = components(n, walks.pairs, walks.reach < tau)
        known = np.zeros((n, n), dtype=bool)
        known[walks.pairs[:, 0], walks.pairs[:, 1]] = True
        open_ = np.argwhere(np.triu((gap < tau) & (labels[:, None] != labels[None]) & ~(known | known.T), 1))
        if len(open_) == 0 or walked >= most:
            return walks, len(open_)
        # One path between any two regions at a time: most of the others need not be walked once these have joined.
        open_ = open_[np.argsort(gap[open_[:, 0], open_[:, 1]], kind="stable")]
        _, first = np.unique(np.sort(labels[open_], axis=1), axis=0, return_index=True)
        some = open_[np.sort(first)][: most - walked]
        walks = walks + walk(some)
        walked += len(some)


def triangles(
    walk: Walk, walks: Walks, tau: float, count: int, n: int, generator: np.random.Generator
) -> tuple[Walks, Int[ndarray, "k 3"]]:
    """Choose triples i, j, k with i ~ j and j ~ k at random, and walk from i to k where that was not done.

    Returns:
        All paths, and the triples, the middle one second.
    """
    edges = walks.pairs[walks.reach < tau]
    around: list[list[int]] = [[] for _ in range(n)]
    for i, j in edges:
        around[i].append(int(j))
        around[j].append(int(i))
    middles = [index for index in range(n) if len(around[index]) > 1]
    if not middles:
        return walks, np.zeros((0, 3), dtype=int)
    found: list[tuple[int, int, int]] = []
    for middle in generator.choice(middles, count):
        i, k = sorted(generator.choice(around[middle], 2, replace=False).tolist())
        found.append((i, int(middle), k))
    triples = np.unique(np.asarray(found), axis=0)
    known = {(int(i), int(j)) for i, j in walks.pairs}
    missing = [(i, k) for i, k in dict.fromkeys((int(i), int(k)) for i, _, k in triples) if (i, k) not in known]
    return (walks + walk(np.asarray(missing)) if missing else walks), triples


def violations(walks: Walks, triples: Int[ndarray, "k 3"], tau: float) -> Bool[ndarray, " k"]:
    """Return for each triple i ~ j ~ k whether i and k are not neighbours."""
    reach = {(int(i), int(j)): float(r) for (i, j), r in zip(walks.pairs, walks.reach, strict=True)}
    return np.asarray([reach[int(i), int(k)] >= tau for i, _, k in triples], dtype=bool)


def hierarchy(n: int, walks: Walks) -> Float[ndarray, "n_less_1 4"]:
    """Return single linkage on max(B, G), as scipy writes it.

    The walked pairs join all anchors, and merges go by the lowest of them. So pairs that were not walked are put above all the walked ones,
    where they decide nothing; walking them could only lower a merge.
    """
    heights = np.full((n, n), 1.001 * float(walks.height.max()) + np.finfo(float).tiny)
    np.fill_diagonal(heights, 0)
    for side in (walks.pairs, walks.pairs[:, ::-1]):
        heights[side[:, 0], side[:, 1]] = walks.height
    return linkage(squareform(heights, checks=False), "single")


def resampled(
    n: int, walks: Walks, tau: float, labels: Int[ndarray, " n"], resamples: int, generator: np.random.Generator
) -> list[tuple[Int[ndarray, " k"], Int[ndarray, " k"]]]:
    """Return, for anchors drawn again with replacement, the regions that those alone form and the ones that they had."""
    found: list[tuple[ndarray, ndarray]] = []
    for _ in range(resamples):
        kept = np.unique(generator.integers(0, n, n))
        inside = np.isin(walks.pairs, kept).all(1)
        again = components(n, walks.pairs, inside & (walks.reach < tau))
        found.append((again[kept], labels[kept]))
    return found
