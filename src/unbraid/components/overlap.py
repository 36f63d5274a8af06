"""Were overlapping modules found? Groups compared with planted modules by when they fire, where several modules are at work at once.

A flat partition of inputs is wrong where one computation serves several tasks; firing sets may overlap, and so may the planted ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Overlap:
    """How well firing sets of groups and of planted modules match, each with its best counterpart.

    Attributes:
        found: Module → the Jaccard similarity of its best group: is each module there?
        explained: Group → the Jaccard similarity of its best module: is each group a module?
    """

    found: Float[Tensor, " modules"]
    explained: Float[Tensor, " groups"]

    @property
    def score(self) -> float:
        """Mean of the two averages, 1 only if each side's sets are all among the other side's (Yang & Leskovec 2013)."""
        if len(self.found) == 0 or len(self.explained) == 0:
            return 0.0
        return (float(self.found.mean()) + float(self.explained.mean())) / 2


def firing_sets(active: Bool[Tensor, "batch n"], labels: Int[Tensor, " n"], k: int) -> Bool[Tensor, "batch k"]:
    """Return where each group fires: wherever one of its members does.

    Args:
        active: Where each subcomponent or planted piece fires.
        labels: The group of each, from 0 to k - 1; another number is in no group.
        k: How many groups there are.
    """
    return torch.stack([active[:, labels == group].any(1) for group in range(k)], dim=1)


def jaccard(first: Bool[Tensor, "batch n"], second: Bool[Tensor, "batch m"]) -> Float[Tensor, "n m"]:
    """Return |A ∩ B| / |A ∪ B| of every pair of sets; two empty sets have nothing in common."""
    a, b = first.double(), second.double()
    both = a.T @ b
    either = a.sum(0)[:, None] + b.sum(0) - both
    return (both / either.clamp(min=1)).float()


def best_match(planted: Bool[Tensor, "batch modules"], groups: Bool[Tensor, "batch groups"]) -> Overlap:
    """Return how well groups and planted modules fire alike, each beside its best counterpart."""
    similarity = jaccard(planted, groups)
    if similarity.numel() == 0:
        return Overlap(similarity.new_zeros(planted.shape[1]), similarity.new_zeros(groups.shape[1]))
    return Overlap(similarity.max(dim=1).values, similarity.max(dim=0).values)
