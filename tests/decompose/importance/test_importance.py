"""Every importance function: shapes, gradients, and what it may and may not see."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.models import Conv1D, decomposed, mlp
from unbraid.core.errors import UserError
from unbraid.decompose.importance_function import importance_functions
from unbraid.targets.target import Target

SETTINGS = {
    name: {"kind": name, **({"sites": {"0": "layerwise-mlp", "*": "component-mlp"}} if name == "per-site" else {})}
    for name in sorted(importance_functions.kinds())
}
every = pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
LEARNED = {name: settings for name, settings in SETTINGS.items() if name != "attribution-top-k"}  # that one has nothing to learn
learned = pytest.mark.parametrize("settings", LEARNED.values(), ids=LEARNED)


def run(target: Target, settings: object, x: Tensor) -> tuple[dict[str, Tensor], nn.Module, nn.Module]:
    model, function = decomposed(target, importance=settings)  # pyright: ignore[reportArgumentType]
    return function.logits_on(model, model.clean(x)), model, function


@every
@pytest.mark.parametrize("lead", [(9,), (4, 3)])
def test_one_logit_per_subcomponent_and_position(target: Target, settings: object, lead: tuple[int, ...]) -> None:
    logits, _, _ = run(target, settings, torch.randn(*lead, 4))
    assert {path: value.shape for path, value in logits.items()} == {"0": (*lead, 7), "2": (*lead, 7)}


@learned
def test_every_weight_gets_a_gradient(target: Target, settings: object) -> None:
    logits, _, function = run(target, settings, torch.randn(9, 4))
    torch.stack([value.square().sum() for value in logits.values()]).sum().backward()
    for name, parameter in function.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name
        assert bool((parameter.grad != 0).any()), name


@every
def test_examples_do_not_see_each_other(target: Target, settings: object) -> None:
    x = torch.randn(9, 4)
    model, function = decomposed(target, importance=settings)  # pyright: ignore[reportArgumentType]
    clean, part = model.clean(x), model.clean(x[:3])
    function.logits_on(model, clean)  # in training a function may keep a running scale of what it sees
    with torch.no_grad():
        whole, some = function.logits_on(model, clean), function.logits_on(model, part)
    for path, value in some.items():
        torch.testing.assert_close(value, whole[path][:3])


@every
def test_same_seed_same_function(target: Target, settings: object) -> None:
    first, _, _ = run(target, settings, torch.ones(2, 4))
    second, _, _ = run(target, settings, torch.ones(2, 4))
    for path in first:
        assert torch.equal(first[path], second[path])


@every
def test_the_function_does_not_hold_the_factors(target: Target, settings: object) -> None:
    _, model, function = run(target, settings, torch.ones(2, 4))
    assert {id(p) for p in model.parameters()}.isdisjoint({id(p) for p in function.parameters()})


def test_component_mlp_sees_one_activation_and_reaches_the_read_directions(target: Target) -> None:
    model, function = decomposed(target, importance="component-mlp")
    clean = model.clean(torch.randn(9, 4))
    h = {path: value.detach().requires_grad_() for path, value in model.activations(clean).items()}
    (grad,) = torch.autograd.grad(function(clean.inputs, h)["0"][:, 2].sum(), [h["0"]])
    assert torch.nonzero(grad.abs().sum(0)).flatten().tolist() == [2]
    function(clean.inputs, model.activations(clean))["0"].sum().backward()
    assert model.get_parameter("factors.0.V").grad is not None
    assert model.get_parameter("factors.0.U").grad is None


@pytest.mark.parametrize("kind", ["layerwise-mlp", "vector-mlp", "global-mlp"])
def test_functions_of_the_input_do_not_reach_the_factors(target: Target, kind: str) -> None:
    logits, model, _ = run(target, kind, torch.randn(9, 4))
    logits["0"].sum().backward()
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("kind", "sees"), [("layerwise-mlp", False), ("vector-mlp", False), ("component-mlp", False), ("global-mlp", True)]
)
def test_only_the_global_function_sees_the_other_sites(target: Target, kind: str, sees: bool) -> None:
    model, function = decomposed(target, importance=kind)
    clean = model.clean(torch.randn(9, 4))
    inputs = dict(clean.inputs)
    before = function(inputs, model.activations(clean))["2"]
    after = function({**inputs, "0": inputs["0"] + 1}, model.activations(clean))["2"]
    assert torch.equal(before, after) is not sees


def test_vector_mlp_is_one_mlp_per_subcomponent(target: Target) -> None:
    logits, _, function = run(target, {"kind": "vector-mlp", "hidden": 3}, x := torch.randn(9, 4))
    one = function.get_submodule("mlps.0")
    with torch.no_grad():
        one.get_parameter("b_in").normal_()
        one.get_parameter("b_out").normal_()
    W_in, b_in, W_out, b_out = (one.get_parameter(name) for name in ("W_in", "b_in", "W_out", "b_out"))
    expected = torch.stack([torch.nn.functional.gelu(x @ W_in[:, c] + b_in[c]) @ W_out[c] + b_out[c] for c in range(7)], dim=-1)
    torch.testing.assert_close(one(x), expected)
    assert logits["0"].shape == expected.shape


def test_global_mlp_refuses_sites_with_other_positions() -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 6), Conv1D(3, 6)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.first(x).mean(1))

    target = Target(Pooled(), sites="*", data=[torch.randn(8, 5, 4)])
    model, function = decomposed(target, importance="global-mlp")
    clean = model.clean(torch.randn(8, 5, 4))
    with pytest.raises(UserError, match="'global-mlp' needs sites that see the same positions"):
        function(clean.inputs, model.activations(clean))


def test_per_site_needs_a_glob_for_every_site(target: Target) -> None:
    with pytest.raises(UserError, match="no glob matches the site '2'"):
        decomposed(target, importance={"kind": "per-site", "sites": {"0": "layerwise-mlp"}})  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="the glob 'x' chooses no site"):
        decomposed(
            Target(mlp(), sites="*", data=[torch.ones(2, 4)]),
            importance={"kind": "per-site", "sites": {"*": "layerwise-mlp", "x": "global-mlp"}},
        )  # pyright: ignore[reportArgumentType]
