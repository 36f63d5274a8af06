from __future__ import annotations

import pytest
import torch

from tests.models import decomposed, step_for
from unbraid.decompose.losses.simplicity import active_shares, simplicity
from unbraid.decompose.step import losses
from unbraid.targets.target import Target


@pytest.mark.parametrize("p", [0.5, 0.9, 1.0])
def test_formula(p: float) -> None:
    V, U = torch.randn(4, 5), torch.randn(5, 3)
    expected = sum((float(V[:, c].norm()) * float(U[c].norm())) ** p for c in range(5))
    assert float(simplicity(V, U, p)) == pytest.approx(expected, rel=1e-5)


def test_dead_piece_has_a_finite_slope() -> None:
    V, U = torch.zeros(4, 5, requires_grad=True), torch.zeros(5, 3, requires_grad=True)
    simplicity(V, U, 0.5).backward()
    assert V.grad is not None
    assert bool(torch.isfinite(V.grad).all())


def test_few_orthogonal_pieces_are_cheapest() -> None:
    eye = torch.eye(3)
    whole, split = simplicity(eye, eye, 0.9), simplicity(torch.cat([eye, eye], dim=1), torch.cat([eye, eye]) / 2, 0.9)
    assert float(whole) < float(split)
    rotation, _ = torch.linalg.qr(torch.randn(3, 3))
    torch.testing.assert_close(simplicity(rotation, rotation.T.contiguous(), 0.9), whole)


def test_sites(target: Target) -> None:
    model, _ = decomposed(target)
    loss = losses.parse({"kind": "simplicity", "sites": "0"}).build(model)
    alone = simplicity(*model.sites["0"].factors.views(), 0.9)
    torch.testing.assert_close(loss(step_for(target, model)), alone)


def test_active_counts_each_piece_by_the_share_of_inputs_that_need_it(target: Target) -> None:
    model, _ = decomposed(target)
    step = step_for(target, model)
    V, U = model.sites["0"].factors.views()
    sizes = V.norm(dim=0) * U.norm(dim=1)
    loss = losses.parse({"kind": "simplicity", "p": 1.0, "active": True, "sites": "0"}).build(model)
    torch.testing.assert_close(loss(step), (step.importances.lower["0"].mean(0) * sizes).sum(), rtol=1e-4, atol=1e-5)


def test_unneeded_piece_costs_nothing_and_is_not_pulled() -> None:
    V, U = torch.randn(4, 5, requires_grad=True), torch.randn(5, 3)
    shares = active_shares(torch.tensor([[1.0, 0, 0, 1, 0], [1, 0, 0, 0, 0]]))
    assert shares.tolist() == [1, 0, 0, 0.5, 0]
    (grad,) = torch.autograd.grad(simplicity(V, U, 0.9, shares), V)
    assert (grad != 0).any(0).tolist() == [True, False, False, True, False]


def test_shares_of_equal_inputs_that_stand_once() -> None:
    g = torch.rand(3, 5)
    torch.testing.assert_close(active_shares(g, torch.tensor([0.5, 0.25, 0.25])), active_shares(g[[0, 0, 1, 2]]))


def test_per_weight_divides_by_the_weights_of_its_sites(target: Target) -> None:
    model, _ = decomposed(target)
    step = step_for(target, model)
    each = [losses.parse({"kind": "simplicity", "per_weight": on}).build(model)(step) for on in (False, True)]
    torch.testing.assert_close(each[0] / (4 * 6 + 6 * 3), each[1])
