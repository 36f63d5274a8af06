from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2

from unbraid.targets.text.order import permute, place_in_epochs


@pytest.mark.parametrize("total", [1, 2, 3, 7, 64, 65, 1000, 4097])
def test_a_permutation_has_every_index_once(total: int) -> None:
    assert sorted(permute(np.arange(total), total, 5).tolist()) == list(range(total))


def test_every_index_lands_anywhere_equally_often() -> None:
    total, keys = 64, 400
    counts = np.zeros((total, total))
    for key in range(keys):
        counts[np.arange(total), permute(np.arange(total), total, key)] += 1
    statistic = ((counts - keys / total) ** 2).sum() * total / keys * (total - 1) / total
    assert 0.001 < chi2.sf(statistic, (total - 1) ** 2) < 0.999  # rows and columns have fixed sums


def test_neighbours_do_not_stay_together() -> None:
    order = permute(np.arange(20_000), 20_000, 1)
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.03
    assert (np.abs(np.diff(order)) == 1).mean() < 0.001


def test_the_order_is_the_same_on_every_machine() -> None:
    assert permute(np.arange(8), 8, 1).tolist() == [5, 0, 4, 2, 1, 7, 3, 6]


def test_each_epoch_has_every_window_in_an_order_of_its_own() -> None:
    read = place_in_epochs(0, 3 * 50, 50, seed=3).reshape(3, 50)
    assert all(sorted(epoch.tolist()) == list(range(50)) for epoch in read)
    assert not (read[0] == read[1]).all() and not (read[1] == read[2]).all()
    assert (place_in_epochs(45, 20, 50, seed=3) == read.flatten()[45:65]).all()
    assert (place_in_epochs(0, 50, 50, seed=4) != read[0]).any()


def test_a_place_far_into_a_long_text_costs_no_memory() -> None:
    places = place_in_epochs(10**13, 4, 10**11, seed=0)
    assert len(set(places.tolist())) == 4 and places.max() < 10**11
