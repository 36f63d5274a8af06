from __future__ import annotations

import pytest
import torch
from torch import Tensor

from unbraid.core.errors import UserError
from unbraid.targets.matrices import weight_of
from unbraid.targets.toy_kit.transformer import Decoder
from unbraid.targets.toys.induction import COPYING, MATCHING, PREVIOUS, Induction, lost
from unbraid.targets.truth import Truth


@pytest.fixture(scope="module")
def toy() -> Induction:
    return Induction.parse({})


@pytest.fixture(scope="module")
def module(toy: Induction) -> torch.nn.Module:
    return toy.load()


@pytest.fixture(scope="module")
def truth(toy: Induction, module: torch.nn.Module) -> Truth:
    return toy.truth(module)


@pytest.fixture
def tokens(toy: Induction) -> Tensor:
    return toy.data().batch(0, 64, torch.Generator().manual_seed(3))


def test_the_answer_is_what_followed(toy: Induction) -> None:
    tokens = torch.tensor([[48, 3, 7, 5, 2, 2, 7], [48, 9, 4, 4, 1, 6, 9]])
    assert toy.wanted(tokens).tolist() == [5, 4]
    naive = toy.naive(tokens).softmax(-1)
    torch.testing.assert_close(naive[0, [2, 3, 5]], torch.tensor([0.5, 0.25, 0.25]))


def test_bundled_model_has_an_induction_head_and_every_check_passes(toy: Induction, module: torch.nn.Module) -> None:
    checks = toy.checks(module)
    assert [check.name for check in checks if not check.passed] == []
    assert not toy.is_real(toy.build())


def test_planted_pieces_name_three_modules_that_cannot_be_told_apart(truth: Truth) -> None:
    assert {path: set(site.modules) for path, site in truth.sites.items()} == {
        **{f"blocks.0.{name}": {PREVIOUS} for name in "qkvo"},
        **{f"blocks.1.{name}": {MATCHING} for name in "qk"},
        **{f"blocks.1.{name}": {COPYING} for name in "vo"},
    }
    assert len({truth.resolvable(name) for name in truth.module_names}) == 1
    assert all(site.any_basis and site.pattern == "always_on" for site in truth.sites.values())
    assert all(
        truth.sites[f"blocks.{layer}.{a}"].rank == truth.sites[f"blocks.{layer}.{b}"].rank for layer in (0, 1) for a, b in ("qk", "vo")
    )


def test_a_module_cut_to_its_planted_rank_keeps_its_effect(module: torch.nn.Module, truth: Truth, tokens: Tensor) -> None:
    for a, b in (("blocks.0.q", "blocks.0.k"), ("blocks.1.v", "blocks.1.o")):
        kept = {path: (truth.sites[path].V, truth.sites[path].U) for path in (a, b)}
        gone = {path: (V, 0 * U) for path, (V, U) in kept.items()}
        assert lost(module, tokens, kept) < 0.05 * lost(module, tokens, gone)


def test_importance_has_the_shape_of_what_each_site_sees(module: torch.nn.Module, truth: Truth, tokens: Tensor) -> None:
    for path, importance in truth.importance(tokens).items():
        site = truth.sites[path]
        needed = site.needed(tokens)
        assert importance.shape == needed.shape == (64, 1 if path in ("blocks.1.q", "blocks.1.o") else 16, site.rank)
        assert bool(((needed == 1).sum(1) == 1).all())
        assert not bool((needed == 0).any())


def test_layer_0_is_needed_where_the_pair_stands(truth: Truth) -> None:
    tokens = torch.tensor([[48, 3, 7, 5, 2, 7]])
    assert truth.sites["blocks.0.v"].needed(tokens)[0, :, 0].tolist()[2] == 1
    assert truth.sites["blocks.0.q"].needed(tokens)[0, :, 0].tolist()[3] == 1


def test_attention_moves_what_the_circuits_say(toy: Induction, module: torch.nn.Module) -> None:
    assert isinstance(module, Decoder)
    circuit = toy.circuits(module)[3]
    (V_v, U_v), (V_o, U_o) = circuit.cut(16)
    stream = module.streams(toy.data().batch(0, 8, torch.Generator().manual_seed(0)))[1]
    W = weight_of(module.get_submodule("blocks.1.v")) @ weight_of(module.get_submodule("blocks.1.o"))
    torch.testing.assert_close(stream @ V_v @ U_v @ V_o @ U_o, stream @ W, rtol=0.1, atol=0.05)


def test_panel_has_a_loss_per_place(toy: Induction, module: torch.nn.Module) -> None:
    panel = toy.panel(module)
    assert len(panel.features) == 13
    assert bool((panel.loss_per_feature < 0.05 * panel.naive_per_feature).all())


def test_training_that_learns_nothing_says_so() -> None:
    with pytest.raises(UserError, match="left places .* unlearned"):
        Induction.parse({"training_steps": 2, "training_batch": 8}).train(0)
