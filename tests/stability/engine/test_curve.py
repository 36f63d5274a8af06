from __future__ import annotations

import math

import numpy as np
import pytest

from unbraid.stability.engine.curve import (
    boundaries,
    cumulative,
    half_mass_width,
    measure_curve,
    one_sided,
    speed,
    two_sided,
    where_to_refine,
)


def planted(t: np.ndarray, place: float, scale: float) -> np.ndarray:
    """An answer that goes from 0 to 1 as a logistic, whose width from 10 to 90 % is `2 ln 9 × scale`."""
    raw = 1 / (1 + np.exp(-(t - place) / scale))
    ends = 1 / (1 + np.exp(-(np.array([0.0, 1.0]) - place) / scale))
    return (raw - ends[0]) / (ends[1] - ends[0])


def measured(t: np.ndarray, answer: np.ndarray, floor: float = 0.0):
    return measure_curve(t, np.abs(answer - answer[0]), np.abs(answer - answer[-1]), np.abs(np.diff(answer)), floor)


def refined(place: float, scale: float) -> np.ndarray:
    t = np.linspace(0, 1, 51)
    for _ in range(2):
        t = np.sort(np.concatenate([t, where_to_refine(t, planted(t, place, scale), 6)]))
    return t


@pytest.mark.parametrize(("place", "scale"), [(0.5, 0.05), (0.31, 0.02), (0.7, 0.005), (0.437, 0.002)])
def test_a_planted_boundary_is_measured_within_two_percent_and_its_width_within_five(place: float, scale: float) -> None:
    t = refined(place, scale)

    found = measured(t, planted(t, place, scale))

    assert found.t50 == pytest.approx(place, rel=0.02)
    assert found.width == pytest.approx(2 * math.log(9) * scale, rel=0.05)
    assert found.boundaries == (pytest.approx(place, rel=0.02),)


def test_a_straight_way_has_width_0_8_no_plateau_and_no_boundary() -> None:
    t = np.linspace(0, 1, 51)

    found = measured(t, t.copy())

    assert found.width == pytest.approx(0.8, abs=1e-9)
    assert found.half_mass == pytest.approx(0.5, abs=1e-9)
    assert found.steepest == pytest.approx(1.0)
    assert found.boundaries == ()
    assert not found.strict
    assert not found.lenient


def test_sharp_curves_with_flats_on_both_sides_are_plateaus_and_one_sided_ones_are_not() -> None:
    t = refined(0.5, 0.02)
    both = measured(t, planted(t, 0.5, 0.02))
    early = refined(0.06, 0.01)

    assert both.strict
    assert both.lenient
    assert not measured(early, planted(early, 0.06, 0.01)).strict


def test_a_curve_that_turns_back_has_no_width() -> None:
    t = np.linspace(0, 1, 51)

    found = measured(t, t + 0.5 * np.sin(6 * np.pi * t))

    assert math.isnan(found.width)
    assert found.steadiness < 0.8


def test_ends_that_differ_no_more_than_two_runs_of_the_same_point_give_nothing() -> None:
    t = np.linspace(0, 1, 51)

    found = measured(t, 1e-6 * t, floor=1e-6)

    assert math.isnan(found.width)
    assert math.isnan(found.t50)
    assert found.separation == pytest.approx(1e-6)


def test_two_boundaries_are_both_found_with_their_shares_of_the_way() -> None:
    t = np.linspace(0, 1, 101)
    answer = 0.7 * planted(t, 0.25, 0.01) + 0.3 * planted(t, 0.8, 0.01)

    places, widths, masses = boundaries(t, np.abs(np.diff(answer)))

    assert places == pytest.approx((0.25, 0.8), abs=0.01)
    # A logistic's density has width 2 ln(3 + 2 √2) × scale at half height, in which 1/√2 of its mass lies.
    assert widths == pytest.approx((0.0353, 0.0353), rel=0.15)
    assert masses == pytest.approx((0.7 / math.sqrt(2), 0.3 / math.sqrt(2)), rel=0.15)


def test_speed_has_integral_one_and_the_way_ends_at_one() -> None:
    t = refined(0.4, 0.03)
    steps = np.abs(np.diff(planted(t, 0.4, 0.03)))

    assert (speed(t, steps) * np.diff(t)).sum() == pytest.approx(1.0)
    assert cumulative(steps)[-1] == pytest.approx(1.0)


@pytest.mark.parametrize("scale", [0.1, 0.05, 0.025])
def test_the_half_mass_width_of_a_logistic_is_2_ln_3_scales(scale: float) -> None:
    t = np.linspace(0, 1, 401)

    assert half_mass_width(t, np.diff(planted(t, 0.5, scale))) == pytest.approx(2 * math.log(3) * scale, rel=0.06)


def test_distances_are_what_their_names_say_and_undefined_where_nothing_moves() -> None:
    to_start, to_end = np.array([0.0, 1.0, 4.0]), np.array([4.0, 3.0, 0.0])

    assert two_sided(to_start, to_end).tolist() == [0, 0.25, 1]
    assert one_sided(to_start).tolist() == [0, 0.25, 1]
    assert np.isnan(two_sided(np.zeros(3), np.zeros(3))).all()
    assert np.isnan(one_sided(np.zeros(3))).all()
    assert np.isnan(cumulative(np.zeros(2))).all()


def test_new_places_go_where_most_happens() -> None:
    t = np.linspace(0, 1, 11)
    jump = (t > 0.55).astype(float)

    new = where_to_refine(t, jump, 5)

    assert len(new) == 5
    assert ((new > 0.5) & (new < 0.6)).all()
