"""Which way does one activation become another? Straight lines, arcs that keep the norm, and rays that turn away by an angle.

Every path says which norm it has where, since a chord through a shell of activations is shorter in the middle, and a response to that would
look like a response to the direction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from unbraid.core.errors import UserError, unknown

PathKind = Literal["linear", "geodesic", "centred"]

_SMALL_ANGLE = 1e-4
"""Below this many radians an arc is its chord, whose points are scaled to the arc's norms."""


def linear(start: Float[Tensor, " d"], end: Float[Tensor, " d"], t: Float[Tensor, " n"]) -> Float[Tensor, "n d"]:
    """Return `start + t (end - start)`; the ends come out to the bit (Janiak et al. 2024)."""
    return torch.lerp(start[None], end[None], t[:, None].to(start.dtype))


def geodesic(start: Float[Tensor, " d"], end: Float[Tensor, " d"], t: Float[Tensor, " n"]) -> Float[Tensor, "n d"]:
    """Return the arc between the two directions, with a norm that goes linearly from the one to the other (Shinkle and Heimersheim 2025).

    Raises:
        UserError: An end is zero, or they are opposite, so that no arc is shorter than the others.
    """
    norms = torch.stack([start.norm(), end.norm()])
    if not bool((norms > 0).all()):
        raise UserError("An arc needs two ends that are not zero.", "Use the path 'linear'.")
    a, b = start / norms[0], end / norms[1]
    # From the half-angle's sine and cosine: the cosine of a small angle, or of nearly a half turn, says nothing about it.
    angle = 2 * torch.atan2((a - b).norm(), (a + b).norm())
    if float((a + b).norm()) < _SMALL_ANGLE:
        raise UserError(
            "The two ends are opposite, so that there is no shortest arc between them.", "Use the path 'linear', or another pair."
        )
    t = t.to(start.dtype)[:, None]
    if float(angle) < _SMALL_ANGLE:
        directions = torch.nn.functional.normalize(torch.lerp(a[None], b[None], t), dim=1)
    else:
        directions = (((1 - t) * angle).sin() * a + (t * angle).sin() * b) / angle.sin()
    return _exact_ends(directions * torch.lerp(norms[0], norms[1], t), start, end, t)


def centred(
    start: Float[Tensor, " d"], end: Float[Tensor, " d"], t: Float[Tensor, " n"], mean: Float[Tensor, " d"]
) -> Float[Tensor, "n d"]:
    """Return the arc around the mean activation, so that the distance from the mean goes linearly from the one end's to the other's."""
    return _exact_ends(mean + geodesic(start - mean, end - mean, t), start, end, t.to(start.dtype)[:, None])


def ray(anchor: Float[Tensor, " d"], direction: Float[Tensor, " d"], radians: Float[Tensor, " n"]) -> Float[Tensor, "n d"]:
    """Return the points that the anchor reaches when it turns towards a direction by an angle, at its own norm.

    Only what is perpendicular to the anchor counts in the direction: a turn keeps the norm (Ferreira da Silva and Heimersheim 2026, geodesic chart).

    Raises:
        UserError: The anchor is zero, or the direction lies along it.
    """
    norm = anchor.norm()
    tangent = unit_tangent(anchor, direction)
    angles = radians.to(anchor.dtype)[:, None]
    return norm * (angles.cos() * (anchor / norm) + angles.sin() * tangent)


def unit_tangent(anchor: Float[Tensor, " d"], direction: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
    """Return the unit vector of what is perpendicular to the anchor in a direction.

    Raises:
        UserError: The anchor is zero, or nothing of the direction is perpendicular to it.
    """
    if not float(anchor.norm()) > 0:
        raise UserError("An activation of zero has no direction to turn from.", "Give another anchor.")
    along = anchor / anchor.norm()
    # Twice, since once leaves what rounding made of a direction that is nearly along the anchor.
    left = direction - (direction @ along) * along
    left = left - (left @ along) * along
    if not float(left.norm()) > 1e-5 * max(float(direction.norm()), 1e-30):
        raise UserError("The direction lies along the activation, so that there is nothing to turn to.", "Give another direction.")
    return left / left.norm()


def path_between(
    kind: PathKind, start: Float[Tensor, " d"], end: Float[Tensor, " d"], mean: Float[Tensor, " d"] | None = None
) -> Callable[[Float[Tensor, " n"]], Float[Tensor, "n d"]]:
    """Return the path of that kind as a function of t in [0, 1].

    Raises:
        UserError: There is no such kind, or "centred" has no mean.
    """
    if kind == "linear":
        return lambda t: linear(start, end, t)
    if kind == "geodesic":
        return lambda t: geodesic(start, end, t)
    if kind == "centred":
        if mean is None:
            raise UserError("A centred path needs the mean activation.", "Give `mean`.")
        return lambda t: centred(start, end, t, mean)
    raise unknown("path", kind, ("linear", "geodesic", "centred"))


def _exact_ends(points: Tensor, start: Tensor, end: Tensor, t: Tensor) -> Tensor:
    """Put the ends themselves where t is 0 and 1: what is measured there is compared with the model's own answer."""
    return torch.where(t == 0, start[None], torch.where(t == 1, end[None], points))
