from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from unbraid.core.errors import UserError
from unbraid.stability.radius.exponent import mixture_exponent, mixture_power, plane_exponent, sign_flip_mean

ALONE = {-0.3: 3.98, -0.2: 3.07, -0.1: 2.40, 0.0: 2.00, 0.1: 1.75, 0.2: 1.57, 0.3: 1.44}
D = 10


def quadratic(c: float, turns: bool, anchor: Tensor) -> Callable[[Tensor], Tensor]:
    """A quadratic form with a cross term, in the coordinates of steps or of turns."""

    def drift(points: Tensor) -> Tensor:
        steps = points - anchor
        if turns:
            aside = torch.where(anchor != 0, 0.0, points)
            angle = torch.atan2(aside.norm(dim=1), points @ anchor / anchor.norm())
            steps = torch.nn.functional.normalize(aside, dim=1) * angle[:, None]
        x, y = steps[:, 1], steps[:, 2]
        return x**2 + y**2 + 2 * c * x * y

    return drift


@pytest.mark.parametrize("turns", [False, True])
@pytest.mark.parametrize("c", [-0.3, -0.1, 0.0, 0.2, 0.3])
def test_quadratic_answer_has_exponent_two_from_four_quadrants_and_not_from_one(c: float, turns: bool) -> None:
    anchor = torch.zeros(D)
    anchor[0] = 3.0
    found = plane_exponent(quadratic(c, turns, anchor), anchor, 2 * torch.eye(D)[1:3], turns, 60.0 if turns else 4.0)
    assert found.p == pytest.approx(2.0, abs=0.1)
    assert found.c == pytest.approx(c, abs=0.02)
    assert found.quadrants == pytest.approx((ALONE[c], ALONE[-c], ALONE[c], ALONE[-c]), abs=0.05)
    both = sign_flip_mean(np.array(found.quadrants[:1]), np.array(found.quadrants[3:]))
    assert float(both[0]) == pytest.approx(2.0, abs=0.15)  # most of the confound goes when the sign of one direction is flipped


@pytest.mark.parametrize("p", [1.5, 3.0, 4.0])
def test_planted_exponent_is_found(p: float) -> None:
    def drift(points: Tensor) -> Tensor:
        return points[:, :2].abs().pow(p).sum(1).pow(1 / p)

    found = plane_exponent(drift, torch.zeros(D), torch.eye(D)[:2], False, 3.0)
    assert found.p == pytest.approx(p, abs=0.1)
    assert found.radius == pytest.approx(1.5, abs=0.02)


def test_level_of_its_own_does_not_depend_on_how_far_is_looked() -> None:
    def drift(points: Tensor) -> Tensor:  # single directions break out first up to 1, and beyond that none is privileged
        size = points.norm(dim=1)
        return torch.where(size < 1, points[:, :2].abs().pow(3).sum(1).pow(1 / 3), size)

    level = [plane_exponent(drift, torch.zeros(D), torch.eye(D)[:2], False, far, level=0.5).p for far in (1.5, 6.0)]
    assert level == pytest.approx([3.0, 3.0], abs=0.1)
    assert plane_exponent(drift, torch.zeros(D), torch.eye(D)[:2], False, 6.0).p == pytest.approx(2.0, abs=0.1)


def test_plane_without_an_answer_is_undefined_and_one_of_equal_directions_refused() -> None:
    found = plane_exponent(lambda points: points[:, 0].clamp(min=0), torch.zeros(D), torch.eye(D)[:2], False, 3.0)
    assert all(math.isnan(value) for value in found.row())
    with pytest.raises(UserError, match="one and the same"):
        plane_exponent(lambda points: points.norm(dim=1), torch.zeros(D), torch.ones(2, D), False, 3.0)


@pytest.mark.parametrize("n", [2, 4, 8])
@pytest.mark.parametrize("p", [1.5, 2.0, 3.0, 4.0])
def test_mixtures_say_the_exponent_that_planes_do(n: int, p: float) -> None:
    sizes = torch.linspace(0.5, 1.5, D)
    found = mixture_exponent(lambda points: (points.abs() / sizes).pow(p).sum(1), torch.zeros(D), 3 * torch.eye(D)[:n], False, 4.0)
    assert found == pytest.approx(p, abs=0.1)


@pytest.mark.parametrize("n", [2, 4, 8])
def test_cross_terms_cancel_over_the_mixtures_of_a_quadratic_answer(n: int, generator: torch.Generator) -> None:
    A = torch.randn(D, D, generator=generator)
    found = mixture_exponent(lambda points: (points @ A).norm(dim=1), torch.zeros(D), torch.randn(n, D, generator=generator), False, 9.0)
    assert found == pytest.approx(2.0, abs=0.01)


def test_equal_mixture_of_perpendicular_directions_has_the_radius_of_the_formula() -> None:
    for n, p in ((2, 3.0), (8, 2.0), (4, 1.25)):
        mixture = n ** (1 / 2 - 1 / p)
        assert mixture_power(np.ones(n), mixture / math.sqrt(n)) == pytest.approx(p, abs=1e-6)
    assert mixture_power(np.ones(4), 0.999) == 10.0  # a cube: every exponent in reach is too small
    assert mixture_power(np.ones(4), 1e-9) == 0.5


def test_mixture_without_an_answer_is_undefined() -> None:
    assert math.isnan(mixture_exponent(lambda points: points[:, 0] * 0, torch.zeros(D), torch.eye(D)[:2], False, 3.0))
