"""Does a response single out two directions? The shape of its level set in their plane, fitted over all four sign quadrants.

A response that is a quadratic form has an ellipse as level set in every plane, and privileges no direction. Where single directions
break out sooner than mixtures of two, the level set is squarer: `|x|^p + |y|^p = 1` with p above 2. But an ellipse whose axes lie
askew looks squarer in one sign quadrant and more pointed in the next, so a fit in one quadrant alone takes a cross term for a
privilege: p between 1.4 and 4 for a purely quadratic response. Hence all four quadrants and a cross term, `+ 2 c x y`.

Source of the exponent: Ferreira da Silva and Heimersheim 2026 (arXiv 2606.24964); the four quadrants and the cross term are ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.optimize import least_squares
from torch import Tensor

from unbraid.core.errors import UserError

Response = Callable[[Float[Tensor, "points 2"]], Float[Tensor, " points"]]
"""How strongly something answers at points (x, y) of a plane; 0 at the origin."""

NEAR_AXIS = 0.05
"""Points closer than this to an axis, in units of the axes' own radii, say nothing: every curve here passes through the axes' ends."""
EXPONENTS = (0.5, 10.0)
"""Where p is looked for, as in the source."""


@dataclass(frozen=True)
class Superellipse:
    """A level set `|x|^p + |y|^p + 2 c x y = 1` in units of the radii on the axes.

    Attributes:
        p: The exponent: 2 where the response is a quadratic form, above 2 where single directions break out sooner than mixtures.
        c: The cross term: how far the two directions act on the same thing.
        residual: Root mean square of what the equation misses by.
        n: How many points it was fitted to.
    """

    p: float
    c: float
    residual: float
    n: int


def quadrant_angles(per_quadrant: int = 13) -> Float[Tensor, " angles"]:
    """Return angles all the way round with `per_quadrant` in each closed quadrant; neighbours share the axis between them.

    Raises:
        UserError: Fewer than 3, which would leave only the axes.
    """
    if per_quadrant < 3:
        raise UserError(f"{per_quadrant} angles per quadrant leave only the axes.", "Give 3 or more; 13 is usual.")
    count = 4 * (per_quadrant - 1)
    return torch.arange(count, dtype=torch.float64) * (2 * math.pi / count)


def crossing_radii(
    response: Response, threshold: float, angles: Float[Tensor, " angles"], furthest: float, grid: int = 40, bisections: int = 20
) -> Float[Tensor, " angles"]:
    """Return at which radius the response first crosses a threshold at each angle: a grid finds the crossing, bisection refines it.

    Args:
        response: What is asked.
        threshold: The level.
        angles: Radians.
        furthest: Largest radius looked at.
        grid: Radii tried at each angle.
        bisections: Halvings of the grid cell; the error is `furthest / grid / 2^bisections`.

    Returns:
        The radii; NaN where nothing crosses up to `furthest`.
    """
    directions = torch.stack([angles.cos(), angles.sin()], dim=1)
    radii = torch.linspace(0.0, furthest, grid + 1, dtype=angles.dtype)
    points = radii[None, 1:, None] * directions[:, None]
    above = (response(points.reshape(-1, 2)) >= threshold).view(len(angles), grid)
    first = above.to(torch.int64).argmax(dim=1)
    low, high = radii[first], radii[first + 1]
    for _ in range(bisections):
        middle = (low + high) / 2
        crossed = response(middle[:, None] * directions) >= threshold
        low, high = torch.where(crossed, low, middle), torch.where(crossed, middle, high)
    return torch.where(above.any(dim=1), (low + high) / 2, torch.nan)


def in_axis_units(radii: Float[Tensor, " angles"], angles: Float[Tensor, " angles"]) -> Float[Tensor, "angles 2"]:
    """Return the points of a level set with each coordinate divided by the radius on the half axis of its own sign.

    Raises:
        UserError: The angles miss a half axis, or nothing crosses there.
    """
    points = radii[:, None] * torch.stack([angles.cos(), angles.sin()], dim=1)
    on_axis = {turn: radii[(angles - turn * math.pi / 2).abs() < 1e-6] for turn in range(4)}
    if any(len(found) == 0 or not bool(found.isfinite().all()) for found in on_axis.values()):
        raise UserError("The level set has no point on one of the half axes.", "Look further out, or lower the threshold.")
    right, up, left, down = (on_axis[turn][0] for turn in range(4))
    units = torch.stack([torch.where(points[:, 0] >= 0, right, left), torch.where(points[:, 1] >= 0, up, down)], dim=1)
    return points / units


def fit_superellipse(points: Float[Tensor, "points 2"], cross_term: bool = True) -> Superellipse:
    """Fit `|x|^p + |y|^p + 2 c x y = 1` by least squares to points in units of the axes' radii.

    Args:
        points: From all four quadrants, unless a fit in one is wanted for comparison; rows with NaN and rows near an axis are left out.
        cross_term: Whether c is fitted; else it is 0.

    Raises:
        UserError: Fewer than 3 points are left.
    """
    used = points[_says_something(points)].abs().clamp(min=1e-12).to(torch.float64).numpy()
    signed = points[_says_something(points)].to(torch.float64).prod(dim=1).numpy()
    if len(used) < 3:
        raise UserError(f"{len(used)} points of the level set are left off the axes.", "Look further out, or at more angles.")

    def misses(parameters: np.ndarray) -> np.ndarray:
        return (used ** parameters[0]).sum(axis=1) + 2 * (parameters[1] if cross_term else 0.0) * signed - 1

    fit = least_squares(misses, x0=np.array([2.0, 0.0]), bounds=([EXPONENTS[0], -1.0], [EXPONENTS[1], 1.0]))
    c = float(fit.x[1]) if cross_term else 0.0
    return Superellipse(float(fit.x[0]), c, float(np.sqrt(np.mean(fit.fun**2))), len(used))


def _says_something(points: Float[Tensor, "points 2"]) -> Bool[Tensor, " points"]:
    return points.isfinite().all(dim=1) & (points.abs() >= NEAR_AXIS).all(dim=1)


def level_set(response: Response, furthest: float, per_quadrant: int = 13, share: float = 0.5) -> Float[Tensor, "angles 2"]:
    """Return the level set at a share of what the weakest half axis reaches within `furthest`, in units of the axes' radii.

    Raises:
        UserError: See `half_axis_threshold` and `in_axis_units`.
    """
    angles = quadrant_angles(per_quadrant)
    threshold = half_axis_threshold(response, furthest, share)
    return in_axis_units(crossing_radii(response, threshold, angles, furthest), angles)


def half_axis_threshold(response: Response, furthest: float, share: float = 0.5, grid: int = 40) -> float:
    """Return a share of the largest response that every one of the four half axes reaches within `furthest`.

    Raises:
        UserError: There is no response along one of them.
    """
    radii = torch.linspace(0.0, furthest, grid + 1, dtype=torch.float64)[1:]
    turns = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]], dtype=torch.float64)
    values = response((turns[:, None] * radii[None, :, None]).reshape(-1, 2)).view(4, grid)
    reached = float(values.max(dim=1).values.min())
    if not reached > 0:
        raise UserError("There is no response along one of the half axes.", "Look further out, or at another plane.")
    return share * reached
