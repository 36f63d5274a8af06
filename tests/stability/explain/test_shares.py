"""Are planted shares found, do they add up where they should, and is what is undefined left out?"""

from __future__ import annotations

import math

import numpy as np
import pytest

from unbraid.stability.explain.shares import mean_of, null_share, residual, shapley, share, share_above

RANDOM = np.random.default_rng(0)
WHOLE = 0.3 + 0.05 * RANDOM.standard_normal(30)
BARE = WHOLE + 0.4 + 0.05 * RANDOM.standard_normal(30)
TOTAL = BARE - WHOLE


def test_planted_shares_are_found_and_add_up() -> None:
    parts = np.stack([WHOLE + part * TOTAL for part in (0.5, 0.3, 0.2)], axis=1)
    assert [share(parts[:, index], WHOLE, BARE).value for index in range(3)] == pytest.approx([0.5, 0.3, 0.2])
    left = residual(parts, WHOLE, BARE)
    assert left.value == pytest.approx(0, abs=1e-12)
    assert left.n == 30


def test_parts_that_stand_in_for_each_other_and_parts_that_need_each_other_leave_a_residual() -> None:
    spare = np.stack([WHOLE, WHOLE], axis=1)
    chain = np.stack([BARE, BARE], axis=1)
    assert residual(spare, WHOLE, BARE).value == pytest.approx(1)
    assert residual(chain, WHOLE, BARE).value == pytest.approx(-1)


def test_pairs_without_a_width_are_left_out_and_counted() -> None:
    without = WHOLE + 0.5 * TOTAL
    without[:10] = math.nan
    found = share(without, WHOLE, BARE)
    assert (found.n, found.value) == (20, pytest.approx(0.5))
    nothing = share(np.full(30, math.nan), WHOLE, BARE)
    assert nothing.n == 0
    assert math.isnan(nothing.value)
    assert nothing.tree()["value"] is None
    assert "undefined" in nothing.text()


def test_a_share_of_next_to_nothing_is_undefined() -> None:
    nothing = 0.1 * RANDOM.standard_normal(30)
    bare = WHOLE + nothing - nothing.mean() + 0.001
    found = [
        share(WHOLE + 0.1, WHOLE, bare),
        null_share(WHOLE[:, None] + 0.1, WHOLE, bare),
        residual(np.stack([WHOLE, bare], 1), WHOLE, bare),
        share(WHOLE[:1] + 0.1, WHOLE[:1], WHOLE[:1] - 0.1),
    ]
    assert all(math.isnan(value.value) for value in found)
    assert [value.n for value in found] == [30, 30, 30, 1]


def test_the_interval_is_over_pairs() -> None:
    noisy = WHOLE + 0.5 * TOTAL + 0.1 * RANDOM.standard_normal(30)
    found = share(noisy, WHOLE, BARE)
    wanted = 1.96 * 0.1 / 0.4 / 30**0.5
    assert (found.high - found.low) / 2 == pytest.approx(wanted, rel=0.35)
    assert found.low < 0.5 < found.high
    alone = share(noisy[:1], WHOLE[:1], BARE[:1])
    assert math.isnan(alone.low)


def test_a_set_no_better_than_chance_is_not_above_its_null() -> None:
    null = WHOLE[:, None] + 0.2 * TOTAL[:, None] + 0.05 * RANDOM.standard_normal((30, 4))
    assert null_share(null, WHOLE, BARE).value == pytest.approx(0.2, abs=0.05)
    like = share_above(WHOLE + 0.2 * TOTAL + 0.05 * RANDOM.standard_normal(30), null, WHOLE, BARE)
    assert like.low < 0 < like.high
    above = share_above(WHOLE + 0.6 * TOTAL, null, WHOLE, BARE)
    assert above.low > 0.3


def test_one_random_set_per_pair_varies_more_than_the_mean_over_draws() -> None:
    null = WHOLE[:, None] + 0.3 * RANDOM.standard_normal((30, 50))
    many = null_share(null, WHOLE, BARE)
    assert many.high - many.low > 0.2
    assert abs(many.value) < 0.05


def test_shares_over_all_orders_add_up_whatever_the_widths() -> None:
    widths = RANDOM.random((5, 8))
    found = shapley(widths)
    assert found.sum(1) == pytest.approx(widths[:, -1] - widths[:, 0])
    # Two groups of which either is enough to widen: half each.
    assert shapley(np.asarray([[0.2, 0.8, 0.8, 0.8]])) == pytest.approx(np.asarray([[0.3, 0.3]]))
    # One that does everything.
    assert shapley(np.asarray([[0.2, 0.8, 0.2, 0.8]])) == pytest.approx(np.asarray([[0.6, 0.0]]))


def test_a_mean_skips_what_is_undefined() -> None:
    found = mean_of(np.asarray([1.0, math.nan, 3.0]))
    assert (found.value, found.n) == (2, 2)
