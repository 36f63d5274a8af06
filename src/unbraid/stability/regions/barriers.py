"""Is there a wall between two activations? What a model answers along the straight path from the one to the other, for many pairs at once.

For a path x(t) from x_i to x_j with answers F and a distance D:

    gap      G = D(F(0), F(1))                               how far apart the answers are
    barrier  B = max over t of min(D(F(t), F(0)), D(F(t), F(1)))   how far the path leaves both answers
    reach    R = max over t and both ends of D(F(t), F(end))     how far it ever is from either
    flat     share of the path that is nearer to an end's answer than a tenth of the gap

Where answers are a linear function of the activation, B = G / 2, R = G and a fifth of the path is flat, whatever the pair: then walking the path
says nothing that its ends do not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from unbraid.stability.engine.distances import Distance
from unbraid.stability.engine.paths import linear

Response = Callable[[Float[Tensor, "n d"]], Float[Tensor, "n k"]]

NEAR = 0.1
"""An answer nearer to an end's than this share of the gap is still that end's."""
STRAIGHT = 2 * NEAR
"""The flat share of a path whose answer moves evenly from end to end."""


@dataclass(frozen=True)
class Walks:
    """Paths between anchors.

    Attributes:
        pairs: Which anchors each path joins, [m, 2].
        gap: G of each path, [m].
        barrier: B.
        reach: R.
        flat: The flat share; NaN where the ends give the same answer.
    """

    pairs: Int[ndarray, "m 2"]
    gap: Float[ndarray, " m"]
    barrier: Float[ndarray, " m"]
    reach: Float[ndarray, " m"]
    flat: Float[ndarray, " m"]

    def __add__(self, other: Walks) -> Walks:
        """Return the paths of both."""
        return Walks(
            *(np.concatenate([getattr(self, name), getattr(other, name)]) for name in ("pairs", "gap", "barrier", "reach", "flat"))
        )

    @property
    def height(self) -> Float[ndarray, " m"]:
        """What two anchors merge at in the hierarchy: max(B, G)."""
        return np.maximum(self.barrier, self.gap)


def walk(
    response: Response, distance: Distance, anchors: Float[Tensor, "n d"], pairs: Int[ndarray, "m 2"], grid: int = 51, at_once: int = 512
) -> Walks:
    """Read a model along the straight path of every pair.

    Args:
        response: Points → answers.
        distance: How far apart two answers are.
        anchors: The activations.
        pairs: Which of them to join.
        grid: Points on each path, with its ends.
        at_once: About how many points are read together; a path's ends are read in the same batch as the path.
    """
    t = torch.linspace(0, 1, grid)
    found = np.full((4, len(pairs)), np.nan)
    chunk = max(1, at_once // grid)
    for start in range(0, len(pairs), chunk):
        some = pairs[start : start + chunk]
        points = torch.cat([linear(anchors[int(i)], anchors[int(j)], t) for i, j in some])
        answers = response(points).unflatten(0, (len(some), grid))
        from_start = distance(answers, answers[:, :1].expand_as(answers)).double()
        from_end = distance(answers, answers[:, -1:].expand_as(answers)).double()
        gap = from_start[:, -1]
        near = torch.minimum(from_start, from_end)
        flat = _share(near, NEAR * gap[:, None])
        flat[gap <= 0] = torch.nan
        found[:, start : start + len(some)] = torch.stack([gap, near.amax(1), torch.maximum(from_start, from_end).amax(1), flat]).numpy()
    return Walks(np.asarray(pairs), *found)


def _share(values: Float[Tensor, "m n"], level: Float[Tensor, "m 1"]) -> Float[Tensor, " m"]:
    """Return the share of each path on which a piecewise linear curve lies at or under a level."""
    low, high = torch.minimum(values[:, 1:], values[:, :-1]), torch.maximum(values[:, 1:], values[:, :-1])
    rise = high - low
    inside = torch.where(rise > 0, (level - low) / rise.clamp(min=torch.finfo(rise.dtype).tiny), (low <= level).to(rise.dtype))
    return inside.clamp(0, 1).mean(1)


def gaps(answers: Float[Tensor, "n k"], distance: Distance) -> Float[ndarray, "n n"]:
    """Return how far apart the answers of all pairs of anchors are."""
    n = len(answers)
    found = np.zeros((n, n))
    for index in range(n - 1):
        found[index, index + 1 :] = distance(answers[index + 1 :], answers[index].expand(n - index - 1, -1)).double().numpy()
    return found + found.T
