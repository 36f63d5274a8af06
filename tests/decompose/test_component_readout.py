"""Two-sided gates on a subcomponent's own activation, and the choice of importance functions by site."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from unbraid.core.errors import UserError
from unbraid.decompose.importance.component_mlp import ComponentMLP
from unbraid.decompose.importance.component_readout import ComponentReadout
from unbraid.decompose.importance.layerwise_mlp import LayerwiseMLP
from unbraid.decompose.importance_function import ImportanceFunction, SiteShape, importance_functions

SHAPES = {"a.in": SiteShape(4, 3), "a.out": SiteShape(6, 5)}


def build(sites: dict[str, SiteShape] | None = None, seed: int = 0, **settings: object) -> ImportanceFunction:
    config = importance_functions.parse({"kind": "component-readout", **settings})
    return config.build(SHAPES if sites is None else sites, torch.Generator().manual_seed(seed))


def logits_of(function: ImportanceFunction, h: Tensor) -> Tensor:
    """The logits of the only site, [..., C], whatever its input."""
    return function({"a": torch.full((*h.shape[:-1], 2), torch.nan)}, {"a": h})["a"]


def one_site(C: int, **settings: object) -> ImportanceFunction:
    return build({"a": SiteShape(2, C)}, **settings)


@pytest.mark.parametrize("lead", [(7,), (1,), (2, 3)])
def test_one_logit_per_subcomponent_and_position(lead: tuple[int, ...]) -> None:
    activations = {path: torch.randn(*lead, shape.C) for path, shape in SHAPES.items()}
    logits = build()({path: torch.randn(*lead, shape.d_in) for path, shape in SHAPES.items()}, activations)
    assert {path: z.shape for path, z in logits.items()} == {"a.in": (*lead, 3), "a.out": (*lead, 5)}


def test_logits_are_the_written_formula() -> None:
    function, h = one_site(3).eval(), torch.randn(8, 3)
    gates = function.get_submodule("gates.0")
    with torch.no_grad():
        for parameter in gates.parameters():
            parameter.normal_()
        gates.get_buffer("scale").copy_(torch.tensor([0.5, 1.0, 3.0]))
    size, slope, shift, bias = (gates.get_parameter(name) for name in ("size", "slope", "shift", "bias"))
    scaled = h / torch.tensor([0.5, 1.0, 3.0])
    above, below = torch.sigmoid(slope[0] * scaled + shift[0]), torch.sigmoid(shift[1] - slope[1] * scaled)
    torch.testing.assert_close(logits_of(function, h), size[0] * above + size[1] * below + bias)


def test_gate_starts_on_for_both_signs_and_off_between() -> None:
    function = one_site(1)
    z = logits_of(function, torch.tensor([[-2.0], [-0.02], [0.0], [0.02], [2.0]]))[:, 0]
    assert bool((z[[0, 4]] > 0.75).all())
    assert bool((z[1:4] < 0.05).all())
    torch.testing.assert_close(z, z.flip(0))


def test_one_side_can_be_shut_without_the_other() -> None:
    function = one_site(1)
    with torch.no_grad():
        function.get_parameter("gates.0.size")[1] = 0.0
    z = logits_of(function, torch.tensor([[-2.0], [0.0], [2.0]]))[:, 0].detach()
    assert float(z[0]) < 0 < 0.75 < float(z[2])


def test_scale_of_the_activation_does_not_matter() -> None:
    h = torch.randn(9, 4)
    torch.testing.assert_close(logits_of(one_site(4), h), logits_of(one_site(4), h * torch.tensor([1e-3, 0.5, 7.0, 1e3])))


def test_scale_is_the_first_batch_and_then_follows_its_maxima() -> None:
    function = one_site(2, scale_decay=0.75)
    scale = function.get_submodule("gates.0").get_buffer("scale")
    assert scale.tolist() == [0, 0]
    logits_of(function, torch.tensor([[1.0, -4.0], [-2.0, 3.0]]))
    assert scale.tolist() == [2, 4]
    logits_of(function, torch.tensor([[1.0, 8.0]]))
    torch.testing.assert_close(scale, torch.tensor([0.75 * 2 + 0.25 * 1, 0.75 * 4 + 0.25 * 8]))


@pytest.mark.parametrize("still", ["eval", "no grad"])
def test_scale_stays_outside_training(still: str) -> None:
    function = one_site(2)
    logits_of(function, torch.tensor([[2.0, 4.0]]))
    h = torch.tensor([[20.0, 40.0]])
    if still == "eval":
        logits_of(function.eval(), h)
    else:
        with torch.no_grad():
            logits_of(function, h)
    assert function.get_submodule("gates.0").get_buffer("scale").tolist() == [2, 4]


def test_subcomponent_that_never_acts_has_finite_logits_and_gradients() -> None:
    function, h = one_site(2), torch.zeros(4, 2, requires_grad=True)
    z = logits_of(function, h)
    (grad,) = torch.autograd.grad(z.sum(), [h])
    assert bool(torch.isfinite(z).all())
    assert bool(torch.isfinite(grad).all())
    assert bool((z < 0.1).all())


def test_each_logit_depends_on_its_own_activation_alone() -> None:
    function, h = one_site(4), torch.randn(6, 4, requires_grad=True)
    (grad,) = torch.autograd.grad(logits_of(function, h)[:, 2].sum(), [h])
    assert torch.nonzero(grad.abs().sum(0)).flatten().tolist() == [2]


def test_starting_values_are_the_settings() -> None:
    function = one_site(2, slope=3.0, threshold=1.5, bias=-0.2)
    gates = function.get_submodule("gates.0")
    expected = {"size": 1.0, "slope": 3.0, "shift": -1.5, "bias": -0.2}
    for name, value in expected.items():
        assert bool((gates.get_parameter(name) == value).all()), name


def test_state_holds_the_gates_and_their_scale() -> None:
    function, other, h = build(), build(), {path: torch.randn(9, shape.C) for path, shape in SHAPES.items()}
    with torch.no_grad():
        for parameter in function.parameters():
            parameter.normal_()
    function({}, h)
    assert not torch.equal(function.eval()({}, h)["a.in"], other.eval()({}, h)["a.in"])
    other.load_state_dict(function.state_dict())
    for path in SHAPES:
        assert torch.equal(function({}, h)[path], other({}, h)[path])


def per_site(sites: object, shapes: dict[str, SiteShape] | None = None) -> ImportanceFunction:
    config = importance_functions.parse({"kind": "per-site", "sites": sites})
    return config.build(SHAPES if shapes is None else shapes, torch.Generator().manual_seed(0))


def functions_of(function: ImportanceFunction) -> list[type]:
    return [type(child) for child in function.get_submodule("functions").children()]


def test_first_glob_that_matches_chooses() -> None:
    first = per_site({"*.in": "component-readout", "*": {"kind": "layerwise-mlp", "hidden": 3}})
    assert functions_of(first) == [ComponentReadout, LayerwiseMLP]
    assert first.get_submodule("functions.0").get_parameter("gates.0.bias").shape == (3,)
    assert first.get_submodule("functions.1").get_parameter("mlps.0.W_in").shape == (6, 3)
    several = per_site({"a.*": "component-mlp"})
    assert functions_of(several) == [ComponentMLP]


def test_every_site_gets_the_logits_of_its_own_function() -> None:
    shapes = {"x": SiteShape(4, 3), "y": SiteShape(4, 3), "z": SiteShape(4, 3)}
    function = per_site({"y": {"kind": "component-readout", "bias": 7.0}, "*": {"kind": "component-readout", "bias": -7.0}}, shapes)
    logits = function({}, {path: torch.randn(5, 3) for path in shapes})
    assert {path: bool((z > 0).all()) for path, z in logits.items()} == {"x": False, "y": True, "z": False}
    assert {path: bool((z < 0).all()) for path, z in logits.items()} == {"x": True, "y": False, "z": True}


def test_site_without_a_glob_is_named() -> None:
    with pytest.raises(UserError, match=r"no glob matches the site 'a.out'"):
        per_site({"*.in": "component-readout"})


def test_glob_without_a_site_is_named() -> None:
    with pytest.raises(UserError, match=r"the glob 'b.\*' chooses no site") as caught:
        per_site({"a.*": "component-readout", "b.*": "component-readout"})
    assert "a.in, a.out" in caught.value.fix


def test_glob_behind_one_that_takes_everything_chooses_no_site() -> None:
    with pytest.raises(UserError, match=r"the glob 'a.in' chooses no site"):
        per_site({"*": "component-readout", "a.in": "layerwise-mlp"})


@pytest.mark.parametrize(("sites", "message"), [(["a"], "mapping"), ({"*": "no-such"}, "no-such")])
def test_settings_that_are_no_choice(sites: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        per_site(sites)


def test_state_of_a_choice_goes_round() -> None:
    sites = {"*.in": "component-readout", "*": {"kind": "layerwise-mlp", "hidden": 3}}
    function, other = per_site(sites), per_site(sites)
    with torch.no_grad():
        for parameter in function.parameters():
            parameter.add_(torch.randn_like(parameter))
    inputs = {path: torch.randn(9, shape.d_in) for path, shape in SHAPES.items()}
    h = {path: torch.randn(9, shape.C) for path, shape in SHAPES.items()}
    function(inputs, h)
    other.load_state_dict(function.state_dict())
    for path, z in function.eval()(inputs, h).items():
        assert torch.equal(z, other.eval()(inputs, h)[path])
