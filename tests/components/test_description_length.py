"""The merge is the greedy one of the formula: every change of length is the difference of two lengths, computed the long way."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest
from numpy import ndarray
from scipy.stats import binom, norm

from unbraid.components.description_length import belong, co_activation, description_length, merge_by_length, merge_costs


def fires(n: int = 12, datapoints: int = 300, rate: float = 0.2, seed: int = 0) -> ndarray:
    """Members of three hidden causes, with noise."""
    random = np.random.default_rng(seed)
    causes = random.random((datapoints, 3)) < rate
    return (causes[:, np.arange(n) % 3] & (random.random((datapoints, n)) < 0.9)) | (random.random((datapoints, n)) < 0.01)


def length_of(activity: ndarray, groups: list[list[int]], alpha: float) -> float:
    """The description length, written out."""
    return sum(float(activity[:, group].any(1).mean()) * (math.log2(len(groups)) + alpha * len(group)) for group in groups)


def merged(groups: list[list[int]], i: int, j: int) -> list[list[int]]:
    return [group for index, group in enumerate(groups) if index not in (i, j)] + [sorted(groups[i] + groups[j])]


def by_brute_force(activity: ndarray, alpha: float, evidence: float | None) -> list[list[int]]:
    groups = [[index] for index in range(activity.shape[1])]
    while len(groups) > 1:
        best, found = -1e-9, None
        for i, j in itertools.combinations(range(len(groups)), 2):
            a, b = activity[:, groups[i]].any(1), activity[:, groups[j]].any(1)
            both, rarer, commoner = (a & b).sum(), min(a.sum(), b.sum()), max(a.mean(), b.mean())
            if evidence is not None and binom.sf(both - 1, rarer, commoner) >= norm.sf(evidence) and both < 0.9 * (a | b).sum() - 1e-9:
                continue
            change = length_of(activity, merged(groups, i, j), alpha) - length_of(activity, groups, alpha)
            if change < best - 1e-12:
                best, found = change, (i, j)
        if found is None:
            break
        groups = merged(groups, *found)
    return sorted(groups)


def groups_of(labels: ndarray) -> list[list[int]]:
    return sorted(np.flatnonzero(labels == label).tolist() for label in range(labels.max() + 1))


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0, 3.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_change_is_the_difference_of_two_lengths(alpha: float, seed: int) -> None:
    activity = fires(seed=seed)
    groups = [[0, 3], [1], [2, 5, 8], [4], [6, 7], [9, 10, 11]]
    union = np.stack([activity[:, group].any(1) for group in groups], axis=1)
    together = co_activation(union) / len(union)
    sizes = np.array([len(group) for group in groups], dtype=float)
    before = length_of(activity, groups, alpha)
    assert description_length(together.diagonal(), sizes, alpha) == pytest.approx(before)
    changes = merge_costs(together.diagonal(), together, sizes, alpha)
    for i, j in itertools.permutations(range(len(groups)), 2):
        assert changes[i, j] == pytest.approx(length_of(activity, merged(groups, i, j), alpha) - before, abs=1e-12)


def test_change_is_the_published_formula() -> None:
    rates, sizes, alpha = np.array([0.2, 0.3, 0.1]), np.array([2.0, 1.0, 4.0]), 0.7
    together = np.array([[0.2, 0.15, 0.0], [0.15, 0.3, 0.05], [0.0, 0.05, 0.1]])
    k, total, union = 3, 0.6, 0.2 + 0.3 - 0.15
    wanted = (total - 0.5) * math.log2((k - 1) / k) + union * math.log2(k - 1) - 0.5 * math.log2(k)
    wanted += alpha * (union * 3 - 0.2 * 2 - 0.3 * 1)
    assert merge_costs(rates, together, sizes, alpha)[0, 1] == pytest.approx(wanted)


@pytest.mark.parametrize("alpha", [0.2, 1.0])
@pytest.mark.parametrize("evidence", [None, 0.0, 5.0])
@pytest.mark.parametrize("seed", range(4))
def test_greedy_merge_is_that_of_brute_force(alpha: float, evidence: float | None, seed: int) -> None:
    activity = fires(n=9, seed=seed)
    assert groups_of(merge_by_length(activity, alpha, evidence).labels) == by_brute_force(activity, alpha, evidence)


def test_lengths_fall_and_end_at_the_length_of_the_groups() -> None:
    activity = fires()
    grouping = merge_by_length(activity, 0.5)
    assert all(after < before for before, after in itertools.pairwise(grouping.lengths))
    assert grouping.lengths[-1] == pytest.approx(length_of(activity, groups_of(grouping.labels), 0.5))


def test_hidden_causes_are_the_groups() -> None:
    assert merge_by_length(fires(n=30, datapoints=2000), 1.0).labels.tolist() == [index % 3 for index in range(30)]


def pair_among(k: int, q: float, block: int = 100) -> ndarray:
    """k pieces as frequent as each other, of which only the first two fire together, on a part q of their firings."""
    activity = np.zeros((k * block, k), dtype=bool)
    for index in range(k):
        activity[index * block : (index + 1) * block, index] = True
    activity[block : 2 * block, 1] = False
    start = round((1 - q) * block)
    activity[start : start + block, 1] = True
    return activity


@pytest.mark.parametrize("q", [0.05, 0.3, 0.5, 0.8])
@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, 6.0])
def test_pair_merges_by_the_rule_of_thumb(q: float, alpha: float) -> None:
    """Rule of thumb: merge when α < q / (1 - q) · log2(k) / 2. What it leaves out, a shorter name for all others, adds log2(e) / 2(1 - q)."""
    k = 64
    rule, rest = q / (1 - q) * math.log2(k - 1) / 2, math.log2(math.e) / (2 * (1 - q))
    labels = merge_by_length(pair_among(k, q), alpha).labels
    if alpha < rule:
        assert labels[0] == labels[1]
    if alpha > 1.02 * (rule + rest):
        assert labels[0] != labels[1]
    assert len(set(labels[2:].tolist())) == k - 2


def test_what_never_fires_together_is_never_merged_by_evidence() -> None:
    activity = np.zeros((1000, 12), dtype=bool)
    for index in range(10):
        activity[100 * index : 100 * index + 90, index] = True
    activity[995, 10] = activity[996, 11] = True
    assert len(set(merge_by_length(activity, 1.0, evidence=None).labels.tolist())) < 12  # rare pieces are lumped together
    assert len(set(merge_by_length(activity, 1.0).labels.tolist())) == 12


def test_rare_independent_features_stay_apart() -> None:
    # Of 4,950 pairs that fire on one datapoint in 120 some fire together nine times; a bell curve would call that five deviations.
    activity = np.random.default_rng(0).random((20_000, 100)) < 1 / 120
    assert len(set(merge_by_length(activity, 0.1).labels.tolist())) == 100


def test_a_single_common_firing_is_no_evidence() -> None:
    activity = np.zeros((10_000, 2), dtype=bool)
    activity[:50, 0] = True
    activity[49:51, 1] = True
    rates = activity.mean(0)
    together = co_activation(activity) / 10_000
    assert not belong(rates[:, None], rates, together, 10_000, 5.0)[0, 1]


def test_always_on_pieces_are_one_group_and_swallow_no_other() -> None:
    random = np.random.default_rng(0)
    modules = np.repeat(random.random((5000, 12)) < 0.3, 2, axis=1)
    activity = np.concatenate([np.ones((5000, 3), dtype=bool), modules], axis=1)
    labels = merge_by_length(activity, 1.0).labels
    assert labels.tolist() == [0, 0, 0, *[1 + index // 2 for index in range(24)]]


def test_silent_datapoints_may_be_left_out() -> None:
    activity = fires(rate=0.05)
    spoken = activity[activity.any(1)]
    whole, part = merge_by_length(activity, 1.0), merge_by_length(spoken, 1.0, total=len(activity))
    assert whole.labels.tolist() == part.labels.tolist()
    assert whole.lengths == pytest.approx(part.lengths)


@pytest.mark.parametrize("n", [0, 1])
def test_nothing_to_merge(n: int) -> None:
    assert merge_by_length(np.ones((5, n), dtype=bool)).labels.tolist() == [0] * n


def test_order_of_subcomponents_does_not_matter() -> None:
    activity = fires(n=15, datapoints=500)
    order = np.random.default_rng(1).permutation(15)
    straight, turned = merge_by_length(activity).labels, merge_by_length(activity[:, order]).labels
    same = straight[order][:, None] == straight[order][None, :]
    assert (same == (turned[:, None] == turned[None, :])).all()


def test_firing_alike_belongs_together_at_any_rate() -> None:
    rates, together = np.array([1.0, 1.0, 0.5]), np.array([[1.0, 1.0, 0.5], [1.0, 1.0, 0.5], [0.5, 0.5, 0.5]])
    assert belong(rates[:, None], rates, together, 100, 5.0).tolist() == [[True, True, False], [True, True, False], [False, False, True]]


def test_hundreds_of_subcomponents_take_moments() -> None:
    began = time.process_time()
    random = np.random.default_rng(0)
    modules = random.random((10_000, 50)) < 0.02
    labels = merge_by_length(np.repeat(modules, 8, axis=1)).labels
    assert labels.tolist() == [index // 8 for index in range(400)]
    assert time.process_time() - began < 5
