from __future__ import annotations

import math

import pytest
import torch

from unbraid.core.errors import UserError
from unbraid.stability.engine.paths import centred, geodesic, linear, path_between, ray, unit_tangent

T = torch.linspace(0, 1, 11, dtype=torch.float64)


@pytest.mark.parametrize("kind", ["linear", "geodesic", "centred"])
def test_every_path_has_its_ends_to_the_bit(kind: str) -> None:
    start, end = torch.randn(16), torch.randn(16)

    points = path_between(kind, start, end, torch.randn(16))(T)  # type: ignore[arg-type]

    assert torch.equal(points[0], start)
    assert torch.equal(points[-1], end)


def test_an_arc_changes_norm_evenly_and_turns_evenly_also_past_a_right_angle() -> None:
    start = torch.tensor([2.0, 0.0])
    end = 4 * torch.tensor([math.cos(2.5), math.sin(2.5)])

    points = geodesic(start, end, T)

    assert points.norm(dim=1).tolist() == pytest.approx(torch.linspace(2, 4, 11).tolist(), abs=1e-5)
    assert torch.atan2(points[:, 1], points[:, 0]).tolist() == pytest.approx((2.5 * T).tolist(), abs=1e-5)


def test_an_arc_of_no_angle_is_its_chord() -> None:
    start = torch.randn(8)

    points = geodesic(start, start * (1 + 1e-7), T)

    assert torch.allclose(points, start.expand(11, -1), atol=1e-5)


def test_a_centred_path_keeps_its_distance_from_the_mean() -> None:
    mean, a, b = torch.randn(3, 8)
    a, b = mean + 3 * torch.nn.functional.normalize(a, dim=0), mean + 3 * torch.nn.functional.normalize(b, dim=0)

    points = centred(a, b, T, mean)

    assert (points - mean).norm(dim=1).tolist() == pytest.approx([3.0] * 11, abs=1e-4)
    assert (linear(a, b, T) - mean).norm(dim=1).min() < 2.95


def test_a_ray_turns_by_its_angle_at_its_own_norm() -> None:
    anchor, direction = torch.randn(2, 8)
    angles = torch.tensor([0.0, 0.3, 1.0])

    points = ray(anchor, direction, angles)

    assert points.norm(dim=1).tolist() == pytest.approx([float(anchor.norm())] * 3, rel=1e-5)
    cosines = torch.nn.functional.cosine_similarity(points, anchor[None])
    assert torch.acos(cosines.clamp(-1, 1)).tolist() == pytest.approx(angles.tolist(), abs=1e-3)
    assert abs(float(unit_tangent(anchor, direction) @ anchor)) < 1e-5


def test_what_has_no_path_is_told() -> None:
    a = torch.randn(4)
    with pytest.raises(UserError, match="not zero"):
        geodesic(a, torch.zeros(4), T)
    with pytest.raises(UserError, match="opposite"):
        geodesic(a, -a, T)
    with pytest.raises(UserError, match="along the activation"):
        ray(a, 2 * a, T)
    with pytest.raises(UserError, match="mean"):
        path_between("centred", a, -a)
