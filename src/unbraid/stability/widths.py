"""How wide is the change along a path? The two-sided distance of the answers, and the stretch of t in which it goes from a tenth to nine tenths."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.optimize import isotonic_regression
from torch import Tensor

from unbraid.stability.distances import Distance

LINEAR = 0.8
"""The width where the answers go straight from the one end to the other."""
MONOTONE = 0.8
"""Below this the curve goes back and forth, and has no width."""


class Width(NamedTuple):
    """Where a curve crosses its levels, in units of t; NaN where it has no width."""

    t10: float
    t50: float
    t90: float

    @property
    def value(self) -> float:
        """`t90 - t10`."""
        return self.t90 - self.t10


UNDEFINED = Width(math.nan, math.nan, math.nan)


def two_sided(
    answers: Float[Tensor, "n k"], start: Float[Tensor, " k"], end: Float[Tensor, " k"], distance: Distance
) -> Float[ndarray, " n"]:
    """Return `D(F, start) / (D(F, start) + D(F, end))`, 0 at the one end and 1 at the other (Shinkle and Heimersheim 2025); NaN where both are 0."""
    near, far = (distance(answers, whole.expand_as(answers)).double() for whole in (start, end))
    return (near / (near + far)).cpu().numpy()


def width_of(t: Float[ndarray, " n"], d: Float[ndarray, " n"]) -> Width:
    """Return where a curve of distances crosses 0.1, 0.5 and 0.9, by linear interpolation of an isotonic copy.

    Undefined where the net change is under 0.8 of the whole, or a level is not crossed.
    """
    if not np.isfinite(d).all() or not np.abs(np.diff(d)).sum() > 0:
        return UNDEFINED
    if abs(d[-1] - d[0]) / np.abs(np.diff(d)).sum() < MONOTONE:
        return UNDEFINED
    rising = isotonic_regression(d).x
    return Width(*(_crossing(t, rising, level) for level in (0.1, 0.5, 0.9)))


def _crossing(t: ndarray, rising: ndarray, level: float) -> float:
    """Return the first t at which a rising curve has reached a level."""
    if rising[0] > level or rising[-1] < level:
        return math.nan
    index = int(np.searchsorted(rising, level))
    if index == 0:
        return float(t[0])
    low, high = rising[index - 1], rising[index]
    return float(t[index - 1] + (level - low) / (high - low) * (t[index] - t[index - 1]))
