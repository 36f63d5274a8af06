from __future__ import annotations

import math

import numpy as np
import pytest

from unbraid.stability.radius.survival import Survival, kaplan_meier

FURTHEST = 10.0


def test_curve_is_that_of_kaplan_and_meier() -> None:
    radii, survives = kaplan_meier(np.array([1.0, 2.0, 2.0, math.inf]), FURTHEST)
    assert dict(zip(radii.tolist(), survives.tolist(), strict=True)) == {1.0: 0.75, 2.0: 0.25, FURTHEST: 0.25}


def test_censored_rays_keep_the_curve_up_and_are_never_crossings() -> None:
    counted = Survival(np.array([[1.0, 2.0], [math.inf, math.inf]]), FURTHEST)
    without = Survival(np.array([[1.0, 2.0], [np.nan, np.nan]]), FURTHEST)
    assert (counted.rays, counted.censored, counted.anchors) == (4, 2, 2)
    assert (without.rays, without.censored, without.anchors) == (2, 0, 1)
    assert counted.at(np.array([9.9, 10.0]))[0].tolist() == [0.5, 0.5]
    assert without.at(np.array([9.9]))[0].tolist() == [0.0]
    assert without.radius_at(0.5).value == 1.0
    assert counted.radius_at(0.5).value == 2.0


def test_median_is_undefined_where_more_than_half_is_censored_and_the_soonest_are_not() -> None:
    radii = np.full((10, 10), math.inf)
    radii[:, 0] = np.linspace(1, 2, 10)
    curve = Survival(radii, FURTHEST)
    assert curve.radius_at(0.5).value is None
    assert curve.radius_at(0.5).low is None
    assert curve.radius_at(0.05).value == pytest.approx(1.0 + 4 / 9)


def test_interval_is_over_anchors_and_open_where_a_resample_is_undefined() -> None:
    generator = np.random.default_rng(0)
    anchors = generator.normal(5, 1, size=(40, 1))
    alike = anchors + generator.normal(0, 0.01, size=(40, 50))  # 50 rays of an anchor say hardly more than one
    found = Survival(alike, FURTHEST).radius_at(0.5)
    assert found.low is not None and found.value is not None and found.high is not None
    assert found.anchors == 40
    assert found.high - found.low > 0.3
    half = np.where(np.arange(40)[:, None] < 21, 3.0, math.inf) * np.ones((40, 4))
    edge = Survival(half, FURTHEST).radius_at(0.5)
    assert (edge.value, edge.low, edge.high) == (3.0, 3.0, None)


def test_band_holds_the_curve() -> None:
    radii = np.random.default_rng(0).uniform(1, 12, size=(20, 8))
    value, low, high = Survival(np.where(radii > FURTHEST, math.inf, radii), FURTHEST).at(np.linspace(0, 10, 21))
    assert bool(((low <= value) & (value <= high)).all())
    assert value[0] == 1
    assert bool((np.diff(value) <= 0).all())


def test_ratio_is_taken_at_the_same_anchors() -> None:
    anchors = np.random.default_rng(0).lognormal(0, 1, size=(20, 1))
    slow, quick = Survival(anchors * np.ones((20, 4)) * 0.8, 100.0), Survival(anchors * np.ones((20, 4)), 100.0)
    ratio = slow.ratio_to(quick, 0.5)
    assert (ratio.value, ratio.low, ratio.high) == (
        pytest.approx(0.8),
        pytest.approx(0.8),
        pytest.approx(0.8),
    )  # though anchors differ by much


def test_ratio_to_something_undefined_is_undefined() -> None:
    some, none = Survival(np.ones((5, 2)), FURTHEST), Survival(np.full((5, 2), math.inf), FURTHEST)
    assert some.ratio_to(none, 0.5).value is None
    assert none.ratio_to(none, 0.5).value is None
    assert none.ratio_to(some, 0.5).value is None


def test_nothing_measured_says_nothing() -> None:
    curve = Survival(np.full((3, 2), np.nan), FURTHEST)
    assert (curve.rays, curve.anchors, curve.radius_at(0.5).value) == (0, 0, None)
