from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.models import decomposed, step_for
from unbraid.decompose.losses.minimality import frequency, frequency_slope, smooth_l0
from unbraid.decompose.step import losses
from unbraid.targets.target import Target


def psi(g: Tensor, gamma: float) -> Tensor:
    return g**2 / (g**2 + gamma**2)


@pytest.mark.parametrize("lead", [(6,), (4, 3)])
@pytest.mark.parametrize("gamma", [1.0, 0.1, 0.01])
def test_psi_and_its_slope_are_those_of_the_plain_formula(lead: tuple[int, ...], gamma: float) -> None:
    g, weights = torch.rand(*lead, 5).mul(1.2).requires_grad_(), torch.randn(5)
    f = smooth_l0(g, gamma)
    plain = psi(g, gamma).flatten(0, -2).mean(0)
    torch.testing.assert_close(f, plain)
    (fast,) = torch.autograd.grad((f * weights).sum(), [g])
    (slow,) = torch.autograd.grad((plain * weights).sum(), [g])
    torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-5)


def test_psi_counts_when_gamma_is_small() -> None:
    g = torch.tensor([[0.0, 0.5, 1.0], [0.0, 0.0, 1.0]])
    torch.testing.assert_close(smooth_l0(g, 1e-4), torch.tensor([0.0, 0.5, 1.0]), rtol=0, atol=1e-6)


def test_a_dead_importance_gets_no_slope() -> None:
    g = torch.zeros(4, 3, requires_grad=True)
    smooth_l0(g, 0.01).sum().backward()
    assert g.grad is not None
    assert bool((g.grad == 0).all())


def test_frequency_is_in_bits_and_its_slope_is_its_derivative() -> None:
    f = torch.rand(5).requires_grad_()
    value = frequency(f, 100.0)
    torch.testing.assert_close(value, f * torch.log2(1 + 100 * f))
    (slope,) = torch.autograd.grad(value.sum(), [f])
    torch.testing.assert_close(frequency_slope(f.detach(), 100.0), slope)


@pytest.mark.parametrize("progress", [0.0, 0.45, 0.95])
def test_value_is_the_written_formula(target: Target, progress: float) -> None:
    model, _ = decomposed(target)
    settings = {
        "kind": "minimality",
        "gamma_end": 0.1,
        "frequency": {"weight": 0.3, "reference_count": 50},
        "sites": ["2"],
    }
    step = step_for(target, model, progress=progress)
    loss = losses.parse(settings).build(model)
    gamma = 1.0 + (0.1 - 1.0) * min(1.0, progress / 0.9)
    f = psi(step.importances.upper["2"], gamma).mean(0)
    expected = (f + 0.3 * f * (1 + 50 * f).log2()).sum()
    value = loss(step)
    torch.testing.assert_close(value, expected)
    leaf = step.importances.upper["2"]
    (fast,), (slow,) = torch.autograd.grad(value, [leaf]), torch.autograd.grad(expected, [leaf])
    torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-6)


def test_value_does_not_depend_on_the_batch_size(target: Target) -> None:
    model, _ = decomposed(target)
    loss = losses.parse("minimality").build(model)
    x = torch.randn(8, 4)
    small, large = step_for(target, model, x=x), step_for(target, model, x=torch.cat([x, x]))
    for path, g in small.importances.upper.items():
        large.importances.upper[path] = torch.cat([g, g])
    torch.testing.assert_close(loss(small), loss(large))


def test_without_frequency(target: Target) -> None:
    model, _ = decomposed(target)
    step = step_for(target, model)
    value = losses.parse({"kind": "minimality", "frequency": None}).build(model)(step)
    torch.testing.assert_close(value, torch.stack([psi(g, 1.0).mean(0).sum() for g in step.importances.upper.values()]).sum())


def test_running_frequency_has_the_value_and_slope_at_the_average(target: Target) -> None:
    model, _ = decomposed(target)
    settings = {"kind": "minimality", "frequency": {"weight": 1.0, "reference_count": 50, "half_life_steps": 2}}
    loss = losses.parse(settings).build(model)
    decay, running = 2**-0.5, torch.zeros(14)
    for count in range(1, 4):
        step = step_for(target, model, seed=count)
        f = torch.cat([psi(g, 1.0).mean(0) for g in step.importances.upper.values()])
        running = decay * running + (1 - decay) * f.detach()
        average = running / (1 - decay**count)
        value = loss(step)
        torch.testing.assert_close(value, (f + average * (1 + 50 * average).log2()).sum())
        slope = 1 + ((1 + 50 * average).log() + 50 * average / (1 + 50 * average)) / math.log(2)
        leaves = list(step.importances.upper.values())
        for fast, slow in zip(torch.autograd.grad(value, leaves), torch.autograd.grad((slope * f).sum(), leaves), strict=True):
            torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-6)


def test_running_frequency_is_saved(target: Target) -> None:
    model, _ = decomposed(target)
    config = losses.parse({"kind": "minimality", "frequency": {"half_life_steps": 2}})
    first, second = config.build(model), config.build(model)
    first(step_for(target, model, seed=1))
    second.load_state_dict(first.state_dict())
    assert first(step_for(target, model, seed=2)).item() == second(step_for(target, model, seed=2)).item()
