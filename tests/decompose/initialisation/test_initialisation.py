from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.models import decomposed
from unbraid.decompose.initialiser import initialisations
from unbraid.decompose.model import DecomposedModel
from unbraid.targets.target import Target


def started(kind: str, d_in: int, d_out: int, C: int, seed: int = 0) -> DecomposedModel:
    torch.manual_seed(0)
    target = Target(nn.Sequential(nn.Linear(d_in, d_out)), sites="0", data=[torch.randn(8, d_in)])
    return decomposed(target, C=C, initialisation=kind, seed=seed)[0]


@pytest.mark.parametrize("kind", sorted(initialisations.kinds()))
def test_every_start_is_finite_and_decided_by_the_seed(kind: str) -> None:
    first, again, other = started(kind, 5, 4, 6), started(kind, 5, 4, 6), started(kind, 5, 4, 6, seed=1)
    for name, parameter in first.named_parameters():
        assert bool(torch.isfinite(parameter).all())
        assert parameter.requires_grad
        assert torch.equal(parameter, again.get_parameter(name))
    assert not all(torch.equal(parameter, other.get_parameter(name)) for name, parameter in first.named_parameters())


def test_gaussian_has_the_stated_variances() -> None:
    V, U = started("gaussian", 50, 40, 100).sites["0"].factors.views()
    assert float(V.detach().var()) == pytest.approx(1 / 50, rel=0.05)
    assert float(U.detach().var()) == pytest.approx(1 / 100, rel=0.05)


@pytest.mark.parametrize(("d_in", "d_out"), [(4, 6), (6, 4), (5, 5)])
@pytest.mark.parametrize("surplus", [0, 1, 9])
def test_aligned_start_is_exactly_faithful(d_in: int, d_out: int, surplus: int) -> None:
    model = started("nonlinearity-aligned", d_in, d_out, min(d_in, d_out) + surplus)
    torch.testing.assert_close(model.sites["0"].delta(), torch.zeros(d_in, d_out), rtol=0, atol=1e-6)


@pytest.mark.parametrize("side", ["input", "output"])
@pytest.mark.parametrize("kind", ["nonlinearity-aligned", "random-rotation"])
def test_the_units_are_on_the_side_that_is_named(kind: str, side: str) -> None:
    torch.manual_seed(0)
    target = Target(nn.Sequential(nn.Linear(4, 6)), sites="0", data=[torch.randn(8, 4)])
    units = {"input": 4, "output": 6}[side]
    site = decomposed(target, C=units, initialisation={"kind": kind, "units": {"0": side}})[0].sites["0"]
    torch.testing.assert_close(site.delta(), torch.zeros(4, 6), rtol=0, atol=1e-6)
    V, U = site.factors.views()
    directions = V if side == "input" else U.T
    torch.testing.assert_close(directions.T @ directions, torch.eye(units))
    aligned = bool((directions.abs().amax(0) > 0.999).all())
    assert aligned == (kind == "nonlinearity-aligned")


@pytest.mark.parametrize("C", [3, 9])
def test_turned_directions_are_exact_when_there_are_enough(C: int) -> None:
    delta = started("random-rotation", 5, 7, C).sites["0"].delta()
    assert bool((delta.abs() < 1e-5).all()) == (C >= 5)


@pytest.mark.parametrize(("d_in", "d_out"), [(4, 6), (6, 4)])
def test_aligned_start_with_a_shortage_takes_distinct_units_whole(d_in: int, d_out: int) -> None:
    site = started("nonlinearity-aligned", d_in, d_out, 3).sites["0"]
    delta, weight = site.delta().detach(), site.weight
    units = (delta.abs().sum(1) if d_in < d_out else delta.abs().sum(0)) < 1e-6
    assert int(units.sum()) == 3
    left = delta[~units] if d_in < d_out else delta[:, ~units]
    torch.testing.assert_close(left, weight[~units] if d_in < d_out else weight[:, ~units])
