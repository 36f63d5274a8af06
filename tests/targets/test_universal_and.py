from __future__ import annotations

import pytest
import torch

from unbraid.targets.matrices import weight_of
from unbraid.targets.toy import Toy, find_toy
from unbraid.targets.toy_kit.mlp import MLP
from unbraid.targets.toys.universal_and import participation


def toy(**knobs: object) -> Toy:
    return type(find_toy("u-and")).parse({"kind": "u-and", **knobs})


def one_neuron_per_pair(small: Toy) -> MLP:
    """The solution that is claimed: `ReLU(x_i + x_j - 1)` for each pair."""
    n = small.both.shape[1]
    pairs = torch.combinations(torch.arange(n))
    module = MLP((n, len(pairs), len(pairs)), bias=True)
    with torch.no_grad():
        module.get_parameter("linear1.weight").copy_(torch.nn.functional.one_hot(pairs, n).sum(1).float())
        module.get_parameter("linear1.bias").fill_(-1.0)
        module.get_parameter("linear2.weight").copy_(torch.eye(len(pairs)))
        module.get_parameter("linear2.bias").zero_()
    x = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * n)
    torch.testing.assert_close(module(x), small.wanted(x))
    return module.requires_grad_(False)


def test_outputs_are_the_ands_of_all_pairs() -> None:
    small = toy(n_features=3, neurons=2)
    wanted = small.wanted(torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 0.0]]))
    assert wanted.tolist() == [[1.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]
    assert small.naive(torch.ones(1, 3)).tolist() == [[1.0, 1.0, 0.0]]


def test_participation_counts_who_takes_part() -> None:
    parts = torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, -1.0, 1.0, -1.0], [2.0, 2.0, 0.0, 0.0]])
    torch.testing.assert_close(participation(parts), torch.tensor([1.0, 4.0, 2.0]))


def test_sparse_solution_fails_the_checks_that_ask_for_a_dense_one() -> None:
    small = toy(n_features=6, neurons=15)
    module = one_neuron_per_pair(small)
    torch.testing.assert_close(small.and_parts(module), torch.eye(15))
    right, single, per_output, per_neuron = small.checks(module)
    assert right.passed
    assert single.passed
    assert per_output.value == pytest.approx(1.0)
    assert not per_output.passed
    assert not per_neuron.passed


def test_claim_adds_up_to_the_weights_and_is_needed_when_both_are_true() -> None:
    small = toy(n_features=5, neurons=7)
    module = small.build().requires_grad_(False)
    truth = small.truth(module)
    for path, site in truth.sites.items():
        torch.testing.assert_close(site.V @ site.U, weight_of(module.get_submodule(path)), rtol=0, atol=1e-5)
        assert site.modules[:2] == ("0 and 1", "0 and 2")
    x = torch.tensor([[1.0, 0.0, 1.0, 0.0, 0.0]])
    assert truth.sites["linear1"].on(x).nonzero()[:, 1].tolist() == [1]


def test_bundled_network_is_a_negative_control_that_is_dense() -> None:
    default = find_toy("u-and")
    assert default.negative_control
    assert default.is_real(default.load())
