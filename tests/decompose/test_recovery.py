"""Every comparison with the planted truth, on importances and pieces whose score is known by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from unbraid.decompose.recovery import (
    always_on,
    co_active_error,
    column_match,
    dense_error,
    identity_error,
    matching,
    piece_cosine,
    two_ends_share,
)
from unbraid.targets.toy import load_target
from unbraid.targets.truth import SiteTruth, feature_on

EVERY = torch.ones(5, dtype=torch.bool)


def five(path: str) -> SiteTruth:
    truth = load_target("tms-5-2").truth
    assert truth is not None
    return truth.sites[path]


def written(V: Tensor, U: Tensor) -> SiteTruth:
    return SiteTruth(V=V, U=U, pattern="per_feature", on=feature_on, needed=feature_on)


both_sides = pytest.mark.parametrize("path", ["linear1", "linear2"])


def test_matching_is_the_best_sum_and_not_the_greedy_one() -> None:
    importance = torch.tensor([[0.9, 0.8, 0.0], [0.85, 0.0, 0.0]])
    assert matching(importance).tolist() == [1, 0]


def test_permuted_identity_has_no_error() -> None:
    importance = torch.zeros(5, 9)
    importance[torch.arange(5), torch.tensor([7, 0, 3, 8, 1])] = 1.0
    assert identity_error(importance) == 0


def test_merged_pair_costs_a_missing_entry_and_a_stray_one() -> None:
    importance = torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]])
    assert identity_error(importance) == 2


def test_two_merged_pairs_cost_twice_as_much() -> None:
    pair = torch.ones(2, 1)
    assert identity_error(torch.cat([torch.block_diag(pair, pair), torch.zeros(4, 3)], dim=1)) == 4


@pytest.mark.parametrize(("diagonal", "error"), [(0.95, 0), (0.85, 3), (0.3, 3)])
def test_weak_diagonal(diagonal: float, error: int) -> None:
    assert identity_error(diagonal * torch.eye(3, 6)) == error


@pytest.mark.parametrize(("stray", "error"), [(0.05, 0), (0.15, 1), (1.0, 1)])
def test_surplus_column(stray: float, error: int) -> None:
    importance = torch.eye(3, 5)
    importance[1, 4] = stray
    assert identity_error(importance) == error


def test_surplus_column_that_is_always_on_counts_once_per_probe() -> None:
    importance = torch.eye(3, 5)
    importance[:, 4] = 1.0
    assert identity_error(importance) == 3


def test_every_missing_column_is_an_error() -> None:
    assert identity_error(torch.eye(4)[:, :3]) == 1
    assert identity_error(torch.eye(4)[:, :1]) == 3


def test_tolerance_moves_both_limits() -> None:
    importance = 0.8 * torch.eye(2) + 0.15 * (1 - torch.eye(2))
    assert identity_error(importance, tolerance=0.1) == 4
    assert identity_error(importance, tolerance=0.25) == 0


def test_nothing_ever_on_misses_every_probe() -> None:
    assert identity_error(torch.zeros(4, 6)) == 4


def dense(*columns: float, probes: int = 100) -> Tensor:
    """One column per number: the share of the probes on which it is on."""
    order = torch.arange(probes)[:, None] / probes
    return (order < torch.tensor(columns)).float()


@pytest.mark.parametrize(
    ("columns", "error"),
    [
        ((1.0, 1.0, 0.0, 0.0), 0),
        ((1.0, 0.96, 0.0, 0.0), 0),
        ((1.0, 0.9, 0.0, 0.0), 2),  # one always-on column too few, and one that is neither on nor off
        ((1.0, 0.0, 0.0, 0.0), 1),
        ((1.0, 1.0, 1.0, 0.0), 1),
        ((1.0, 1.0, 0.5, 0.0), 1),
        ((1.0, 1.0, 0.05, 0.0), 0),
        ((1.0, 1.0, 0.06, 0.0), 1),
        ((0.0, 0.0, 0.0, 0.0), 2),
    ],
)
def test_dense_error_of_rank_two(columns: tuple[float, ...], error: int) -> None:
    assert dense_error(dense(*columns), rank=2) == error


def test_column_that_is_half_on_everywhere_is_stray() -> None:
    importance = dense(1.0, 1.0, 0.0)
    importance[:, 2] = 0.5
    assert dense_error(importance, rank=2) == 1


def test_always_on_needs_full_importance_on_nearly_every_probe() -> None:
    importance = dense(1.0, 0.96, 0.9, 0.0, 1.0)
    importance[:, 4] = 0.85
    assert always_on(importance).tolist() == [True, True, False, False, False]


NEEDED = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
OWN = torch.tensor([2, 0])
RIGHT = torch.tensor([[0.05, 0.0, 1.0], [1.0, 0.0, 0.95]])


def changed(row: int, column: int, value: float) -> Tensor:
    importance = RIGHT.clone()
    importance[row, column] = value
    return importance


@pytest.mark.parametrize(
    ("importance", "share"),
    [
        (RIGHT, 0.0),
        (changed(1, 0, 0.5), 1 / 3),  # needed, and not on
        (changed(0, 0, 0.5), 1 / 3),  # on, and not needed
        (changed(0, 1, 0.5), 1 / 3),  # a column that no probe of its own has is never needed
        (torch.zeros(2, 3), 1.0),
        (1 - RIGHT, 2.0),
    ],
)
def test_co_active_error_is_the_share_of_wrong_entries(importance: Tensor, share: float) -> None:
    assert co_active_error(importance, NEEDED, OWN) == pytest.approx(share)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_co_active_error_leaves_out_what_the_truth_does_not_say(value: float) -> None:
    needed = torch.tensor([[1.0, torch.nan], [1.0, 1.0]])
    assert co_active_error(changed(0, 0, value), needed, OWN) == 0


def test_feature_without_a_column_is_wrong_wherever_it_is_needed() -> None:
    assert co_active_error(RIGHT[:, :2], NEEDED, torch.tensor([2, 0])) == pytest.approx(2 / 3)


def test_co_active_error_without_anything_needed_is_a_count() -> None:
    assert co_active_error(torch.tensor([[0.5, 0.0, 0.0]]), torch.zeros(1, 2), OWN) == 1


def test_two_ends_share() -> None:
    assert two_ends_share(torch.tensor([[0.01, 0.97, 0.5, 1.0]])) == pytest.approx(2 / 3)
    assert two_ends_share(torch.eye(3)) == 1
    assert two_ends_share(torch.full((2, 2), 0.5)) == 0
    assert two_ends_share(torch.full((2, 2), 0.04)) == 0


@both_sides
def test_oracle_matches_itself(path: str) -> None:
    site = five(path)
    assert column_match(site.V, site.U, site, EVERY) == pytest.approx((1.0, 1.0))
    assert piece_cosine(site.V, site.U, site, EVERY) == pytest.approx(1.0)


@both_sides
def test_neither_order_nor_scale_between_the_factors_matters(path: str) -> None:
    site = five(path)
    order, scale = torch.tensor([3, 1, 4, 0, 2]), torch.tensor([0.1, 2.0, 5.0, 1.0, 0.3])
    V, U = (site.V * scale)[:, order], (site.U / scale[:, None])[order]
    assert column_match(V, U, site, EVERY) == pytest.approx((1.0, 1.0))
    assert piece_cosine(V, U, site, EVERY) == pytest.approx(1.0)


@both_sides
def test_halved_pieces_have_half_the_length(path: str) -> None:
    site = five(path)
    V, U = torch.cat([site.V, site.V], dim=1), torch.cat([site.U, site.U]) / 2
    alive = torch.ones(10, dtype=torch.bool)
    assert column_match(V, U, site, alive) == pytest.approx((1.0, 0.5))
    assert piece_cosine(V, U, site, alive) == pytest.approx(1.0)


@both_sides
def test_negative_signs_of_both_factors_are_the_same_piece(path: str) -> None:
    site = five(path)
    assert column_match(-site.V, -site.U, site, EVERY) == pytest.approx((1.0, 1.0))
    assert piece_cosine(-site.V, -site.U, site, EVERY) == pytest.approx(1.0)


@both_sides
def test_negative_sign_of_one_factor_is_another_piece(path: str) -> None:
    site = five(path)
    for V, U in ((-site.V, site.U), (site.V, -site.U)):
        assert column_match(V, U, site, EVERY)[0] == pytest.approx(0.0)
        assert piece_cosine(V, U, site, EVERY) < 0.5


@both_sides
def test_dead_subcomponent_finds_nothing(path: str) -> None:
    site = five(path)
    alive = torch.tensor([True, True, False, True, True])
    assert column_match(site.V, site.U, site, alive)[0] == pytest.approx(0.8)
    assert piece_cosine(site.V, site.U, site, alive) < 0.97
    assert column_match(site.V, site.U, site, ~EVERY) == (0.0, 0.0)
    assert piece_cosine(site.V, site.U, site, ~EVERY) == 0.0


def test_the_length_is_that_of_the_best_match() -> None:
    site = written(torch.eye(2), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    V = torch.tensor([[1.0, 0.0, 3.0], [0.0, 1.0, 0.0]])
    U = torch.tensor([[0.8, 0.0], [0.0, 0.6], [1.0, 1.0]])  # the third is longer for the first feature, but points elsewhere
    mmcs, ml2r = column_match(V, U, site, torch.ones(3, dtype=torch.bool))
    assert (mmcs, ml2r) == pytest.approx((1.0, 0.7))


def test_whole_piece_cosine_sees_what_else_a_subcomponent_reads() -> None:
    U = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    site = written(torch.eye(2), U)
    V, one = torch.tensor([[1.0], [1.0]]), torch.ones(1, dtype=torch.bool)
    assert column_match(V, U[:1], site, one) == pytest.approx((1.0, 1.0))
    assert piece_cosine(V, U[:1], site, one) == pytest.approx(math.sqrt(0.5))


def test_written_side_compares_by_the_features_that_are_written() -> None:
    read = torch.tensor([[1.0, 0.6], [0.0, 0.8]])  # two features, read at an angle of cosine 0.6
    site = replace(written(read, torch.eye(2)), compare="write")
    swapped = torch.tensor([[0.6, 1.0], [0.8, 0.0]])
    assert column_match(swapped, torch.eye(2), site, EVERY[:2]) == pytest.approx((0.6, 1.0))


def test_only_what_the_data_lets_a_site_read_is_compared() -> None:
    V, U, basis = torch.eye(3)[:, :2], torch.randn(2, 4), torch.eye(3)[:, :2]
    noisy = V.clone()
    noisy[2] = 5.0
    seen, whole = replace(written(V, U), read_basis=basis), written(V, U)
    assert column_match(noisy, U, seen, EVERY[:2]) == pytest.approx((1.0, 1.0))
    assert piece_cosine(noisy, U, seen, EVERY[:2]) == pytest.approx(1.0)
    assert piece_cosine(noisy, U, whole, EVERY[:2]) < 0.5
