"""How sharp is the way from one answer to another? Numbers of one curve: where it crosses, over which width, how steadily, in how many steps.

Never one number: a width says nothing without the place of the crossing, its steadiness, and how far the ends are apart. A straight way of the
answer has width 0.8 from 10 % to 90 %, and speed 1 everywhere; that is the reference, not 1. What cannot be said is NaN and counted.

Definitions: two-sided distance of Shinkle and Heimersheim 2025, one-sided of Janiak et al. 2024, cumulative of Reynoso and Heimersheim 2025.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.signal import find_peaks, peak_widths
from sklearn.isotonic import isotonic_regression

LINEAR_WIDTH = 0.8
"""The width of a straight way: from t = 0.1 to t = 0.9."""
LEVELS = (0.1, 0.5, 0.9)
STEADY = 0.8
"""Below this monotonicity a width is undefined: the curve turns back too often to cross a level at one place."""
ABOVE_FLOOR = 5.0
"""The ends must be so many times further apart than the same point run twice."""
STRICT, LENIENT = 0.25, 0.4
FLAT, STRICTLY_STEADY = 0.1, 0.95
PEAK_OVER_MEDIAN, PROMINENCE = 3.0, 0.5
LEAST_MASS = 0.05
"""A peak of speed with a smaller share of the way is no boundary: where nothing moves, rounding makes peaks over a median of nearly 0."""


@dataclass(frozen=True)
class CurveMeasures:
    """What one curve of distances says; NaN where it says nothing.

    Attributes:
        width: t90 - t10 of the two-sided distance.
        t10: Where a tenth of the way is done.
        t50: Where half of it is.
        t90: Where nine tenths are.
        steadiness: Net over total way of the two-sided distance, in [0, 1].
        separation: Distance between the ends, in the read-out's own unit.
        steepest: Largest slope of the one-sided distance.
        half_mass: Length of the shortest interval with half of the whole way of the answer in it; 0.5 for a straight one.
        boundaries: Where speed peaks.
        masses: The share of the way within half a width of each peak.
    """

    width: float
    t10: float
    t50: float
    t90: float
    steadiness: float
    separation: float
    steepest: float
    half_mass: float
    boundaries: tuple[float, ...] = ()
    masses: tuple[float, ...] = ()

    @property
    def strict(self) -> bool:
        """Whether there is a plateau on both sides of a sharp boundary."""
        flat = self.t10 >= FLAT and 1 - self.t90 >= FLAT
        return bool(self.width <= STRICT and flat and self.steadiness >= STRICTLY_STEADY)

    @property
    def lenient(self) -> bool:
        """Whether the width is half of a straight way's or less."""
        return bool(self.width <= LENIENT)


def two_sided(to_start: Float[ndarray, "*batch n"], to_end: Float[ndarray, "*batch n"]) -> Float[ndarray, "*batch n"]:
    """Return `d₂ = D(F(t), F(0)) / (D(F(t), F(0)) + D(F(t), F(1)))`; NaN where both are 0, or an answer is not finite."""
    total = to_start + to_end
    return np.divide(to_start, total, out=np.full_like(to_start, np.nan), where=(total > 0) & np.isfinite(total))


def one_sided(to_start: Float[ndarray, "*batch n"]) -> Float[ndarray, "*batch n"]:
    """Return `d₁ = D(F(t), F(0)) / D(F(1), F(0))`, which may go beyond 1."""
    ends = to_start[..., -1:]
    return np.divide(to_start, ends, out=np.full_like(to_start, np.nan), where=ends > 0)


def speed(t: Float[ndarray, " n"], steps: Float[ndarray, " m"]) -> Float[ndarray, " m"]:
    """Return the density of the answer's way along the path, which has integral 1: its distance from point to point over the step in t."""
    total = steps.sum()
    return np.full_like(steps, np.nan) if not total > 0 else steps / np.diff(t) / total


def cumulative(steps: Float[ndarray, " m"]) -> Float[ndarray, " n"]:
    """Return the share of the answer's way that is done at each point, from 0 to 1."""
    total = steps.sum()
    return np.concatenate([[0.0], steps.cumsum() / total]) if total > 0 else np.full(len(steps) + 1, np.nan)


def crossings(t: Float[ndarray, " n"], curve: Float[ndarray, " n"], levels: tuple[float, ...] = LEVELS) -> tuple[float, ...]:
    """Return where the nearest rising curve first reaches each level, by linear interpolation; NaN for a level that it never reaches."""
    if not np.isfinite(curve).all():
        return (math.nan,) * len(levels)
    rising = np.asarray(isotonic_regression(curve), dtype=np.float64)
    found: list[float] = []
    for level in levels:
        above = np.flatnonzero(rising >= level)
        if not len(above) or rising[0] > level:
            found.append(math.nan)
            continue
        last = int(above[0])
        if last == 0:
            found.append(float(t[0]))
            continue
        low, high = rising[last - 1], rising[last]
        found.append(float(t[last - 1] + (level - low) / (high - low) * (t[last] - t[last - 1])))
    return tuple(found)


def steadiness(curve: Float[ndarray, " n"]) -> float:
    """Return the net change over the total change: 1 for a curve that never turns back."""
    total = float(np.abs(np.diff(curve)).sum())
    return abs(float(curve[-1] - curve[0])) / total if total > 0 else math.nan


def half_mass_width(t: Float[ndarray, " n"], steps: Float[ndarray, " m"]) -> float:
    """Return the length of the shortest interval that holds half of the answer's way."""
    done = cumulative(steps)
    if not np.isfinite(done).all():
        return math.nan
    # One end of the shortest interval lies on a grid point, since the way is taken as even in between.
    forth = np.interp(done + 0.5, done, t, right=np.nan) - t
    back = t - np.interp(done - 0.5, done, t, left=np.nan)
    lengths = np.concatenate([forth[done <= 0.5], back[done >= 0.5]])
    return float(np.nanmin(lengths))


def boundaries(t: Float[ndarray, " n"], steps: Float[ndarray, " m"]) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Return where speed peaks, each peak's width at half height, and the share of the way within half a width of it.

    A peak is at least three times as high as the median speed, half of its height stands out from what is around it, and it holds a twentieth of
    the way.
    """
    # An even grid, so that a peak's width in samples is a width in t however unevenly the curve was sampled.
    even = np.linspace(t[0], t[-1], 4 * len(t) + 1)
    done = np.interp(even, t, cumulative(steps))
    if not np.isfinite(done).all():
        return (), (), ()
    density = np.diff(done) / np.diff(even)
    middle = (even[1:] + even[:-1]) / 2
    padded = np.concatenate([[0.0], density, [0.0]])
    tops, facts = find_peaks(padded, height=PEAK_OVER_MEDIAN * float(np.median(density)), prominence=0.0)
    stands_out = facts["prominences"] >= PROMINENCE * facts["peak_heights"]
    tops, heights = tops[stands_out], facts["peak_heights"][stands_out]
    widths = peak_widths(padded, tops, rel_height=0.5)[0] * (even[1] - even[0])
    places = middle[tops - 1]
    masses = [
        float(np.interp(place + width, even, done) - np.interp(place - width, even, done))
        for place, width in zip(places, widths / 2, strict=True)
    ]
    kept: list[int] = []
    for i in np.argsort(-heights, kind="stable"):
        # Of peaks within the width of a higher one, or of one as high, only the first is a boundary: the others are how it was sampled.
        if masses[i] >= LEAST_MASS and all(abs(places[i] - places[j]) > max(widths[i], widths[j]) for j in kept):
            kept.append(int(i))
    kept.sort(key=lambda i: float(places[i]))
    return tuple(float(places[i]) for i in kept), tuple(float(widths[i]) for i in kept), tuple(masses[i] for i in kept)


def measure_curve(
    t: Float[ndarray, " n"], to_start: Float[ndarray, " n"], to_end: Float[ndarray, " n"], steps: Float[ndarray, " m"], floor: float = 0.0
) -> CurveMeasures:
    """Return the numbers of one curve.

    Args:
        t: Where it was sampled, from 0 to 1.
        to_start: Distance of the answer at t from that at 0.
        to_end: The same from that at 1.
        steps: Distance from each point's answer to the next one's.
        floor: Distance between two runs of the same point.
    """
    separation = float(to_start[-1])
    both = two_sided(to_start, to_end)
    steady = steadiness(both) if np.isfinite(both).all() else math.nan
    if not separation > ABOVE_FLOOR * floor or not separation > 0:
        return CurveMeasures(math.nan, math.nan, math.nan, math.nan, steady, separation, math.nan, math.nan)
    t10, t50, t90 = crossings(t, both)
    width = t90 - t10 if steady >= STEADY else math.nan
    slope = float((np.diff(one_sided(to_start)) / np.diff(t)).max())
    places, _, masses = boundaries(t, steps)
    return CurveMeasures(width, t10, t50, t90, steady, separation, slope, half_mass_width(t, steps), places, masses)


def where_to_refine(t: Float[ndarray, " n"], both: Float[ndarray, " n"], count: int) -> Float[ndarray, " count"]:
    """Return `count` new places that divide the steps in which the two-sided distance crosses its levels, evenly among them."""
    if np.isfinite(both).all():
        rising = np.asarray(isotonic_regression(both), dtype=np.float64)
        steps = np.unique([min(max(int(np.searchsorted(rising, level)) - 1, 0), len(t) - 2) for level in LEVELS])
    else:
        steps = np.linspace(0, len(t) - 2, min(count, len(t) - 1)).astype(np.int64)
    shares = np.array_split(np.arange(count), len(steps))
    new = [
        t[step] + (t[step + 1] - t[step]) * np.arange(1, len(share) + 1) / (len(share) + 1)
        for step, share in zip(steps, shares, strict=True)
    ]
    return np.sort(np.concatenate(new))
