from __future__ import annotations

import pytest
import torch

from tests.models import decomposed, step_for
from unbraid.decompose.losses.lp_minimality import lp_sums
from unbraid.decompose.step import losses
from unbraid.targets.target import Target


@pytest.mark.parametrize("p", [0.4, 1.0, 1.7, 2.0])
def test_sums(p: float) -> None:
    g = torch.rand(4, 3, 5)
    torch.testing.assert_close(lp_sums(g, p), (g**p).sum((0, 1)))


def test_slope_at_zero_is_finite_below_one() -> None:
    g = torch.zeros(4, 5, requires_grad=True)
    lp_sums(g, 0.4).sum().backward()
    assert g.grad is not None
    assert bool(torch.isfinite(g.grad).all())


@pytest.mark.parametrize(("progress", "p"), [(0.0, 2.0), (0.25, 1.2), (0.9, 0.4)])
@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_value_is_the_written_formula(target: Target, progress: float, p: float, beta: float) -> None:
    model, _ = decomposed(target)
    settings = {
        "kind": "lp-minimality",
        "p_start": 2.0,
        "p_end": 0.4,
        "anneal_until": 0.5,
        "beta": beta,
        "site_weights": {"2": 0.25},
    }
    step = step_for(target, model, progress=progress)
    expected = torch.zeros(())
    for path, weight in (("0", 1.0), ("2", 0.25)):
        s = (step.importances.upper[path] ** p).sum(0)
        expected = expected + weight * (s / 8 + beta * s / 8 * torch.log2(1 + s)).sum()
    torch.testing.assert_close(losses.parse(settings).build(model)(step), expected)


def test_p_stays_where_no_end_is_given(target: Target) -> None:
    model, _ = decomposed(target)
    loss = losses.parse({"kind": "lp-minimality", "p_start": 0.7}).build(model)
    assert loss(step_for(target, model, progress=0.0)).item() == loss(step_for(target, model, progress=0.9)).item()
