"""What every loss must do."""

from __future__ import annotations

import pytest
import torch

from tests.models import decomposed, step_for
from unbraid.decompose.importance_function import ImportanceFunction
from unbraid.decompose.model import DecomposedModel
from unbraid.decompose.step import losses
from unbraid.targets.target import Target

KINDS = sorted(losses.kinds())
ABOUT_FACTORS_ALONE = {"faithfulness", "unmasked", "simplicity"}
ABOUT_IMPORTANCE_ALONE = {"minimality", "lp-minimality"}


def gradient_norm(module: DecomposedModel | ImportanceFunction) -> float:
    return sum(float(parameter.grad.norm()) for parameter in module.parameters() if parameter.grad is not None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("behaviour", ["mse", "kl"])
@pytest.mark.parametrize("lead", [(8,), (4, 3)])
def test_value_and_gradients_are_finite_and_go_where_they_should(target: Target, kind: str, behaviour: str, lead: tuple[int, ...]) -> None:
    target = Target(target.module, sites="*", data=[torch.randn(*lead, 4)], behaviour="kl" if behaviour == "kl" else "mse")
    model, function = decomposed(target)
    loss = losses.parse(kind).build(model)
    step = step_for(target, model, function, progress=0.5)
    value = loss(step)
    assert value.shape == ()
    assert bool(torch.isfinite(value))
    assert value.item() > 0
    value.backward()
    loss.after_backward(step)
    for module in (model, function):
        assert all(bool(torch.isfinite(parameter.grad).all()) for parameter in module.parameters() if parameter.grad is not None)
    assert (gradient_norm(model) > 0) is (kind not in ABOUT_IMPORTANCE_ALONE)
    assert (gradient_norm(function) > 0) is (kind not in ABOUT_FACTORS_ALONE)


@pytest.mark.parametrize("kind", KINDS)
def test_coefficient_is_kept_beside_the_unweighted_value(target: Target, kind: str) -> None:
    model, function = decomposed(target)
    values = []
    for coefficient in (1.0, 0.25):
        loss = losses.parse({"kind": kind, "coefficient": coefficient}).build(model)
        assert loss.coefficient == coefficient
        values.append(loss(step_for(target, model, function)).item())
    assert values[0] == pytest.approx(values[1])


@pytest.mark.parametrize("kind", KINDS)
def test_same_streams_same_value(target: Target, kind: str) -> None:
    model, function = decomposed(target)
    values = [losses.parse(kind).build(model)(step_for(target, model, function, seed=seed)).item() for seed in (3, 3)]
    assert values[0] == values[1]


@pytest.mark.parametrize("kind", KINDS)
def test_loss_can_be_evaluated_without_gradient(target: Target, kind: str) -> None:
    model, function = decomposed(target)
    with torch.no_grad():
        assert bool(torch.isfinite(losses.parse(kind).build(model)(step_for(target, model, function))))


def test_stochastic_losses_of_one_step_share_their_masks(target: Target) -> None:
    model, function = decomposed(target)
    step = step_for(target, model, function)
    first = losses.parse("stochastic").build(model)(step)
    assert losses.parse("stochastic").build(model)(step).item() == first.item()
