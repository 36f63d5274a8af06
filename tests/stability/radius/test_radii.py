from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from unbraid.core.errors import UserError
from unbraid.stability.engine.distances import euclidean
from unbraid.stability.engine.paths import ray
from unbraid.stability.radius.radii import Crossings, crossings, is_plateau, normals
from unbraid.stability.radius.rays import Rays
from unbraid.stability.radius.thickness import peak_at, thicknesses

D = 8


def wall(at: float, scale: float, direction: Tensor, anchor: Tensor) -> object:
    """An answer that changes at a distance along a direction, over a width of 3.5255 scales (half height of a logistic's slope)."""

    def response(points: Tensor) -> Tensor:
        way = (points - anchor) @ direction
        return torch.stack([torch.sigmoid((way - at) / scale), torch.zeros_like(way)], dim=1)

    return response


def growth(power: float) -> object:
    """Progress that grows with a power of the distance moved and is 1 at a distance of 2."""
    return lambda points: (points.norm(dim=1, keepdim=True) / 2) ** power


def measure(progress: object, rays: Rays, furthest: float = 6.0) -> Crossings:
    return crossings(progress, rays, furthest, grid=30, tolerance=furthest / 900)  # type: ignore[arg-type]


@pytest.mark.parametrize("turns", [False, True])
def test_points_lie_where_paths_say(turns: bool) -> None:
    anchor, directions = 3 * torch.randn(D), torch.randn(4, D)
    rays = Rays.towards(anchor, directions, turns)
    radii = torch.tensor([0.0, 10.0, 75.0])
    points = rays.grid(radii).view(4, 3, D)
    for own, direction in zip(points, directions, strict=True):
        expected = ray(anchor, direction, radii * math.pi / 180) if turns else anchor + radii[:, None] * direction / direction.norm()
        torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-4)


def test_direction_of_length_zero_is_refused() -> None:
    with pytest.raises(UserError, match="nowhere to go"):
        Rays.towards(torch.ones(3), torch.zeros(1, 3), turns=False)


@pytest.mark.parametrize(("at", "scale"), [(1.0, 0.05), (2.0, 0.15), (3.5, 0.3)])
def test_planted_boundary_has_its_place_and_thickness(at: float, scale: float) -> None:
    anchor = torch.randn(D)
    rays = Rays.towards(anchor, torch.eye(D)[:1] + 0.2 * torch.randn(3, D), turns=False)
    direction = torch.eye(D)[0]
    response = wall(at, scale, direction, anchor)
    base = response(anchor[None])  # type: ignore[operator]
    slant = rays.directions @ direction  # a ray that meets the wall at an angle goes further, and through more of it

    def progress(points: Tensor) -> Tensor:
        return (response(points) - base).norm(dim=1, keepdim=True) / 0.5  # type: ignore[operator]

    found = measure(progress, rays)
    torch.testing.assert_close(found.radii[:, 0].float(), at / slant, rtol=0.02, atol=0)
    assert bool(is_plateau(found.halfway).all())
    width = thicknesses(response, euclidean, rays, found.radii[:, 0], 6.0)  # type: ignore[arg-type]
    torch.testing.assert_close(width.float(), 2 * scale * 2 * math.acosh(math.sqrt(2)) / slant, rtol=0.05, atol=0)
    normal = normals(progress, rays.points(torch.arange(3), found.radii[:, 0]))
    torch.testing.assert_close(normal @ direction, torch.ones(3), rtol=0, atol=1e-4)  # one flat wall: all normals are one


@pytest.mark.parametrize(("power", "halfway"), [(1.0, 0.5), (2.0, 0.25), (4.0, 0.0625)])
def test_half_way_says_how_the_answer_grows(power: float, halfway: float) -> None:
    rays = Rays.towards(torch.zeros(D), torch.randn(3, D), turns=False)
    found = measure(growth(power), rays)
    torch.testing.assert_close(found.radii, torch.full_like(found.radii, 2.0), rtol=0.005, atol=0)
    torch.testing.assert_close(found.halfway, torch.full_like(found.halfway, halfway), rtol=0.02, atol=0)


def test_linear_answer_has_no_plateau_in_a_distance_nor_in_its_square() -> None:
    rays = Rays.towards(torch.zeros(D), torch.randn(20, D), turns=False)
    assert not bool(is_plateau(measure(growth(1.0), rays).halfway).any())
    squared = measure(growth(2.0), rays).halfway  # what the square of that distance is
    assert not bool(is_plateau(squared, squared=True).any())
    assert bool(is_plateau(measure(growth(3.0), rays).halfway).all())


def test_linear_answer_has_no_thickness() -> None:
    rays = Rays.towards(torch.zeros(D), torch.randn(3, D), turns=False)
    widths = thicknesses(lambda points: points, euclidean, rays, torch.full((3,), 2.0), 6.0)
    assert bool(widths.isnan().all())


def test_rays_that_cross_nowhere_are_censored_not_counted() -> None:
    rays = Rays.towards(torch.zeros(D), torch.cat([torch.eye(D)[:2], -torch.eye(D)[:2]]), turns=False)
    found = measure(lambda points: points[:, :1] / 2, rays)  # answers only to the first direction, and only forwards
    assert found.radii[:, 0].isfinite().tolist() == [True, False, False, False]
    assert found.halfway[:, 0].isnan().tolist() == [False, True, True, True]
    assert bool(found.radii[1:].isinf().all())


def test_each_threshold_has_its_own_crossing() -> None:
    rays = Rays.towards(torch.zeros(D), torch.eye(D)[:1], turns=False)
    found = measure(lambda points: torch.stack([points[:, 0] / 2, points[:, 0] / 5, points[:, 0] / 50], dim=1), rays)
    assert found.radii[0].tolist() == [pytest.approx(2, rel=0.005), pytest.approx(5, rel=0.005), math.inf]


def test_first_crossing_is_taken() -> None:
    rays = Rays.towards(torch.zeros(D), torch.eye(D)[:1], turns=False)
    found = measure(lambda points: 2 * torch.sin(points[:, :1]), rays)
    assert float(found.radii) == pytest.approx(math.asin(0.5), abs=0.01)


def test_peak_is_the_one_that_the_crossing_lies_on() -> None:
    at = torch.linspace(0, 10, 401).numpy()
    speed = 3 / (1 + ((at - 2) / 0.2) ** 2) + 1 / (1 + ((at - 7) / 0.5) ** 2)
    place, width = peak_at(at, speed, near=6.8)
    assert place == pytest.approx(7, abs=0.05)
    assert width == pytest.approx(1.0, rel=0.05)
