"""Where does the answer cross over along a path, straight from answers? The two-sided distance, and the levels that it crosses."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from unbraid.stability.engine import curve
from unbraid.stability.engine.distances import Distance


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
    """Return the two-sided distance of answers from those at the ends; NaN where both are 0."""
    near, far = (distance(answers, whole.expand_as(answers)).double().cpu().numpy() for whole in (start, end))
    return curve.two_sided(near, far)


def width_of(t: Float[ndarray, " n"], d: Float[ndarray, " n"]) -> Width:
    """Return where a two-sided distance crosses 0.1, 0.5 and 0.9.

    Undefined where it turns back too often, or a level is not crossed.
    """
    if not np.isfinite(d).all() or not curve.steadiness(d) >= curve.STEADY:
        return UNDEFINED
    return Width(*curve.crossings(t, d))
