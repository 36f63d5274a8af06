from __future__ import annotations

import pytest
import torch

from unbraid.targets.toy_kit.ceiling import seed_ceiling


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
