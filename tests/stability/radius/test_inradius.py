from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from unbraid.stability.engine.distances import root_divergence
from unbraid.stability.radius.inradius import fisher_radius, inradius, largest_eigenvalue
from unbraid.stability.radius.radii import crossings
from unbraid.stability.radius.rays import Rays

D = 20


@pytest.mark.parametrize("turns", [False, True])
def test_nearest_point_of_a_flat_wall_is_found_where_random_rays_miss_it(turns: bool) -> None:
    anchor = torch.zeros(D)
    anchor[0] = 5.0
    normal = torch.eye(D)[1]
    level = 5 * math.sin(math.radians(10.0)) if turns else 3.0

    def progress(points: Tensor) -> Tensor:
        return ((points - anchor) @ normal)[:, None] / level

    rays = Rays.towards(anchor, torch.randn(40, D), turns)
    furthest, nearest = (90.0, 10.0) if turns else (40.0, 3.0)
    radii = crossings(progress, rays, furthest, 40, furthest / 900).radii[:, 0]
    found, direction = inradius(progress, rays, radii, furthest / 900, steps=20)
    assert float(radii.min()) > 1.1 * nearest
    assert found == pytest.approx(nearest, rel=0.02)
    assert direction is not None and float(direction @ normal) > 0.97


def test_no_start_crosses_and_nothing_is_found() -> None:
    rays = Rays.towards(torch.zeros(3), torch.eye(3), turns=False)
    assert inradius(lambda points: points[:, :1] * 0, rays, torch.full((3,), math.inf), 0.1, 5) == (math.inf, None)


def test_fisher_radius_of_a_linear_answer_is_that_of_its_largest_singular_value() -> None:
    A = torch.randn(7, D)
    anchor = 4 * torch.randn(D)
    found, direction = fisher_radius(lambda points: points @ A.T, anchor, 0.5, turns=False)
    _, sizes, right = torch.linalg.svd(A)
    assert found == pytest.approx(0.5 / float(sizes[0]), rel=1e-3)
    assert abs(float(direction @ right[0])) > 0.98
    along = anchor / anchor.norm()
    sideways = torch.linalg.svdvals(A - torch.outer(A @ along, along))[0]  # a turn moves only perpendicular to the anchor
    turned, direction = fisher_radius(lambda points: points @ A.T, anchor, 0.5, turns=True)
    assert turned == pytest.approx(math.degrees(0.5 / float(sideways) / float(anchor.norm())), rel=1e-3)
    assert abs(float(direction @ along)) < 1e-4


def test_fisher_radius_of_a_distribution_is_where_its_divergence_reaches_the_threshold() -> None:
    A = torch.randn(9, D) * 0.3
    anchor = torch.randn(D)
    bits = 1e-4  # small, so that the quadratic prediction is all there is
    reach = math.sqrt(bits) * math.sqrt(8 * math.log(2))
    radius, direction = fisher_radius(lambda points: 2 * (points @ A.T).softmax(-1).sqrt(), anchor, reach, turns=False)
    there = (anchor + radius * direction) @ A.T
    assert float(root_divergence(there, anchor @ A.T)) ** 2 == pytest.approx(bits, rel=0.05)
    p = (anchor @ A.T).softmax(-1)
    fisher = A.T @ (torch.diag(p) - torch.outer(p, p)) @ A
    tau_kl = 4 * math.log(2) * bits  # KL in nats is four times the JSD for small moves
    assert radius == pytest.approx(math.sqrt(2 * tau_kl / float(torch.linalg.eigvalsh(fisher)[-1])), rel=1e-3)


def test_boundary_of_an_answer_that_stays_and_then_jumps_is_nearer_than_its_slope_says() -> None:
    anchor = torch.zeros(D)

    def response(points: Tensor) -> Tensor:
        return 0.05 * points[:, :2] + points[:, :2] ** 3

    def progress(points: Tensor) -> Tensor:
        return response(points).norm(dim=1, keepdim=True) / 0.5

    predicted, _ = fisher_radius(response, anchor, 0.5, turns=False)
    rays = Rays.towards(anchor, torch.randn(8, D), turns=False)
    radii = crossings(progress, rays, 20.0, 40, 0.01).radii[:, 0]
    found, _ = inradius(progress, rays, radii, 0.001, steps=20)
    assert predicted == pytest.approx(10.0, rel=1e-3)
    assert found == pytest.approx(0.7729, rel=0.02)  # 0.05 r + r³ = 0.5: nearer, since the answer speeds up
    assert found / predicted < 1


def test_boundary_of_an_answer_that_saturates_is_further_than_its_slope_says() -> None:
    anchor = torch.zeros(3)
    predicted, direction = fisher_radius(lambda points: points[:, :1].tanh(), anchor, 0.9, turns=False)
    rays = Rays.towards(anchor, torch.stack([direction, -direction]), turns=False)
    radii = crossings(lambda points: points[:, :1].tanh().abs() / 0.9, rays, 5.0, 40, 0.001).radii[:, 0]
    found, _ = inradius(lambda points: points[:, :1].tanh().abs() / 0.9, rays, radii, 0.001, steps=5)
    assert predicted == pytest.approx(0.9, rel=1e-3)
    assert found == pytest.approx(math.atanh(0.9), rel=0.01)


def test_answer_that_does_not_move_at_first_has_no_fisher_radius() -> None:
    radius, _ = fisher_radius(lambda points: points**2, torch.zeros(3), 1.0, turns=False)
    assert radius == math.inf


def test_eigenvalue_is_the_largest() -> None:
    A = torch.randn(6, 6)
    value, vector = largest_eigenvalue(lambda v: A @ (A.T @ v), torch.randn(6))
    assert value == pytest.approx(float(torch.linalg.svdvals(A)[0] ** 2), rel=1e-2)
    assert float(vector.norm()) == pytest.approx(1, abs=1e-5)
