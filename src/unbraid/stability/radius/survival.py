"""What share of rays has not crossed yet at each radius? Kaplan-Meier curves, since rays that never cross say only that they cross later."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.stats import CensoredData, ecdf

RESAMPLES = 500


@dataclass(frozen=True)
class Interval:
    """A radius with its 95 % interval over anchors.

    Attributes:
        value: The radius; None where it is undefined, because too many rays were censored before it.
        low: Lower end of the interval; None where that is undefined too.
        high: Upper end; None where it is further than the rays were followed.
        anchors: How many independent anchors there were.
    """

    value: float | None
    low: float | None
    high: float | None
    anchors: int


@dataclass(frozen=True)
class Survival:
    """Radii of one family of directions, with those that were censored.

    Attributes:
        radii: [anchors, rays]: infinite where a ray crosses nowhere, NaN where there is no ray.
        furthest: How far the rays were followed.
        seed: Decides the resamples.
    """

    radii: Float[ndarray, "anchors rays"]
    furthest: float
    seed: int = 0

    @property
    def rays(self) -> int:
        """How many rays there are."""
        return int((~np.isnan(self.radii)).sum())

    @property
    def censored(self) -> int:
        """How many of them cross nowhere."""
        return int(np.isinf(self.radii).sum())

    @property
    def anchors(self) -> int:
        """How many anchors have a ray."""
        return int((~np.isnan(self.radii)).any(axis=1).sum())

    def radius_at(self, crossed: float) -> Interval:
        """Return the radius by which a share of the rays has crossed: 0.5 for the median, 0.05 for the rays that cross soonest.

        The interval is a percentile bootstrap over anchors, whose rays are not independent (Efron 1979).
        """
        if not self.anchors:
            return Interval(None, None, None, 0)
        # A resample in which it is undefined lies above every radius that was looked at.
        return _interval(_reaches(self._curve, crossed), self._reached(crossed), self.anchors)

    def ratio_to(self, other: Survival, crossed: float) -> Interval:
        """Return how many times further this family's radius is than another's, with both resampled at the same anchors."""
        if not self.anchors or self.anchors != other.anchors or self.radii.shape[0] != other.radii.shape[0]:
            return Interval(None, None, None, 0)
        with np.errstate(invalid="ignore"):  # neither is defined
            each = self._reached(crossed) / other._reached(crossed)
            value = _reaches(self._curve, crossed) / np.float64(_reaches(other._curve, crossed))
        if np.isnan(each).any() or not 0 < value < math.inf:
            return Interval(float(value) if 0 < value < math.inf else None, None, None, self.anchors)
        return _interval(float(value), each, self.anchors)

    def _reached(self, crossed: float) -> Float[ndarray, " resamples"]:
        return np.array([_reaches(curve, crossed) for curve in self._resampled])

    def at(self, radii: Float[ndarray, " n"]) -> Float[ndarray, "3 n"]:
        """Return P(radius > r), and the lower and upper end of its 95 % band over anchors."""
        curves = np.array([_evaluate(curve, radii) for curve in self._resampled])
        return np.vstack([_evaluate(self._curve, radii), *np.quantile(curves, [0.025, 0.975], axis=0)])

    @cached_property
    def _curve(self) -> Curve:
        return kaplan_meier(self.radii, self.furthest)

    @cached_property
    def _resampled(self) -> list[Curve]:
        present = self.radii[(~np.isnan(self.radii)).any(axis=1)]
        picks = np.random.default_rng(self.seed).integers(0, len(present), size=(RESAMPLES, len(present)))
        return [kaplan_meier(present[rows], self.furthest) for rows in picks]


def _interval(value: float, each: Float[ndarray, " resamples"], anchors: int) -> Interval:
    low, high = np.quantile(each, [0.025, 0.975], method="inverted_cdf")
    ends = [float(x) if math.isfinite(x) else None for x in (value, low, high)]
    return Interval(ends[0], ends[1], ends[2], anchors)


Curve = tuple[Float[ndarray, " steps"], Float[ndarray, " steps"]]
"""Radii at which a survival curve steps, and what it is from there on."""


def kaplan_meier(radii: Float[ndarray, "*rays"], furthest: float) -> Curve:
    """Return the Kaplan-Meier estimate of P(radius > r) (Kaplan and Meier 1958; `scipy.stats.ecdf`).

    Args:
        radii: Infinite where censored, NaN where there is no ray.
        furthest: Where the censored ones were censored.
    """
    there = radii[~np.isnan(radii)]
    if not there.size:
        return np.zeros(0), np.zeros(0)
    ends = there[np.isfinite(there)]
    curve = ecdf(CensoredData(uncensored=ends, right=np.full(there.size - ends.size, furthest))).sf
    return curve.quantiles, curve.probabilities


def _reaches(curve: Curve, crossed: float) -> float:
    """Return the radius at which so large a share has crossed; infinite where that never happens."""
    radii, survives = curve
    done = np.flatnonzero(survives <= 1 - crossed + 1e-12)
    return float(radii[done[0]]) if len(done) else math.inf


def _evaluate(curve: Curve, at: Float[ndarray, " n"]) -> Float[ndarray, " n"]:
    radii, survives = curve
    return np.concatenate([[1.0], survives])[np.searchsorted(radii, at, side="right")]
