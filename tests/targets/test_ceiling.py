from __future__ import annotations

import pytest
import torch

from unbraid.targets.ceiling import rand_index, seed_ceiling


def test_equal_partitions_have_index_one_whatever_their_names() -> None:
    assert rand_index(torch.tensor([0, 0, 1, 2]), torch.tensor([5, 5, -1, 3])) == 1


def test_unrelated_partitions_have_index_near_zero() -> None:
    first, second = torch.randint(0, 4, (2, 4000), generator=torch.Generator().manual_seed(0))
    assert rand_index(first, second) == pytest.approx(0, abs=0.01)


def test_the_index_of_a_worked_example() -> None:
    # Pairs together in both: 2; in the first 2 + 1 = 3 … of 10 pairs; expected 3 * 4 / 10.
    first, second = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 0, 1, 1, 1])
    assert rand_index(first, second) == pytest.approx((2 - 16 / 10) / (4 - 16 / 10))


def test_permuted_neurons_are_matched() -> None:
    activations = torch.randn(500, 6, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    order = torch.tensor([3, 1, 5, 0, 4, 2])
    found = seed_ceiling(activations, activations[:, order], labels, labels[order])
    assert (found.ari, found.matched) == (1, 6)
    assert found.correlation == pytest.approx(1, abs=1e-3)


def test_the_smaller_model_decides_how_many_are_matched() -> None:
    activations = torch.randn(500, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 0, 1, 1])
    assert seed_ceiling(activations, activations[:, :3], labels, labels[:3]).matched == 3
