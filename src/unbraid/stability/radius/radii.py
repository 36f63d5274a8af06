"""How far can an activation move before the answer has changed? Where each ray first crosses a threshold, and what the crossing is like.

A response is measured as its *progress*, the distance from the answer at the anchor in units of the threshold, so that the boundary is at 1.

**The plateau test and which distance it is for.** Half way to the boundary a distance that grows linearly has made half of its progress, one
that grows with the square a quarter. All distances here are metrics (L2, √JSD), which any smooth answer leaves linearly: half is what a model
without a plateau shows, a quarter what it shows where even the slope vanishes, and below a quarter the answer stays and then jumps. Squares of a
distance (JSD in bits, KL) have made a quarter and a sixteenth: a test for "below a quarter" on those would call every linear model a plateau.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unbraid.stability.radius.rays import Rays

Progress = Callable[[Float[Tensor, "n d"]], Float[Tensor, "n thresholds"]]
"""Points → distance from the anchor's answer in units of each threshold."""

CENSORED = math.inf
"""The radius of a ray that does not cross as far as it was followed: larger than that, and not known."""
HALFWAY_OF_A_PLATEAU = 0.25
"""Progress half way to the boundary below which there is a plateau, for a metric: that of a quadratic response."""


@dataclass(frozen=True)
class Crossings:
    """Where rays first cross each threshold.

    Attributes:
        radii: [rays, thresholds]; infinite where a ray crosses nowhere.
        halfway: Progress at half of that radius; NaN where a ray crosses nowhere.
    """

    radii: Float[Tensor, "rays thresholds"]
    halfway: Float[Tensor, "rays thresholds"]


def crossings(progress: Progress, rays: Rays, furthest: float, grid: int, tolerance: float) -> Crossings:
    """Return where rays first cross: a grid finds the cell, bisection halves it until it is as narrow as the tolerance.

    A response that crosses and comes back within one cell of the grid is not seen.

    Args:
        progress: What is asked.
        rays: Along which.
        furthest: How far they are followed.
        grid: How many points each is looked at first.
        tolerance: How wide a cell may be at the end; the radius is its middle.
    """
    edges = torch.linspace(0.0, furthest, grid + 1, dtype=torch.float64)
    values = progress(rays.grid(edges[1:]))
    above = (values >= 1).view(len(rays.directions), grid, -1)
    crossed = above.any(dim=1)
    first = above.to(torch.int64).argmax(dim=1)
    radii = torch.full(crossed.shape, CENSORED, dtype=torch.float64)
    halfway = torch.full(crossed.shape, torch.nan, dtype=torch.float64)
    which, threshold = crossed.nonzero(as_tuple=True)
    if len(which):
        low, high = edges[first[which, threshold]], edges[first[which, threshold] + 1]
        for _ in range(max(0, math.ceil(math.log2(furthest / grid / tolerance)))):
            middle = (low + high) / 2
            beyond = _at(progress(rays.points(which, middle)), threshold) >= 1
            low, high = torch.where(beyond, low, middle), torch.where(beyond, middle, high)
        found = (low + high) / 2
        radii[which, threshold] = found
        halfway[which, threshold] = _at(progress(rays.points(which, found / 2)), threshold).to(torch.float64)
    return Crossings(radii, halfway)


def _at(values: Float[Tensor, "n thresholds"], threshold: Tensor) -> Float[Tensor, " n"]:
    return values.gather(1, threshold[:, None])[:, 0]


def is_plateau(halfway: Float[Tensor, "*rays"], squared: bool = False) -> Bool[Tensor, "*rays"]:
    """Return where the answer stays and then jumps: progress half way below a quarter, or a sixteenth where the distance is a square."""
    return halfway < (HALFWAY_OF_A_PLATEAU**2 if squared else HALFWAY_OF_A_PLATEAU)


def normals(progress: Progress, points: Float[Tensor, "n d"], threshold: int = 0) -> Float[Tensor, "n d"]:
    """Return the unit normal of the boundary at points on it: the gradient of the distance; NaN where there is none."""
    points = points.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(progress(points)[:, threshold].sum(), points)
    return gradient / gradient.norm(dim=1, keepdim=True)
