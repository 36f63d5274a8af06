from __future__ import annotations

import torch

from unbraid.components.overlap import best_match, firing_sets, jaccard

PLANTED = torch.tensor([[1, 0], [1, 1], [0, 1], [0, 0]]).bool()


def test_a_group_fires_where_any_member_does() -> None:
    active = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1]]).bool()
    assert firing_sets(active, torch.tensor([0, 0, 1]), 2).tolist() == [[True, False], [True, False], [False, True]]


def test_a_label_outside_the_groups_is_in_none() -> None:
    active = torch.ones(2, 2).bool()
    assert firing_sets(active, torch.tensor([0, -1]), 2).tolist() == [[True, False], [True, False]]


def test_jaccard_counts_shared_over_all() -> None:
    torch.testing.assert_close(jaccard(PLANTED, PLANTED), torch.tensor([[1.0, 1 / 3], [1 / 3, 1.0]]))


def test_overlapping_modules_found_score_one_in_any_order() -> None:
    assert best_match(PLANTED, PLANTED.flip(1)).score == 1


def test_groups_by_task_score_less_than_modules() -> None:
    by_task = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]).bool()
    overlap = best_match(PLANTED, by_task)
    assert overlap.found.tolist() == [0.5, 0.5]
    assert overlap.score == 0.5


def test_surplus_groups_lower_what_is_explained_alone() -> None:
    surplus = torch.cat([PLANTED, torch.tensor([[0], [0], [0], [1]]).bool()], dim=1)
    overlap = best_match(PLANTED, surplus)
    assert overlap.found.tolist() == [1, 1]
    assert overlap.explained.tolist() == [1, 1, 0]


def test_no_group_scores_nothing() -> None:
    assert best_match(PLANTED, torch.zeros(4, 0).bool()).score == 0
