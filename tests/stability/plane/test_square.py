"""The plane goes through its three points, and thin boundaries are told from answers that change evenly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from unbraid.core.errors import UserError
from unbraid.stability.engine.distances import euclidean
from unbraid.stability.plane.square import Sweep, axes_of, closeness, concentration, plane_through, sharpness, sweep


def at(*coordinates: float) -> Tensor:
    return torch.tensor(coordinates, dtype=torch.float32)


def test_the_three_points_have_their_coordinates() -> None:
    a, b, c = torch.randn(3, 7).unbind()
    plane = plane_through(a, b, c)
    found = plane.points(at(0, 1, plane.foot), at(0, 0, 1))
    assert torch.allclose(found, torch.stack([a, b, c]), atol=1e-5)
    assert float(plane.along @ plane.across) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("c", [at(2.0, 2.0), at(0.0, 0.0)])
def test_points_on_one_line_have_no_plane(c: Tensor) -> None:
    with pytest.raises(UserError, match="one line"):
        plane_through(at(0.0, 0.0), at(1.0, 1.0), c)
    with pytest.raises(UserError, match="one line"):
        plane_through(at(1.0, 1.0), at(1.0, 1.0), at(0.0, 3.0))


def test_the_picture_holds_c_wherever_its_foot_lies() -> None:
    inside, outside = (plane_through(at(0.0, 0.0), at(1.0, 0.0), c) for c in (at(0.5, 1.0), at(3.0, 1.0)))
    assert [float(x) for x in axes_of(inside, 5, 0.25)[0][[0, -1]]] == [-0.25, 1.25]
    assert [float(x) for x in axes_of(outside, 5, 0.25)[0][[0, -1]]] == [-0.25, 3.25]


def swept(sharp: float | None) -> Sweep:
    """A plane with a wall half way between A and B and one half way to C; or an answer that is the point itself."""
    anchors = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 1.0], [0.5, 1.0, 1.0]])
    plane = plane_through(*anchors.unbind())

    def answers(x: Tensor) -> tuple[Tensor, Tensor]:
        found = x if sharp is None else torch.sigmoid(sharp * (x - 0.5))
        return found, found

    return sweep(answers, euclidean, plane, axes_of(plane, 81, 0.25), anchors)


def test_an_even_answer_needs_half_of_the_plane_for_half_of_its_change() -> None:
    found = swept(None)
    assert sharpness(found.steps_a, found.steps_b) == pytest.approx(0.5, abs=1e-4)


def test_a_wall_of_known_width_takes_its_known_share() -> None:
    """A logistic step of scale s along an axis of length 1.5 holds half of its change within 2 ln 3 s, and nothing else changes."""
    found = swept(20.0)
    assert sharpness(found.steps_a, found.steps_b) == pytest.approx(2 * np.log(3) / 20 / 1.5, rel=0.03)


def test_sharper_walls_take_less_of_the_plane() -> None:
    shares = [sharpness(found.steps_a, found.steps_b) for found in (swept(5.0), swept(10.0), swept(20.0))]
    assert shares[0] > shares[1] > shares[2]


def test_what_never_changes_has_no_sharpness() -> None:
    assert np.isnan(concentration(np.zeros((4, 4))))


def test_the_grid_has_distance_and_prediction_where_they_belong() -> None:
    found = swept(200.0)
    assert found.others == pytest.approx([1.0, np.sqrt(1 + 0.25)], abs=0.01)
    own = found.distance[20, 15]  # near A's corner
    assert own < 0.01 and found.distance[20, 70] == pytest.approx(1.0, abs=0.01)
    assert set(np.unique(found.label)) <= {0, 1, 2}


def test_closeness_is_1_at_home_and_0_as_far_as_the_others() -> None:
    found = closeness(np.asarray([0.0, 1.0, 2.0, 9.0]), np.asarray([1.0, 3.0]))
    assert found.tolist() == [1.0, 0.5, 0.0, 0.0]
    assert np.isnan(closeness(np.asarray([1.0]), np.zeros(2))).all()
