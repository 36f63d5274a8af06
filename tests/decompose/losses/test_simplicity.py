from __future__ import annotations

import pytest
import torch

from tests.models import decomposed, step_for
from unbraid.decompose.losses.simplicity import simplicity
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
