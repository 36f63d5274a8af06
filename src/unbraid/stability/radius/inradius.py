"""How near is the nearest boundary in any direction, and is it where the slope at the anchor would put it?

Random directions in many dimensions all but surely miss the one that crosses first, so the smallest radius is looked for: from the directions
that crossed soonest, and from the one along which the answer leaves fastest, each is turned downhill until its radius no longer shrinks. What
is found is an upper bound. Beside it stands the Fisher radius, where the nearest boundary would be if the answer went on as it begins.
The first over the second is above 1 where the answer slows down on its way, and below 1 where it speeds up: an answer that stays and then
jumps begins with next to no slope, so that a plateau around the anchor makes the ratio small, not large.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from unbraid.core.errors import UserError
from unbraid.stability.engine.paths import unit_tangent
from unbraid.stability.radius.radii import Progress, crossings, normals
from unbraid.stability.radius.rays import Rays, Response

LOCAL_GRID = 16
"""Points looked at when a ray is turned a little: it is known to cross about where the last one did."""
SHRINKS = 1e-3
"""A turn that makes the radius shrink by a smaller share counts as none."""


def inradius(
    progress: Progress, starts: Rays, radii: Float[Tensor, " rays"], tolerance: float, steps: int
) -> tuple[float, Float[Tensor, " d"] | None]:
    """Return the smallest radius at which a threshold is crossed, and the direction in which.

    Each direction is turned towards the normal of the boundary where it crosses, which is the gradient of its radius on the sphere of
    directions; for a flat wall the first full turn arrives. A turn that does not shorten the radius is halved and tried again.

    Args:
        progress: What is asked, with one threshold.
        starts: Directions to begin from.
        radii: Where they cross; those that do not are left out.
        tolerance: How exactly a crossing is located.
        steps: How many turns are tried.

    Returns:
        The radius, infinite where no start crosses, and its unit direction.
    """
    keep = radii.isfinite()
    rays, best = Rays(starts.anchor, starts.directions[keep], starts.turns), radii[keep].to(torch.float64)
    if not len(best):
        return math.inf, None
    share = torch.ones_like(best)
    for _ in range(steps):
        points = rays.points(torch.arange(len(best)), best)
        downhill = _directions(rays, normals(progress, points))
        mixed = (1 - share)[:, None].to(downhill.dtype) * rays.directions + share[:, None].to(downhill.dtype) * downhill
        turned = Rays.towards(rays.anchor, torch.where(mixed.norm(dim=1, keepdim=True) > 1e-6, mixed, rays.directions), rays.turns)
        found = crossings(progress, turned, float(best.max()), LOCAL_GRID, tolerance).radii[:, 0]
        better = found < best * (1 - SHRINKS)
        rays = Rays(rays.anchor, torch.where(better[:, None], turned.directions, rays.directions), rays.turns)
        best = torch.where(better, found, best)
        share = torch.where(better, (share * 2).clamp(max=1), share / 2)
        if bool((share < 1e-2).all()):
            break
    nearest = int(best.argmin())
    return float(best[nearest]), rays.directions[nearest]


def _directions(rays: Rays, gradients: Float[Tensor, "rays d"]) -> Float[Tensor, "rays d"]:
    """Return what of the gradients a ray can turn to; the ray's own direction where that is nothing."""
    found: list[Tensor] = []
    for own, gradient in zip(rays.directions, gradients, strict=True):
        if not bool(gradient.isfinite().all()):
            found.append(own)
            continue
        try:
            found.append(unit_tangent(rays.anchor, gradient) if rays.turns else gradient)
        except UserError:  # straight along the anchor, where no turn leads
            found.append(own)
    return torch.stack(found)


def fisher_radius(coordinates: Response, anchor: Float[Tensor, " d"], reach: float, turns: bool) -> tuple[float, Float[Tensor, " d"]]:
    """Return where the nearest boundary would be if the answer went on as it begins, and in which direction.

    `reach / √λ_max` with λ_max the largest eigenvalue of JᵀJ, J the Jacobian of the answer's coordinates at the anchor. With the coordinates
    2√p of a distribution JᵀJ is the Fisher information and, for a reach of `√(2 τ_KL)`, this is `√(2 τ_KL / λ_max)`.

    Args:
        coordinates: Points → the answer in coordinates whose Euclidean distance is the distance that the threshold is meant in.
        anchor: The activation.
        reach: The threshold, in those coordinates.
        turns: Whether the radius is an angle in degrees, and moves along the anchor do not count.

    Returns:
        The radius, infinite where the answer does not move at first, and the unit direction.
    """
    along = anchor / anchor.norm() if turns else None
    point = anchor.detach()[None].requires_grad_()
    with torch.enable_grad():
        answer = coordinates(point)
        weights = torch.zeros_like(answer, requires_grad=True)
        (pulled,) = torch.autograd.grad(answer, point, weights, create_graph=True)

    def product(vector: Tensor) -> Tensor:
        (moved,) = torch.autograd.grad(pulled, weights, vector[None], retain_graph=True)  # J v, as the gradient of wᵀJ v in w
        (back,) = torch.autograd.grad(answer, point, moved, retain_graph=True)
        return _without(back[0], along)

    start = torch.randn(len(anchor), generator=torch.Generator().manual_seed(0)).to(anchor.dtype)
    largest, direction = largest_eigenvalue(product, _without(start, along))
    speed = math.sqrt(largest) * (float(anchor.norm()) * math.pi / 180 if turns else 1.0)
    return (reach / speed if speed > 0 else math.inf), direction


def largest_eigenvalue(
    product: Callable[[Tensor], Tensor], start: Float[Tensor, " d"], most: int = 100
) -> tuple[float, Float[Tensor, " d"]]:
    """Return the largest eigenvalue of a positive matrix that is known by its products, and a unit eigenvector, by power iteration.

    It ends when the eigenvalue grows by less than one part in ten thousand.
    """
    vector, value = start / start.norm(), 0.0
    for _ in range(most):
        image = product(vector)
        before, value = value, float(image.norm())
        if not value > 0:
            return 0.0, vector
        vector = image / image.norm()
        if value - before < 1e-4 * value:
            break
    return value, vector


def _without(vector: Tensor, along: Tensor | None) -> Tensor:
    return vector if along is None else vector - (vector @ along) * along
