from __future__ import annotations

import pytest
import torch

from unbraid.targets.toy_kit.repeated_pairs import RepeatedPairs, at_place, place_of_pair, repeats, unseen

TOKENS = torch.tensor([[48, 3, 7, 5, 2, 2, 7], [48, 9, 4, 4, 1, 6, 9]])


@pytest.mark.parametrize("n_triggers", [0, 3])
def test_the_trigger_stands_exactly_twice(n_triggers: int) -> None:
    tokens = RepeatedPairs(8, 10, n_triggers).batch(0, 500, torch.Generator().manual_seed(0))
    assert bool(((tokens == tokens[:, -1:]).sum(1) == 2).all())
    assert bool((tokens[:, 0] == 8 + n_triggers).all())
    assert sorted(place_of_pair(tokens).unique().tolist()) == list(range(1, 8))
    if n_triggers:
        assert bool((tokens[:, -1] >= 8).all())


def test_the_pair_stands_where_the_last_token_stood_before() -> None:
    assert place_of_pair(TOKENS).tolist() == [2, 1]
    here = at_place(TOKENS, 1, rank=2)
    assert here.shape == (2, 7, 2)
    assert here[0, 3].tolist() == [1, 1]
    assert int(here.isnan().sum()) == 2 * 6 * 2


def test_repeats_are_positions_whose_token_stood_before() -> None:
    assert repeats(TOKENS).tolist() == [1, 1]


def test_unseen_token_is_not_in_the_sequence() -> None:
    tokens = RepeatedPairs(48, 16, 0).batch(0, 64, torch.Generator().manual_seed(3))
    assert not bool((tokens == unseen(tokens, 48)[:, None]).any())
