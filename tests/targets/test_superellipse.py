from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from unbraid.core.errors import UserError
from unbraid.core.statistics import bootstrap_median
from unbraid.targets.toy_kit.superellipse import (
    crossing_radii,
    fit_superellipse,
    half_axis_threshold,
    in_axis_units,
    level_set,
    quadrant_angles,
)


def quadratic(c: float, width: float = 1.0, height: float = 1.0) -> Callable[[Tensor], Tensor]:
    """A response whose square is a quadratic form with a cross term."""

    def response(points: Tensor) -> Tensor:
        x, y = points[:, 0] / width, points[:, 1] / height
        return (x**2 + y**2 + 2 * c * x * y).sqrt()

    return response


def quadrant(points: Tensor, sign: float) -> Tensor:
    return points[(points[:, 0] > -1e-9) & (sign * points[:, 1] > -1e-9)]


def test_angles_have_as_many_in_each_closed_quadrant_as_asked() -> None:
    angles = quadrant_angles(13)
    for turn in range(4):
        low, high = turn * math.pi / 2, (turn + 1) * math.pi / 2
        inside = ((angles >= low - 1e-9) & (angles <= high + 1e-9)).sum() + (1 if turn == 3 else 0)  # the last axis is the first
        assert inside == 13


def test_radii_are_those_of_a_circle_and_nan_where_nothing_crosses() -> None:
    angles = quadrant_angles()
    radii = crossing_radii(lambda points: points.norm(dim=1), 0.7, angles, furthest=2.0)
    torch.testing.assert_close(radii, torch.full_like(radii, 0.7), rtol=0, atol=1e-6)
    half = crossing_radii(lambda points: points[:, 0], 0.7, angles, furthest=2.0)
    assert bool(half[angles.cos() < 0.3].isnan().all())


def test_first_crossing_is_taken() -> None:
    def bump(points: Tensor) -> Tensor:
        return torch.sin(points.norm(dim=1) * math.pi)  # rises, falls, and never rises again up to 2

    radii = crossing_radii(bump, 0.5, quadrant_angles(), furthest=2.0)
    torch.testing.assert_close(radii, torch.full_like(radii, 1 / 6), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("c", "alone"), [(-0.3, 3.98), (-0.2, 3.07), (-0.1, 2.40), (0.0, 2.00), (0.1, 1.75), (0.2, 1.57), (0.3, 1.44)])
def test_quadratic_response_has_exponent_two_jointly_but_not_in_one_quadrant(c: float, alone: float) -> None:
    points = level_set(quadratic(c), furthest=4.0)
    joint = fit_superellipse(points)
    assert joint.p == pytest.approx(2.0, abs=0.01)
    assert joint.c == pytest.approx(c, abs=0.01)
    assert joint.residual < 1e-3
    assert fit_superellipse(quadrant(points, 1.0), cross_term=False).p == pytest.approx(alone, abs=0.02)
    mirrored = {-0.3: 1.44, -0.2: 1.57, -0.1: 1.75, 0.0: 2.0, 0.1: 2.4, 0.2: 3.07, 0.3: 3.98}[c]
    assert fit_superellipse(quadrant(points, -1.0), cross_term=False).p == pytest.approx(mirrored, abs=0.02)


def test_axes_of_different_lengths_are_measured_in_their_own_units() -> None:
    joint = fit_superellipse(level_set(quadratic(0.2, width=0.5, height=1.5), furthest=4.0))
    assert joint.p == pytest.approx(2.0, abs=0.01)
    assert joint.c == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize("p", [1.0, 1.5, 3.0, 4.5])
def test_exponent_of_a_superellipse_is_found(p: float) -> None:
    fit = fit_superellipse(level_set(lambda points: points.abs().pow(p).sum(1).pow(1 / p), furthest=3.0))
    assert fit.p == pytest.approx(p, abs=0.02)
    assert fit.c == pytest.approx(0.0, abs=0.02)


def test_each_half_axis_has_its_own_unit() -> None:
    def lopsided(points: Tensor) -> Tensor:
        x = torch.where(points[:, 0] > 0, points[:, 0], points[:, 0] / 3)
        return (x**2 + points[:, 1] ** 2).sqrt()

    points = level_set(lopsided, furthest=6.0)
    torch.testing.assert_close(points.norm(dim=1), torch.ones(len(points), dtype=points.dtype), rtol=0, atol=1e-4)


def test_threshold_is_set_by_the_weakest_half_axis() -> None:
    def response(points: Tensor) -> Tensor:
        return torch.where(points[:, 0] < 0, points.norm(dim=1).clamp(max=0.4), points.norm(dim=1))

    assert half_axis_threshold(response, furthest=2.0) == pytest.approx(0.2)


def test_level_set_without_a_point_on_a_half_axis_is_refused() -> None:
    angles = quadrant_angles()
    radii = torch.ones_like(angles)
    radii[0] = torch.nan
    with pytest.raises(UserError, match="no point on one of the half axes"):
        in_axis_units(radii, angles)


def test_too_few_points_or_angles_are_refused() -> None:
    with pytest.raises(UserError, match="0 points of the level set are left"):
        fit_superellipse(torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64))
    with pytest.raises(UserError, match="2 angles per quadrant"):
        quadrant_angles(2)


def test_median_has_an_interval_that_holds_it() -> None:
    estimate = bootstrap_median([2.0, 3.0, 3.1, 3.2, 9.0])
    assert estimate.value == 3.1
    assert 2.0 <= estimate.low <= 3.1 <= estimate.high <= 9.0
