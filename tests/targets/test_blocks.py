from __future__ import annotations

from typing import cast

import pytest
import torch

from unbraid.core.errors import UserError
from unbraid.targets.toy_kit.blocks import BlocksModule, ModuleSparse, orthogonal, square_rows, weight_matrices
from unbraid.targets.toys.compiled_blocks import CompiledBlocks
from unbraid.targets.toys.superposed_blocks import SuperposedBlocks


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def compiled(**knobs: object) -> CompiledBlocks:
    return CompiledBlocks.parse(knobs)


def small(**knobs: object) -> SuperposedBlocks:
    return SuperposedBlocks.parse({"modules": 32, "d_model": 80, **knobs})


def test_modules_are_active_by_chance() -> None:
    data = ModuleSparse(modules=5, width=3, probability=0.25)
    active = data.is_active(data.batch(0, 8000, generator()))
    torch.testing.assert_close(active.mean(0), torch.full((5,), 0.25), atol=0.02, rtol=0)
    assert data.n_features == 15
    assert data.features_of(2) == (6, 7, 8)


@pytest.mark.parametrize("active", [1, 2])
def test_a_set_number_of_modules_is_active_and_says_so(active: int) -> None:
    data = ModuleSparse(modules=6, width=2, active=active, switch=True)
    x = data.batch(0, 500, generator())
    assert bool((data.is_active(x).sum(1) == active).all())
    assert torch.equal(x.unflatten(-1, (6, 3))[..., -1], data.is_active(x))


@pytest.mark.parametrize(("together", "alone"), [(0.0, 1.0), (0.5, 0.5), (1.0, 0.0)])
def test_partners_come_along(together: float, alone: float) -> None:
    data = ModuleSparse(modules=6, width=2, active=1, together=together)
    active = data.is_active(data.batch(0, 4000, generator())).unflatten(-1, (3, 2))
    assert float((active.sum(-1) == 1).any(1).float().mean()) == pytest.approx(alone, abs=0.03)


def test_a_module_without_partner_comes_alone() -> None:
    data = ModuleSparse(modules=3, width=2, active=1, together=1.0)
    active = data.is_active(data.batch(0, 300, generator()))
    assert set(map(tuple, active.int().tolist())) == {(1, 1, 0), (0, 0, 1)}


def test_drawn_vectors_of_a_module_are_at_right_angles() -> None:
    A = square_rows(3, 4, 5, generator())
    torch.testing.assert_close(A @ A.mT, torch.eye(4).expand(3, 4, 4))
    assert square_rows(2, 7, 5, generator()).shape == (2, 7, 5)
    Q = orthogonal(6, generator())
    torch.testing.assert_close(Q @ Q.T, torch.eye(6), atol=1e-5, rtol=0)


@pytest.mark.parametrize("basis", ["aligned", "rotated", "rescaled"])
def test_every_basis_computes_the_planted_modules(basis: str) -> None:
    toy = compiled(basis=basis, coupling=0.1)
    module = toy.load()
    assert toy.is_real(module)
    plain = compiled(basis=basis, coupling=0.0)
    x = plain.data().batch(0, 64, generator())
    torch.testing.assert_close(plain.load()(x), plain.wanted(x), atol=1e-5, rtol=1e-4)


def test_a_rotation_changes_the_weights_and_not_the_function() -> None:
    aligned, rotated = compiled().load(), compiled(basis="rotated").load()
    for own, other in zip(weight_matrices(aligned), weight_matrices(rotated), strict=True):
        assert float((own - other).norm() / own.norm()) > 1
    x = compiled().data().batch(0, 64, generator())
    torch.testing.assert_close(aligned(x), rotated(x), atol=1e-5, rtol=1e-4)


def test_a_strong_coupling_is_not_real() -> None:
    toy = compiled(coupling=1.0)
    assert not toy.is_real(toy.load())


def test_compiled_pieces_add_up_and_belong_to_modules() -> None:
    toy = compiled(basis="rescaled")
    module = toy.load()
    truth = toy.truth(module)
    for weight, site in zip(weight_matrices(module), truth.sites.values(), strict=True):
        torch.testing.assert_close(site.V @ site.U, weight)
        assert sorted(site.modules) == sorted(f"module {k}" for k in range(8) for _ in range(8))
    assert truth.module_inputs["module 1"] == tuple(range(8, 16))


def test_a_piece_is_needed_where_its_neuron_fires() -> None:
    toy = compiled(basis="rescaled", coupling=0.0)
    module = cast(BlocksModule, toy.load())
    truth = toy.truth(module)
    x = toy.data().batch(0, 256, generator())
    site = truth.sites["mlp_out"]
    on, needed = site.on(x), site.needed(x)
    assert bool((on[needed == 1] == 1).all())
    assert bool((on[needed == 0] == 0).all())
    assert bool(needed.isnan().any())
    active = toy.data().is_active(x)
    owners = torch.tensor([int(name.removeprefix("module ")) for name in site.modules])
    assert float((on * (1 - active[:, owners])).sum()) == 0
    # Ablating what is not on changes nothing; ablating what is changes the answer.
    masked = torch.relu(module.mlp_in(module.embed(x))) * on
    torch.testing.assert_close(module.unembed(module.mlp_out(masked)), module(x), atol=1e-5, rtol=1e-4)


def test_the_switch_silences_inactive_modules() -> None:
    leaks = {}
    for switch in (0.0, 1.0):
        toy = small(switch=switch)
        checks = {check.name: check for check in toy.checks(toy.load())}
        leaks[switch] = checks["energy of inactive modules' neurons against the active ones'"].value
    assert leaks[0.0] > 1
    assert leaks[1.0] < 0.05


def test_superposed_blocks_are_real_at_their_defaults() -> None:
    toy = SuperposedBlocks.parse({})
    assert toy.is_real(toy.load())


def test_superposed_pieces_add_up_and_pairs_that_always_come_together_are_named() -> None:
    toy = small(together=1.0)
    module = toy.load()
    truth = toy.truth(module)
    for weight, site in zip(weight_matrices(module), truth.sites.values(), strict=True):
        torch.testing.assert_close(site.V @ site.U, weight)
    assert truth.resolvable("module 0") == truth.resolvable("module 1") == "module 0 + module 1"
    assert small(together=0.5).truth(module).unresolvable == ()


@pytest.mark.parametrize("knobs", [{"coupling": -0.1}, {"basis": "skewed"}, {"probability": 0.0}])
def test_knobs_that_mean_nothing_are_refused(knobs: dict[str, object]) -> None:
    with pytest.raises(UserError, match=next(iter(knobs))):
        compiled(**knobs)


def test_always_in_pairs_partners_are_one_module_in_the_truth() -> None:
    toy = compiled(together=1.0)
    truth = toy.truth(toy.build())
    assert truth.unresolvable == tuple(frozenset((f"module {k}", f"module {k + 1}")) for k in (0, 2, 4, 6))
    active = toy.data().is_active(toy.data().batch(0, 200, generator()))
    assert torch.equal(active[:, 0::2], active[:, 1::2])
    assert compiled(together=0.9).truth(toy.build()).unresolvable == ()


def test_coupling_of_superposed_blocks_has_the_size_that_was_set() -> None:
    bare, coupled = (cast(BlocksModule, small(coupling=size).build()) for size in (0.0, 0.2))
    read, noisy = weight_matrices(bare)[0], weight_matrices(coupled)[0]
    assert float((noisy - read).norm() / read.norm()) == pytest.approx(0.2, rel=1e-5)
