"""How thick is a boundary? The width, at half of its height, of the peak of the answer's speed that a crossing lies on."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from unbraid.stability.engine.distances import Distance
from unbraid.stability.radius.rays import Rays, Response

ZOOMS = 2
"""How often a peak is looked at again on a finer grid of its own."""


def thicknesses(
    response: Response, distance: Distance, rays: Rays, radii: Float[Tensor, " rays"], furthest: float, points: int = 41
) -> Float[Tensor, " rays"]:
    """Return how wide the peak of speed at each crossing is, in units of the radius.

    The speed is how fast the answer moves, by whatever way, not how fast it gets further from the anchor's. It is measured on so many points
    of the whole ray, and then on as many around the peak.

    Args:
        response: What a model answers.
        distance: How far apart two answers are.
        rays: Along which.
        radii: Where each crosses; those that do not are left out.
        furthest: How far the rays are followed.
        points: How many points each look has.

    Returns:
        The widths; NaN where nothing crosses, or where the speed does not fall to half on both sides, as that of a linear answer.
    """
    found = torch.full((len(radii),), torch.nan, dtype=torch.float64)
    left = radii.isfinite().nonzero()[:, 0]
    near = radii[left].to(torch.float64)
    low, high = torch.zeros_like(near), torch.full_like(near, furthest)
    for _ in range(1 + ZOOMS):
        if not len(left):
            break
        peaks = torch.from_numpy(_look(response, distance, rays, left, near, low, high, points))
        seen = peaks[:, 1].isfinite()
        found[left] = peaks[:, 1]
        left, near, width = left[seen], peaks[seen, 0], peaks[seen, 1]
        low, high = (near - 1.5 * width).clamp(min=0), (near + 1.5 * width).clamp(max=furthest)
    return found


def _look(
    response: Response, distance: Distance, rays: Rays, which: Tensor, near: Tensor, low: Tensor, high: Tensor, points: int
) -> Float[ndarray, "n 2"]:
    """Return where the peak of each ray is and how wide, from points spread evenly between two radii of its own."""
    shares = torch.linspace(0.0, 1.0, points, dtype=torch.float64)
    at = low[:, None] + shares * (high - low)[:, None]
    # One ray at a time: the answers of all of them together, over a vocabulary, would be large.
    speeds = [_speed(response(rays.points(one.expand(points), row)), row, distance) for one, row in zip(which, at, strict=True)]
    middles = ((at[:, 1:] + at[:, :-1]) / 2).numpy()
    return np.array([peak_at(row, speed, float(r)) for row, speed, r in zip(middles, speeds, near, strict=True)]).reshape(-1, 2)


def _speed(answers: Tensor, at: Tensor, distance: Distance) -> Float[ndarray, " cells"]:
    return (distance(answers[1:], answers[:-1]).to(torch.float64) / at.diff()).numpy()


def peak_at(at: Float[ndarray, " cells"], speed: Float[ndarray, " cells"], near: float) -> tuple[float, float]:
    """Return the place and the width at half height of the peak that a radius lies on; a width of NaN where half is not reached on both sides."""
    top = int(np.abs(at - near).argmin())
    while True:  # uphill from the crossing
        around = range(max(0, top - 1), min(len(at), top + 2))
        best = max(around, key=lambda index: float(speed[index]))
        if best == top or not speed[best] > speed[top]:
            break
        top = best
    half = speed[top] / 2
    below_left = np.flatnonzero(speed[:top] <= half)
    below_right = np.flatnonzero(speed[top:] <= half)
    if not len(below_left) or not len(below_right) or not half > 0:
        return float(at[top]), float("nan")
    left, right = int(below_left[-1]), top + int(below_right[0])
    start = np.interp(half, speed[left : left + 2], at[left : left + 2])
    end = np.interp(half, speed[[right, right - 1]], at[[right, right - 1]])
    return float(at[top]), float(end - start)
