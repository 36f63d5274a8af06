"""Are single directions privileged over mixtures of them? The shape of the boundary in planes, and along equal mixtures of several directions.

The level set in a plane is fitted as a superellipse over all four sign quadrants with a cross term (`superellipse.py`). Beside it stand the
fits of each quadrant alone, which is how the exponent was first measured: where they scatter around 2 and the joint fit does not leave it,
what was seen is a cross term. A plane takes many points and sees two directions; of mixtures of N a few radii
do, for `Σ (|x_i| / r_i)^p = 1` says where they cross: at `N^(1/2 - 1/p)` times the single radius where all are equal and perpendicular.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from scipy.linalg import hadamard
from scipy.optimize import root_scalar
from torch import Tensor

from unbraid.core.errors import UserError
from unbraid.stability.radius.radii import crossings
from unbraid.stability.radius.rays import Rays
from unbraid.targets.toy_kit.superellipse import (
    EXPONENTS,
    crossing_radii,
    fit_superellipse,
    half_axis_threshold,
    in_axis_units,
    quadrant_angles,
)

Drift = Callable[[Float[Tensor, "n d"]], Float[Tensor, " n"]]
"""Points → distance from the anchor's answer."""

SIGNS = ((1, 1), (-1, 1), (-1, -1), (1, -1))
"""The quadrants, in the order of their angles; the second and the fourth are the first with the sign of one direction flipped."""


@dataclass(frozen=True)
class PlaneExponent:
    """The level set in one plane.

    Attributes:
        p: Exponent of the joint fit; NaN where there is no level set on some half axis.
        c: Its cross term.
        residual: What its equation misses by, root mean square.
        radius: Mean radius on the four half axes.
        cosine: Of the two directions.
        quadrants: The exponent of each quadrant fitted alone, without a cross term, as `SIGNS`.
    """

    p: float
    c: float
    residual: float
    radius: float
    cosine: float
    quadrants: tuple[float, float, float, float]

    def row(self) -> list[float]:
        """Return the numbers in their order, to be stored."""
        return [self.p, self.c, self.residual, self.radius, self.cosine, *self.quadrants]


UNDEFINED = PlaneExponent(math.nan, math.nan, math.nan, math.nan, math.nan, (math.nan, math.nan, math.nan, math.nan))


def sign_flip_mean(one: Float[ndarray, "*planes"], other: Float[ndarray, "*planes"]) -> Float[ndarray, "*planes"]:
    """Return the harmonic mean of the exponents before and after the sign of one direction is flipped: a cheap cure for a cross term."""
    return 2 / (1 / one + 1 / other)


def plane_exponent(
    drift: Drift,
    anchor: Float[Tensor, " d"],
    pair: Float[Tensor, "2 d"],
    turns: bool,
    furthest: float,
    share: float = 0.5,
    level: float | None = None,
) -> PlaneExponent:
    """Measure the level set in the plane of two directions, at a share of what the weakest half axis reaches, or at a level of its own.

    Args:
        drift: How far the answer moves.
        anchor: Where the plane begins.
        pair: The two directions, of any length. They are not made perpendicular, which would change what they stand for.
        turns: Whether points of the plane are turns (the geodesic chart), and radii degrees.
        furthest: How far the plane is explored.
        share: Which level, of what the weakest half axis reaches. Where answers do not saturate this depends on how far that is looked at.
        level: The distance itself, instead.

    Raises:
        UserError: The directions are one and the same, or along the anchor.
    """
    axes = Rays.towards(anchor, pair, turns).directions
    cosine = float(axes[0] @ axes[1])
    if abs(cosine) > 0.999:
        raise UserError("Two directions are one and the same, and have no plane.", "Give other directions.")

    def response(points: Tensor) -> Tensor:
        with torch.no_grad():
            return drift(_in_plane(anchor, axes, points.to(anchor.dtype), turns)).to(points.dtype)

    angles = quadrant_angles()
    try:
        level = half_axis_threshold(response, furthest, share) if level is None else level
        radii = crossing_radii(response, level, angles, furthest)
        points = in_axis_units(radii, angles)
        fit = fit_superellipse(points)
        alone = [fit_superellipse(_quadrant(points, *signs), cross_term=False).p for signs in SIGNS]
    except UserError:  # no answer along a half axis: there is no level set to speak of
        return UNDEFINED
    return PlaneExponent(
        fit.p, fit.c, fit.residual, float(radii[:: len(angles) // 4].mean()), cosine, (alone[0], alone[1], alone[2], alone[3])
    )


def _in_plane(anchor: Tensor, axes: Tensor, points: Float[Tensor, "n 2"], turns: bool) -> Float[Tensor, "n d"]:
    """Return what lies at (x, y): a step, or a turn towards `x d₁ + y d₂` by an angle of that vector's length."""
    steps = points @ axes
    if not turns:
        return anchor + steps
    lengths = steps.norm(dim=1, keepdim=True)
    angles = lengths * (math.pi / 180)
    return angles.cos() * anchor + angles.sin() * anchor.norm() * steps / lengths.clamp(min=1e-12)


def _quadrant(points: Float[Tensor, "n 2"], x: int, y: int) -> Float[Tensor, "m 2"]:
    return points[(x * points[:, 0] > -1e-9) & (y * points[:, 1] > -1e-9)]


def mixture_exponent(
    drift: Drift, anchor: Float[Tensor, " d"], parts: Float[Tensor, "n d"], turns: bool, furthest: float, share: float = 0.5
) -> float:
    """Return the exponent for which equal mixtures of N directions cross where they do; NaN where something does not cross.

    N mixtures are taken, with the signs of the rows of a Hadamard matrix, and both signs of every single direction. Over such rows each
    pair of directions has equal signs as often as opposite ones, so that in the mean of `1 / r²` all cross terms cancel, and any quadratic
    form gives exactly 2; one mixture alone has the confound of one quadrant. The level is a share of what the weakest single direction reaches.

    Args:
        drift: How far the answer moves.
        anchor: Where the rays begin.
        parts: The directions; their number is a power of two.
        turns: Whether radii are degrees.
        furthest: How far rays are followed.
        share: Which level.
    """
    n = len(parts)
    units = Rays.towards(anchor, parts, turns).directions
    signs = torch.from_numpy(hadamard(n)).to(units.dtype)
    sums = signs @ units
    lengths = sums.norm(dim=1)
    rays = Rays(anchor, torch.cat([units, -units, sums / lengths[:, None]]), turns)
    edges = torch.linspace(0.0, furthest, 41, dtype=torch.float64)[1:]
    with torch.no_grad():
        level = share * float(drift(rays.grid(edges)).view(len(rays.directions), -1)[: 2 * n].max(dim=1).values.min())
        radii = _first(drift, rays, level, furthest) if level > 0 else np.full(3 * n, np.inf)
    if not np.isfinite(radii).all():
        return math.nan
    singles = np.mean(radii[: 2 * n].reshape(2, n) ** -2.0, axis=0) ** -0.5
    each = np.mean((radii[2 * n :] / lengths.to(torch.float64).numpy()) ** -2.0) ** -0.5
    return mixture_power(singles, float(each))


def _first(drift: Drift, rays: Rays, level: float, furthest: float) -> Float[ndarray, " rays"]:
    return crossings(lambda points: drift(points)[:, None] / level, rays, furthest, 40, furthest / 1e4).radii[:, 0].numpy()


def mixture_power(singles: Float[ndarray, " n"], each: float) -> float:
    """Solve `Σ (each / r_i)^p = 1`: the exponent at which a point with every coordinate `each` lies on the level set with these half axes."""

    def misses(p: float) -> float:
        return float(((each / singles) ** p).sum() - 1)

    low, high = EXPONENTS
    if misses(low) <= 0:
        return low
    if misses(high) >= 0:
        return high
    return float(root_scalar(misses, bracket=(low, high)).root)
