from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from unbraid.targets.matrices import weight_of
from unbraid.targets.toy import Toy, find_toy, toys
from unbraid.targets.toy_kit.compressed_computation import links_of, module_names, reading_truth, writing_truth
from unbraid.targets.toy_kit.mlp import MLP


def toy(**knobs: object) -> Toy:
    return type(find_toy("compressed-computation")).parse({"kind": "compressed-computation", **knobs})


def dedicated(n_features: int, d_mlp: int, shared: bool = False) -> MLP:
    """A neuron for each of the first features; the first neuron may serve the last feature too."""
    module = MLP((n_features, d_mlp, n_features))
    with torch.no_grad():
        for layer in (1, 2):
            module.get_parameter(f"linear{layer}.weight").zero_()
        for k in range(d_mlp):
            module.get_parameter("linear1.weight")[k, k] = 2.0
            module.get_parameter("linear2.weight")[k, k] = 0.5
        if shared:
            module.get_parameter("linear1.weight")[0, -1] = 1.0
            module.get_parameter("linear2.weight")[-1, 0] = 0.5
    return module.requires_grad_(False)


def test_labels_hold_the_noise_only_with_the_confound() -> None:
    x = torch.rand(5, 100) - 0.5
    torch.testing.assert_close(toy().wanted(x), F.relu(x))
    noise = toy(confound=True).wanted(x) - F.relu(x)
    assert float(noise.norm()) > 0.1
    torch.testing.assert_close(toy(confound=True).wanted(torch.eye(100)).diagonal(), torch.ones(100), rtol=0, atol=1e-5)
    assert not torch.equal(noise, toy(confound=True, seed=1).wanted(x) - F.relu(x))


def test_dedicated_neurons_have_exactly_the_naive_loss() -> None:
    small = toy(n_features=20, d_mlp=10, probability=0.05)
    assert small.naive_loss == pytest.approx(0.5 / 6)
    assert small.loss_over_naive(dedicated(20, 10), batches=40) == pytest.approx(1.0, rel=0.02)
    x = torch.rand(7, 20) - 0.5
    torch.testing.assert_close(dedicated(20, 10)(x), small.naive(x))


def test_features_without_a_neuron_are_ignored() -> None:
    measured = toy(n_features=20, d_mlp=10).measure(dedicated(20, 10))
    assert measured.unlearned(0.9) == list(range(10, 20))


def test_a_neuron_that_serves_two_features_has_two_links_and_one_module() -> None:
    module = dedicated(6, 3, shared=True)
    links = links_of(module)
    assert list(zip(links.neuron.tolist(), links.feature.tolist(), strict=True)) == [(0, 0), (0, 5), (1, 1), (2, 2)]
    assert module_names(links, 3) == ["feature 0 and 5", "feature 1", "feature 2"]
    reading, writing = reading_truth(module, links), writing_truth(module, links)
    assert reading.modules == ("feature 0 and 5", "feature 0 and 5", "feature 1", "feature 2")
    assert writing.modules == ("feature 0 and 5", "feature 1", "feature 2")
    torch.testing.assert_close(reading.V @ reading.U, weight_of(module.get_submodule("linear1")))
    torch.testing.assert_close(writing.V @ writing.U, weight_of(module.get_submodule("linear2")))


def test_a_link_is_needed_when_its_feature_is_clearly_positive() -> None:
    module = dedicated(6, 3, shared=True)
    site = reading_truth(module, links_of(module))
    x = torch.zeros(4, 6)
    x[0, 0], x[1, 0], x[2, 0] = 0.8, 0.1, -0.8
    x[3, 0], x[3, 5] = -0.8, 0.9  # its negative value matters now that the other feature reads into the same neuron
    needed = site.needed(x)
    assert needed[0].tolist() == [1.0, 0.0, 0.0, 0.0]
    assert bool(needed[1, 0].isnan())
    assert needed[2].tolist() == [0.0, 0.0, 0.0, 0.0]
    assert bool(needed[3, 0].isnan())
    assert needed[3, 1] == 1.0


def test_a_writing_piece_is_needed_when_its_neuron_fires() -> None:
    module = dedicated(6, 3, shared=True)
    site = writing_truth(module, links_of(module))
    x = torch.zeros(2, 6)
    x[0, 5], x[1, 1] = 0.9, -0.9
    assert site.needed(x).tolist() == [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]


def test_bundled_network_is_no_better_than_naive_and_its_pieces_add_up() -> None:
    default = find_toy("compressed-computation")
    module = default.load()
    checks = default.checks(module)
    assert all(check.passed for check in checks)
    assert "/ naive loss with clean labels" in checks[0].name
    for path, site in default.truth(module).sites.items():
        torch.testing.assert_close(site.V @ site.U, weight_of(module.get_submodule(path)), rtol=0, atol=1e-5)


def test_confound_is_asked_with_and_without_its_labels() -> None:
    names = [check.name for check in toy(confound=True, n_features=20, d_mlp=10).checks(dedicated(20, 10))]
    assert len(names) == 2
    assert "taken out of the labels" in names[1]


def test_fourth_power_may_ignore_nothing_and_claims_no_single_neurons() -> None:
    power = toy(loss_power=4, n_features=20, d_mlp=10)
    (check,) = power.checks(dedicated(20, 10))
    assert not check.passed
    truth = power.truth(dedicated(20, 10))
    assert truth.sites["linear1"].pattern == "per_feature"
    assert truth.sites["linear2"].any_basis
    assert truth.bars["l0/linear2"] == (None, None)


def test_training_reaches_the_naive_loss_at_a_small_size(monkeypatch: pytest.MonkeyPatch) -> None:
    small = toy(n_features=8, d_mlp=4, probability=0.1)
    monkeypatch.setattr(type(small), "training_steps", 300)
    trained = small.train(0)
    share = float(trained.loss_per_feature.mean() / trained.naive_per_feature.mean())
    assert 0.4 < share < 0.65
    assert small.kind in toys.kinds()
