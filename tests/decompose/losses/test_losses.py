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
        config = losses.parse({"kind": kind, "coefficient": coefficient})
        assert config.weight(0.5) == coefficient
        loss = config.build(model)
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


def test_coefficient_can_fall_by_a_constant_ratio() -> None:
    config = losses.parse({"kind": "simplicity", "coefficient": 2.0, "decay": {"begin": 0.2, "end": 0.6, "final_share": 0.01}})
    assert [config.weight(progress) for progress in (0.0, 0.2, 0.4, 0.6, 1.0)] == pytest.approx([2.0, 2.0, 0.2, 0.02, 0.02])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("adversarial", "persistent-adversarial", "merged", "elsewhere")])
@pytest.mark.parametrize("behaviour", ["mse", "kl"])
def test_a_weight_stands_for_equal_inputs(target: Target, kind: str, behaviour: str) -> None:
    """Three copies of an input, or the input once with three times the weight: the same value and the same gradients."""
    target = Target(target.module, sites="*", data=[torch.randn(2, 4)], behaviour="kl" if behaviour == "kl" else "mse")
    model, function = decomposed(target)
    x = torch.randn(3, 4)
    copies, once = step_for(target, model, function, x=x[[0, 0, 0, 1, 2]]), step_for(target, model, function, x=x)
    once.weights, once.size = torch.tensor([0.6, 0.2, 0.2]), 5
    rows = torch.tensor([0, 0, 0, 1, 2])
    for path, source in once.sources("continuous").items():
        shared = copies.sources("continuous")
        shared[path] = type(source)(source.component[rows], source.delta[rows])
    config = losses.parse({"kind": kind, "routing": "layerwise"} if kind == "stochastic" else kind)
    parameters = [*model.parameters(), *function.parameters()]
    values = [config.build(model)(step) for step in (copies, once)]
    torch.testing.assert_close(values[0], values[1])
    grads = [torch.autograd.grad(value, parameters, allow_unused=True) for value in values]
    for one, other in zip(*grads, strict=True):
        assert (one is None) is (other is None)
        if one is not None and other is not None:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
