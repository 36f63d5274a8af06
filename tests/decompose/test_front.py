"""When does one way of cutting up a model beat another? Never by a tie, by chance, or where nothing can be compared."""

from __future__ import annotations

import math

import pytest

from unbraid.decompose.front import Point, beats, compare_fronts, pareto_front, parts_at
from unbraid.decompose.plot_front import front_data, plot_front

OURS = [Point(100, 0.01), Point(10, 0.1), Point(40, 0.2)]
WORSE = [Point(300, 0.02), Point(30, 0.15)]


def test_a_point_that_another_one_beats_in_both_is_not_on_the_front() -> None:
    assert pareto_front(OURS) == [Point(10, 0.1), Point(100, 0.01)]
    assert pareto_front([Point(5, 1.0), Point(5, 2.0), Point(7, 1.0)]) == [Point(5, 1.0)]


def test_parts_between_two_points_follow_a_power_law() -> None:
    front = pareto_front(OURS)
    assert parts_at(front, math.sqrt(0.1 * 0.01)) == pytest.approx(math.sqrt(10 * 100))
    assert parts_at(front, 0.5) == 10  # a run that loses less loses no more than this
    assert parts_at(front, 0.001) is None
    assert parts_at([], 0.1) is None


def test_fewer_parts_at_every_loss_wins() -> None:
    assert beats(OURS, WORSE)
    assert not beats(WORSE, OURS)
    assert all(each.ours < each.theirs for each in compare_fronts(OURS, WORSE))


def test_nothing_wins_by_a_tie_or_without_a_comparison() -> None:
    assert not beats(OURS, OURS)
    assert not beats(OURS, [])
    assert not beats([], WORSE)


def test_fronts_that_cross_win_nothing() -> None:
    crossing = [Point(90, 0.01), Point(20, 0.1)]
    assert not beats(OURS, crossing)
    assert not beats(crossing, OURS)


def test_a_loss_that_only_the_other_reaches_is_not_passed_over() -> None:
    assert not beats(OURS, [*WORSE, Point(1000, 0.001)])


def test_the_figure_says_which_runs_are_beaten() -> None:
    data = front_data({"learned": OURS, "neurons": WORSE}, "carroll", "nats")
    assert [point["on_front"] for point in data["ways"][0]["points"]] == [True, False, True]
    assert plot_front({"learned": OURS, "neurons": WORSE}, "carroll").svg().startswith("<")
