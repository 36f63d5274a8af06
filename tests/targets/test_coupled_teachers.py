from __future__ import annotations

import pytest
import torch
from torch import nn

from unbraid.targets.matrices import weight_of
from unbraid.targets.toys.coupled_teachers import CoupledTeachers


def perfect(toy: CoupledTeachers) -> nn.Module:
    """A student that is the teachers themselves, side by side."""
    A, B = toy.teachers
    module = toy.build()
    with torch.no_grad():
        read, write = torch.zeros(toy.width, 4 * toy.n_teachers), torch.zeros(2 * toy.n_teachers, toy.width)
        for k in range(toy.n_teachers):
            own, before = slice(6 * k, 6 * k + 6), (k - 1) % toy.n_teachers
            read[own, 4 * k : 4 * k + 4] = A[k].T
            write[2 * k : 2 * k + 2, own] = B[k].T
            write[2 * before : 2 * before + 2, own] = toy.coupling * B[k].T
        module.get_parameter("linear1.weight").copy_(read)
        module.get_parameter("linear2.weight").copy_(write)
    return module


@pytest.mark.parametrize("coupling", [0.0, 0.7])
def test_the_teachers_themselves_pass_every_check(coupling: float) -> None:
    toy = CoupledTeachers(coupling=coupling)
    module = perfect(toy)
    x = toy.data().batch(0, 64, torch.Generator().manual_seed(0))
    torch.testing.assert_close(module(x).detach(), toy.wanted(x), atol=1e-5, rtol=1e-4)
    assert [check.name for check in toy.checks(module) if not check.passed] == []
    assert [name for name in toy.truth(module).sites["linear1"].modules] == [f"teacher {k}" for k in range(4) for _ in range(6)]


def test_an_untrained_student_is_not_real() -> None:
    toy = CoupledTeachers()
    assert not toy.is_real(toy.build())


def test_truth_does_what_the_matrices_do() -> None:
    toy = CoupledTeachers()
    module = toy.load()
    x = toy.data().batch(0, 512, torch.Generator().manual_seed(0))
    truth = toy.truth(module)
    for path, site in truth.sites.items():
        difference = site.V @ site.U - weight_of(module.get_submodule(path))
        assert float(difference.norm() / weight_of(module.get_submodule(path)).norm()) < 0.1
        assert set(site.modules) == {f"teacher {k}" for k in range(4)}
        assert site.on(x).shape == (512, site.rank)
    hidden = torch.relu(x @ truth.sites["linear1"].V) * truth.sites["linear1"].on(x)
    lost = (hidden @ truth.sites["linear2"].U - module(x)).square().mean() / module(x).square().mean()
    assert float(lost) < 2e-3


def test_a_piece_is_off_where_its_teacher_is() -> None:
    toy = CoupledTeachers()
    truth = toy.truth(toy.load())
    x = torch.zeros(8, 16)
    x[:, :4] = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    site = truth.sites["linear1"]
    on = site.on(x).any(0)
    assert {name for name, is_on in zip(site.modules, on.tolist(), strict=True) if is_on} == {"teacher 0"}


def test_the_bundled_student_is_real() -> None:
    toy = CoupledTeachers()
    assert toy.is_real(toy.load())


def test_coupled_inputs_are_read_by_two_teachers() -> None:
    toy = CoupledTeachers(coupled="inputs", coupling=0.5)
    assert toy.inputs_of(3) == [12, 13, 14, 15, 0, 1, 2, 3]
    x = torch.zeros(1, 16)
    x[0, 4:8] = 1.0
    answered = toy.wanted(x).view(4, 2).abs().sum(1) > 0
    assert answered.tolist() == [True, True, False, False]


def test_a_student_agrees_with_itself() -> None:
    toy = CoupledTeachers()
    module = toy.load()
    assert toy.ceiling(module, module).ari == 1


def test_the_panel_asks_every_input_beside_the_best_linear_model() -> None:
    toy = CoupledTeachers()
    panel = toy.panel(toy.load())
    assert len(panel.loss_per_feature) == 16
    assert float(panel.loss_per_feature.sum()) < 0.05 * float(panel.naive_per_feature.sum())
