"""How sure is a number? Intervals over batches by the percentile bootstrap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval and sample size.

    Attributes:
        value: The mean.
        low: Lower end of the interval.
        high: Upper end of the interval.
        n: How many independent values the mean was taken over.
    """

    value: float
    low: float
    high: float
    n: int


def bootstrap_mean(values: Sequence[float], resamples: int = 2000, seed: int = 0) -> Estimate:
    """Return the mean of `values` with its 95 % percentile-bootstrap interval (Efron 1979); one value has no width."""
    data = np.asarray(values, dtype=np.float64)
    if data.size < 2:
        only = float(data[0])
        return Estimate(only, only, only, int(data.size))
    picks = np.random.default_rng(seed).integers(0, data.size, size=(resamples, data.size))
    low, high = np.quantile(data[picks].mean(axis=1), [0.025, 0.975])
    return Estimate(float(data.mean()), float(low), float(high), int(data.size))


def bootstrap_median(values: Sequence[float], resamples: int = 2000, seed: int = 0) -> Estimate:
    """Return the median with its 95 % percentile-bootstrap interval (Efron 1979) over independent planes."""
    data = np.asarray(values, dtype=np.float64)
    picks = np.random.default_rng(seed).integers(0, data.size, size=(resamples, data.size))
    low, high = np.quantile(np.median(data[picks], axis=1), [0.025, 0.975])
    return Estimate(float(np.median(data)), float(low), float(high), int(data.size))
