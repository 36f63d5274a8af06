"""Are switches counted and placed as planted, and are the nulls what chance gives?"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from unbraid.stability.explain.importance_path import (
    boundaries,
    cells_of,
    flips,
    gate_signs,
    jaccard_changes,
    mean_offset,
    peak_offset,
    ranking,
    shifted_offsets,
)

T = np.linspace(0, 1, 41)


def planted(switches: list[float]) -> np.ndarray:
    """One part that is always on, and one that comes on at each place."""
    return np.stack([np.ones_like(T) > 0, *(at < T for at in switches)], axis=1)


def test_changes_of_the_active_set_are_jaccard_distances() -> None:
    active = np.asarray([[1, 1, 0], [1, 0, 1], [1, 0, 1], [0, 0, 0], [0, 0, 0]], dtype=bool)
    assert jaccard_changes(active) == pytest.approx([1 - 1 / 3, 0, 1, 0])
    assert flips(active).tolist() == [2, 0, 2, 0]


def test_switches_at_the_boundary_lie_nearer_to_it_than_shifted_ones() -> None:
    density = jaccard_changes(planted([0.69, 0.70, 0.71]))
    for offset in (peak_offset, mean_offset):
        own = offset(density, T, 0.7)
        null = shifted_offsets(offset, density, T, 0.7)
        assert own < 0.02
        assert null.mean() == pytest.approx(0.29, abs=0.03)  # the mean distance of [0, 1] from 0.7
        assert (null <= own).mean() < 0.1


def test_switches_anywhere_are_as_far_as_shifted_ones() -> None:
    density = flips(planted(list(np.arange(0.0125, 1, 0.025)))).astype(float)
    assert mean_offset(density, T, 0.4) == pytest.approx(shifted_offsets(mean_offset, density, T, 0.4).mean())


def test_without_a_switch_there_is_no_place() -> None:
    still = np.zeros(40)
    assert math.isnan(peak_offset(still, T, 0.5))
    assert math.isnan(mean_offset(still, T, 0.5))


def test_cells_are_counted_in_the_flats_and_inside() -> None:
    cells = cells_of(planted([0.11, 0.46, 0.49, 0.52, 0.9]), T, 0.4, 0.6)
    assert (cells.left, cells.right, cells.inside) == (2, 2, 4)
    assert cells.inside_rate == pytest.approx(15)
    assert cells.flat_rate == pytest.approx(2.5)
    assert all(math.isnan(value) for value in cells_of(planted([0.5]), T, math.nan, math.nan))


@pytest.mark.parametrize(("places", "count"), [([], 0), ([0.5], 1), ([0.2, 0.8], 2), ([0.0125], 1)])
def test_jumps_are_peaks_of_the_speed(places: list[float], count: int) -> None:
    middles = (T[:-1] + T[1:]) / 2
    speed = 1 + sum((10 * np.exp(-(((middles - at) / 0.03) ** 2)) for at in places), np.zeros(40))
    assert boundaries(speed) == count


def test_ranking_is_one_where_importance_is_right_and_a_half_where_it_says_nothing() -> None:
    effect = np.arange(10.0)
    assert ranking((effect > 4).astype(float), effect, 0.1) == 1
    assert ranking(np.asarray([1.0, 0] * 5), effect, 0.1) == pytest.approx(0.4)
    assert math.isnan(ranking(np.ones(10), effect, 0.1))


def test_gates_are_found_without_names_and_their_signs_read() -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.tanh() ** 3

    model = nn.Sequential(nn.Linear(3, 5), Odd(), nn.Dropout(0.0), nn.Linear(5, 2))
    x = torch.randn(4, 3)
    signs = gate_signs(model, lambda: model(x), None)
    assert signs is not None
    assert torch.equal(signs, model[0](x) > 0)
    assert gate_signs(nn.Linear(3, 2), lambda: None, None) is None
