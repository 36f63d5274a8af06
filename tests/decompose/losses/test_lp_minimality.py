from __future__ import annotations

import pytest
import torch

from tests.models import decomposed, step_for
from unbraid.decompose.losses.lp_minimality import lp_mean
from unbraid.decompose.step import losses
from unbraid.targets.target import Target


@pytest.mark.parametrize("p", [0.4, 1.0, 1.7, 2.0])
def test_mean_over_positions(p: float) -> None:
    g, weights = torch.rand(4, 3, 5), torch.rand(4, 3)
    torch.testing.assert_close(lp_mean(g, p), (g**p).mean((0, 1)))
    torch.testing.assert_close(lp_mean(g, p, weights), (weights[..., None] * g**p).sum((0, 1)))


def test_slope_at_zero_is_finite_below_one() -> None:
    g = torch.zeros(4, 5, requires_grad=True)
    lp_mean(g, 0.4).sum().backward()
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
        "sites": "2",
    }
    step = step_for(target, model, progress=progress)
    s = (step.importances.upper["2"] ** p).sum(0)
    expected = (s / 8 + beta * s / 8 * torch.log2(1 + s)).sum()
    torch.testing.assert_close(losses.parse(settings).build(model)(step), expected)


def test_p_stays_where_no_end_is_given(target: Target) -> None:
    model, _ = decomposed(target)
    loss = losses.parse({"kind": "lp-minimality", "p_start": 0.7}).build(model)
    assert loss(step_for(target, model, progress=0.0)).item() == loss(step_for(target, model, progress=0.9)).item()
