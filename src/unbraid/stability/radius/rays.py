"""Which points does an activation reach when it moves along each of several directions? Turns that keep the norm, or straight steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unbraid.core.errors import UserError
from unbraid.stability.engine.paths import unit_tangent

Response = Callable[[Float[Tensor, "n d"]], Float[Tensor, "n k"]]
"""What a model answers at points."""


@dataclass(frozen=True)
class Rays:
    """Directions out of one activation, and what lies along them.

    Attributes:
        anchor: Where they begin, [d].
        directions: Unit vectors [rays, d]; those of turns are perpendicular to the anchor.
        turns: Whether a radius is an angle in degrees at the anchor's own norm (`paths.ray`), or a length along a straight line.
    """

    anchor: Float[Tensor, " d"]
    directions: Float[Tensor, "rays d"]
    turns: bool

    @classmethod
    def towards(cls, anchor: Float[Tensor, " d"], directions: Float[Tensor, "rays d"], turns: bool) -> Rays:
        """Return the rays towards directions of any length; of a turn's directions only what is perpendicular to the anchor counts.

        Raises:
            UserError: A direction is zero or, for turns, along the anchor; or the anchor is zero.
        """
        if turns:
            units = [unit_tangent(anchor, direction) for direction in directions]
            return cls(anchor, torch.stack(units) if units else directions, True)
        if not bool((directions.norm(dim=1) > 0).all()):
            raise UserError("A direction is zero, so that there is nowhere to go.", "Give another direction.")
        return cls(anchor, directions / directions.norm(dim=1, keepdim=True), False)

    def points(self, which: Int[Tensor, " n"], radii: Float[Tensor, " n"]) -> Float[Tensor, "n d"]:
        """Return the point at each radius of the ray of each number."""
        radii = radii.to(self.anchor.dtype)[:, None]
        if not self.turns:
            return self.anchor + radii * self.directions[which]
        angles = radii * (math.pi / 180)
        return angles.cos() * self.anchor + angles.sin() * self.anchor.norm() * self.directions[which]

    def grid(self, radii: Float[Tensor, " m"]) -> Float[Tensor, "n d"]:
        """Return the points at the same radii of every ray, ray after ray."""
        k, m = len(self.directions), len(radii)
        return self.points(torch.arange(k).repeat_interleave(m), radii.repeat(k))
