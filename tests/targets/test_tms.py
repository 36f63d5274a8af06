from __future__ import annotations

import pytest
import torch

from unbraid.targets.matrices import weight_of
from unbraid.targets.toy import find_toy, load_target
from unbraid.targets.toy_kit.tms import TMS


@pytest.mark.parametrize("name", ["tms-5-2", "tms-40-10"])
def test_bundled_weights_answer_each_feature(name: str) -> None:
    toy, target = find_toy(name), load_target(name)
    assert isinstance(toy, TMS)
    x = 0.75 * torch.eye(toy.n_features)
    assert bool((target(x).argmax(1) == torch.arange(toy.n_features)).all())


@pytest.mark.parametrize("name", ["tms-5-2", "tms-5-2-id", "tms-40-10", "tms-40-10-id"])
def test_truth_adds_up_to_the_weights(name: str) -> None:
    toy = find_toy(name)
    module = toy.build()
    with torch.no_grad():
        module.get_parameter("linear2.weight").copy_(module.get_parameter("linear1.weight").T)
    truth = toy.truth(module)
    assert tuple(truth.sites) == toy.sites
    for path, site in truth.sites.items():
        torch.testing.assert_close(site.V @ site.U, weight_of(module.get_submodule(path)))


def test_oracle_importance_reads_the_input() -> None:
    target = load_target("tms-5-2")
    assert target.truth is not None
    x = torch.tensor([[0.0, 0.5, 0.0, 0.0, 0.0], [0.0] * 5])
    importance = target.truth.importance(x)["linear1"]
    assert importance.tolist() == [[0, 1, 0, 0, 0], [0, 0, 0, 0, 0]]


def test_identity_is_frozen_in_the_middle() -> None:
    toy = find_toy("tms-5-2-id")
    module = toy.build()
    assert torch.equal(module.get_parameter("hidden.weight"), torch.eye(2))
    truth = toy.truth(module)
    assert truth.sites["hidden"].rank == 2
    assert bool((truth.importance(torch.rand(3, 5))["hidden"] == 1).all())


@pytest.mark.slow
def test_training_learns_every_feature() -> None:
    trained = find_toy("tms-5-2").train(seed=0)
    assert trained.unlearned(share=0.3) == []
