"""How much of a plateau does each part build? By how much the change along the path widens without it, as a share of the widening without all.

    share_c = (w(-c) - w) / (w(-all) - w)

Over several pairs the widenings are added up before they are divided, since a single pair's may be next to nothing.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A number with its 95 % percentile-bootstrap interval over pairs; NaN and n = 0 where it is undefined."""

    value: float
    low: float
    high: float
    n: int

    def tree(self) -> dict[str, Any]:
        """Return it as JSON-ready values; what is undefined is null."""
        return {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in asdict(self).items()}

    def text(self, form: str = "+.2f") -> str:
        """Return it as reports write it."""
        if not math.isfinite(self.value):
            return "undefined"
        if not math.isfinite(self.low + self.high):
            return f"{self.value:{form}}"
        return f"{self.value:{form}} [{self.low:{form}}, {self.high:{form}}]"


def share(
    without: Float[ndarray, " pairs"], whole: Float[ndarray, " pairs"], without_all: Float[ndarray, " pairs"], seed: int = 0
) -> Interval:
    """Return the share of the plateau that a part builds, over the pairs on which all three widths are defined.

    Args:
        without: Width without the part, per pair, NaN where undefined.
        whole: Width of the model's own curve.
        without_all: Width without any part.
        seed: Decides the resampling of pairs.
    """
    return _ratio(without - whole, without_all - whole, seed)


def share_above(
    without: Float[ndarray, " pairs"],
    null: Float[ndarray, "pairs draws"],
    whole: Float[ndarray, " pairs"],
    without_all: Float[ndarray, " pairs"],
    seed: int = 0,
) -> Interval:
    """Return by how much a part's share exceeds that of random sets, paired: each pair is compared with its own draws."""
    return _ratio(without - _row_means(null), without_all - whole, seed)


def null_share(
    null: Float[ndarray, "pairs draws"], whole: Float[ndarray, " pairs"], without_all: Float[ndarray, " pairs"], seed: int = 0
) -> Interval:
    """Return the share of one random set per pair: the mean over draws, and an interval in which each pair has one draw at random."""
    widening, total = null - whole[:, None], without_all - whole
    kept = np.isfinite(widening).any(1) & np.isfinite(total)
    widening, total = widening[kept], total[kept]
    n = len(total)
    if not _clear(total, seed):
        return Interval(math.nan, math.nan, math.nan, n)
    random = np.random.default_rng(seed)
    pairs = random.integers(0, n, (RESAMPLES, n))
    defined = [np.flatnonzero(np.isfinite(row)) for row in widening]
    drawn = np.stack([row[random.choice(able, RESAMPLES)] for row, able in zip(widening, defined, strict=True)], axis=1)
    ratios = np.take_along_axis(drawn, pairs, 1).sum(1) / _never_zero(total[pairs].sum(1))
    low, high = np.nanquantile(ratios, [0.025, 0.975])
    return Interval(float(_row_means(widening).sum() / total.sum()), float(low), float(high), n)


def residual(
    without: Float[ndarray, "pairs parts"], whole: Float[ndarray, " pairs"], without_all: Float[ndarray, " pairs"], seed: int = 0
) -> Interval:
    """Return what the shares of all parts of a partition leave of 1, over the pairs on which every width is defined.

    0 says that the parts build the plateau side by side; above 0, that they stand in for each other, so that none is missed alone; below 0, that
    each is needed for what the others do.
    """
    total = without_all - whole
    return _ratio(total - (without - whole[:, None]).sum(1), total, seed)


def shapley(widths: Float[ndarray, "pairs subsets"]) -> Float[ndarray, "pairs groups"]:
    """Return each group's widening averaged over all orders in which groups can be removed (Shapley 1953): these add up to the whole.

    Args:
        widths: The width without each combination of groups; bit i of the column's number says whether group i is removed.
    """
    subsets = widths.shape[1]
    groups = subsets.bit_length() - 1
    found = np.zeros((len(widths), groups))
    for group in range(groups):
        for subset in range(subsets):
            if not subset >> group & 1:
                before = subset.bit_count()
                weight = math.factorial(before) * math.factorial(groups - before - 1) / math.factorial(groups)
                found[:, group] += weight * (widths[:, subset | 1 << group] - widths[:, subset])
    return found


def mean_of(values: Float[ndarray, " pairs"], seed: int = 0) -> Interval:
    """Return the mean over the pairs on which a number is defined."""
    return _ratio(values, np.where(np.isfinite(values), 1.0, math.nan), seed)


def _ratio(above: ndarray, below: ndarray, seed: int) -> Interval:
    """Return a ratio of sums over pairs; pairs on which either is undefined are left out.

    Undefined where what is divided by is not clearly above 0: a share of next to nothing may be anything.
    """
    kept = np.isfinite(above) & np.isfinite(below)
    above, below = above[kept], below[kept]
    n = len(above)
    if not _clear(below, seed):
        return Interval(math.nan, math.nan, math.nan, n)
    value = float(above.sum() / below.sum())
    if n == 1:
        return Interval(value, math.nan, math.nan, 1)
    pairs = _resampled(n, seed)
    low, high = np.nanquantile(above[pairs].sum(1) / _never_zero(below[pairs].sum(1)), [0.025, 0.975])
    return Interval(value, float(low), float(high), n)


def _clear(total: ndarray, seed: int) -> bool:
    """Whether a sum over pairs is above 0 in all but a fortieth of the resamplings."""
    if len(total) < 2:
        return bool(len(total) and total[0] > 0)
    return bool(np.quantile(total[_resampled(len(total), seed)].sum(1), 0.025) > 0)


def _resampled(n: int, seed: int) -> Int[ndarray, "resamples n"]:
    return np.random.default_rng(seed).integers(0, n, (RESAMPLES, n))


def _never_zero(values: ndarray) -> ndarray:
    return np.where(values == 0, math.nan, values)


def _row_means(values: ndarray) -> ndarray:
    """Return the mean of what is defined in each row, NaN where nothing is."""
    count = np.isfinite(values).sum(1)
    return np.where(count > 0, np.nansum(values, 1) / np.maximum(count, 1), math.nan)
