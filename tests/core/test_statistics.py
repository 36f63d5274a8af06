from __future__ import annotations

import numpy as np
import pytest

from unbraid.core.statistics import bootstrap_mean


def test_interval_has_the_width_of_the_standard_error() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, size=400).tolist()
    estimate = bootstrap_mean(values)
    assert estimate.value == pytest.approx(float(np.mean(values)))
    assert estimate.n == 400
    assert estimate.low < estimate.value < estimate.high
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * float(np.std(values)) / 20, rel=0.1)


def test_interval_covers_the_mean_as_often_as_it_says() -> None:
    samples = np.random.default_rng(1).exponential(size=(300, 60))
    covered = [estimate.low <= 1.0 <= estimate.high for estimate in (bootstrap_mean(row.tolist(), resamples=300) for row in samples)]
    assert 0.88 < np.mean(covered) < 0.98


def test_one_value_has_no_width() -> None:
    estimate = bootstrap_mean([2.5])
    assert (estimate.value, estimate.low, estimate.high, estimate.n) == (2.5, 2.5, 2.5, 1)


def test_same_values_same_interval() -> None:
    assert bootstrap_mean([1.0, 2.0, 4.0]) == bootstrap_mean([1.0, 2.0, 4.0])
