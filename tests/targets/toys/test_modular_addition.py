from __future__ import annotations

import pytest
import torch
from torch import nn

from unbraid.core.errors import UserError
from unbraid.targets.behaviour import mse
from unbraid.targets.toy_kit.fourier import variance_shares
from unbraid.targets.toys.modular_addition import LEVEL, READ, WRITE, ModularAddition, answers, mlp_values
from unbraid.targets.truth import Truth


@pytest.fixture(scope="module")
def toy() -> ModularAddition:
    return ModularAddition.parse({})


@pytest.fixture(scope="module")
def module(toy: ModularAddition) -> nn.Module:
    return toy.load()


@pytest.fixture(scope="module")
def truth(toy: ModularAddition, module: nn.Module) -> Truth:
    return toy.truth(module)


def test_data_are_pairs_and_an_equals_sign(toy: ModularAddition) -> None:
    batch = toy.data().batch(0, 300, torch.Generator().manual_seed(0))
    assert bool((batch[:, 2] == 53).all())
    assert int(batch[:, :2].max()) < 53
    assert len(toy.data().all().unique(dim=0)) == 53 * 53
    assert toy.wanted(torch.tensor([[50, 5, 53]])).tolist() == [2]


def test_held_out_pairs_are_never_trained_on(toy: ModularAddition) -> None:
    seen, held_out = toy.split(0)
    assert len(torch.cat([seen, held_out]).unique(dim=0)) == 53 * 53
    assert len(seen) == round(0.6 * 53 * 53)


def test_bundled_model_adds_by_waves_and_every_check_passes(toy: ModularAddition, module: nn.Module) -> None:
    assert [check.name for check in toy.checks(module) if not check.passed] == []


def test_every_module_has_pieces_in_both_matrices(toy: ModularAddition, module: nn.Module, truth: Truth) -> None:
    _, key = toy.labels(module)
    names = {LEVEL, *(f"frequency {k}" for k in key)}
    assert set(truth.sites[READ].modules) == set(truth.sites[WRITE].modules) == names
    assert truth.unresolvable == (frozenset(names),)
    assert truth.sites[WRITE].rank == 1 + 2 * len(key)


def test_planted_pieces_carry_the_logits(toy: ModularAddition, module: nn.Module, truth: Truth) -> None:
    pairs = toy.data().all()
    clean = answers(module, pairs)
    planted = {path: site.V @ site.U for path, site in truth.sites.items()}
    loss = mse(clean, answers(module, pairs, planted)).mean()
    assert float(loss / mse(clean, answers(module, pairs, {path: 0 * M for path, M in planted.items()})).mean()) < 0.05


def test_a_frequency_reads_waves_of_no_other_key_frequency(toy: ModularAddition, module: nn.Module, truth: Truth) -> None:
    site = truth.sites[READ]
    stream, _ = mlp_values(module, toy.data().all())
    amplitudes = stream @ site.V
    torch.testing.assert_close(amplitudes[:, 0], torch.ones(53 * 53), rtol=0, atol=0.02)
    shares = variance_shares(amplitudes.view(53, 53, -1))
    _, key = toy.labels(module)
    for piece, name in enumerate(site.modules[1:], start=1):
        for k in key:  # what is left are products of waves of two frequencies, one of each number
            assert (float(shares[k - 1, piece]) > 0.6) if name == f"frequency {k}" else (float(shares[k - 1, piece]) < 0.01)


def test_importance_is_one_at_the_only_position(truth: Truth) -> None:
    inputs = torch.tensor([[1, 2, 53], [3, 4, 53]])
    assert {path: tuple(g.shape) for path, g in truth.importance(inputs).items()} == {
        path: (2, 1, site.rank) for path, site in truth.sites.items()
    }


def test_untrained_model_has_a_truth_that_is_not_real(toy: ModularAddition) -> None:
    torch.manual_seed(0)
    untrained = toy.build().requires_grad_(False)
    assert toy.measure(untrained).unlearned(0.5)
    assert toy.truth(untrained).sites[WRITE].rank >= 3
    assert not toy.is_real(untrained)


def test_learning_by_heart_says_so() -> None:
    with pytest.raises(UserError, match="of the held-out pairs right"):
        ModularAddition.parse({"training_steps": 3, "p": 11}).train(0)


def test_another_model_is_refused() -> None:
    with pytest.raises(UserError, match="The model is a Linear"):
        mlp_values(nn.Linear(2, 2), torch.zeros(1, 3, dtype=torch.int64))
