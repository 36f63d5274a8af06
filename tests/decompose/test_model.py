from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.models import Conv1D, decomposed, dense_mlp_output, mlp, tied_pair
from unbraid.core.errors import UserError
from unbraid.decompose.masks import Mask, constant_masks
from unbraid.decompose.model import Clean, DecomposedModel, resolve_components
from unbraid.targets.sites import Site, Tie
from unbraid.targets.target import Target


def like(model: DecomposedModel, clean: Clean) -> dict[str, Tensor]:
    """Return tensors of the importances' shape, [..., C] per site."""
    return {path: torch.rand(*site.x.shape[:-1], model.C[path]) for path, site in clean.sites.items()}


def test_clean_pass_is_the_target(target: Target) -> None:
    model, _ = decomposed(target)
    x = torch.randn(9, 4)
    clean = model.clean(x)
    torch.testing.assert_close(clean.output, target(x))
    torch.testing.assert_close(clean.inputs["0"], x)
    torch.testing.assert_close(clean.inputs["2"], torch.relu(target.module[0](x)))
    assert not clean.output.requires_grad


def test_everything_kept_is_the_target(target: Target) -> None:
    model, _ = decomposed(target)
    clean = model.clean(torch.randn(9, 4))
    out = model.masked(clean, constant_masks(like(model, clean), 1.0, delta=1.0))
    torch.testing.assert_close(out, clean.output, rtol=0, atol=1e-6)


def test_no_masks_is_the_target(target: Target) -> None:
    model, _ = decomposed(target)
    clean = model.clean(torch.randn(9, 4))
    torch.testing.assert_close(model.masked(clean, {}), clean.output, rtol=0, atol=0)


@pytest.mark.parametrize("delta", [0.0, None])
def test_everything_ablated_leaves_the_biases(target: Target, delta: float | None) -> None:
    model, _ = decomposed(target)
    clean = model.clean(torch.randn(9, 4))
    out = model.masked(clean, constant_masks(like(model, clean), 0.0, delta))
    bias = target.module.get_parameter("2.bias")
    torch.testing.assert_close(out, bias.expand(9, 3))


@pytest.mark.parametrize("path", ["0", "2"])
def test_ablating_one_subcomponent_subtracts_its_matrix_from_the_weight(target: Target, path: str) -> None:
    model, _ = decomposed(target)
    x, c = torch.randn(9, 4), 3
    clean = model.clean(x)
    masks = constant_masks(like(model, clean), 1.0, delta=1.0)
    component = masks[path].component.clone()
    component[:, c] = 0
    ablated = mlp()
    ablated.load_state_dict(target.module.state_dict())
    V, U = model.sites[path].factors.views()
    with torch.no_grad():
        ablated.get_parameter(f"{path}.weight").sub_(torch.outer(V[:, c], U[c]).T)
    torch.testing.assert_close(model.masked(clean, {**masks, path: Mask(component, masks[path].delta)}), ablated(x))


@pytest.mark.parametrize("delta", [True, False])
def test_any_masks_match_explicit_dense_matrices(target: Target, delta: bool) -> None:
    model, _ = decomposed(target)
    x = torch.randn(9, 4)
    clean = model.clean(x)
    masks = {path: Mask(g, torch.rand(9) if delta else None) for path, g in like(model, clean).items()}
    module = target.module
    assert isinstance(module, nn.Sequential)
    torch.testing.assert_close(model.masked(clean, masks), dense_mlp_output(model, module, x, masks))
    alone = {"2": masks["2"]}
    torch.testing.assert_close(model.masked(clean, alone), dense_mlp_output(model, module, x, alone))


def test_masked_passes_do_not_disturb_each_other(target: Target) -> None:
    model, _ = decomposed(target)
    clean = model.clean(torch.randn(9, 4))
    first = {path: Mask(g) for path, g in like(model, clean).items()}
    before = model.masked(clean, first)
    model.masked(clean, constant_masks(like(model, clean), 0.0, 0.0))
    torch.testing.assert_close(model.masked(clean, first), before, rtol=0, atol=0)


def test_an_older_clean_pass_may_still_be_masked(target: Target) -> None:
    model, _ = decomposed(target)
    older = model.clean(torch.randn(9, 4))
    masks = {path: Mask(g) for path, g in like(model, older).items()}
    before = model.masked(older, masks)
    model.clean(torch.randn(9, 4))
    torch.testing.assert_close(model.masked(older, masks), before)


def test_new_factors_are_seen_on_a_new_clean_pass(target: Target) -> None:
    model, _ = decomposed(target)
    x = torch.randn(9, 4)
    model.activations(model.clean(x))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    clean = model.clean(x)
    V, _ = model.sites["0"].factors.views()
    torch.testing.assert_close(model.activations(clean)["0"], x @ V)


def test_every_parameter_gets_a_gradient(target: Target) -> None:
    model, _ = decomposed(target)
    clean = model.clean(torch.randn(9, 4))
    model.masked(clean, {path: Mask(g) for path, g in like(model, clean).items()}).square().sum().backward()
    assert sorted(name for name, _ in model.named_parameters()) == ["factors.0.U", "factors.0.V", "factors.2.U", "factors.2.V"]
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert bool((parameter.grad != 0).any())


def test_target_is_left_as_it_was() -> None:
    module = mlp()
    module.get_parameter("2.weight").requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    facts = [(name, type(child)) for name, child in module.named_modules()], [p.requires_grad for p in module.parameters()]
    model, _ = decomposed(Target(module, sites="*", data=[torch.randn(8, 4)]))
    clean = model.clean(torch.randn(8, 4))
    model.masked(clean, constant_masks(like(model, clean), 0.5, 0.5)).sum().backward()
    model.to(torch.float32)
    assert ([(name, type(child)) for name, child in module.named_modules()], [p.requires_grad for p in module.parameters()]) == facts
    assert list(module.state_dict()) == list(before)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert all(parameter.grad is None for parameter in module.parameters())


def test_state_holds_the_factors_only(target: Target) -> None:
    model, _ = decomposed(target)
    assert sorted(model.state_dict()) == ["factors.0.U", "factors.0.V", "factors.0.kept", "factors.2.U", "factors.2.V", "factors.2.kept"]


def test_tied_sites_share_one_parameter(tied_target: Target) -> None:
    model, _ = decomposed(tied_target)
    assert sorted(name for name, _ in model.named_parameters()) == ["factors.down.U", "factors.down.V"]
    down, up = model.sites["down"].factors.views(), model.sites["up"].factors.views()
    torch.testing.assert_close(up[0] @ up[1], (down[0] @ down[1]).T)
    clean = model.clean(torch.rand(8, 5))
    masks = {path: Mask(g) for path, g in like(model, clean).items()}
    V, U = down
    hidden = torch.relu((clean.inputs["down"] @ V * masks["down"].component) @ U)
    expected = (hidden @ U.T * masks["up"].component) @ V.T + tied_target.module.get_parameter("up.bias")
    torch.testing.assert_close(model.masked(clean, masks), expected)


def test_tied_sites_are_faithful_together(tied_target: Target) -> None:
    model, _ = decomposed(tied_target)
    torch.testing.assert_close(model.sites["up"].delta(), model.sites["down"].delta().T)


def test_sites_in_one_storage_share_one_parameter() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    module[2].weight = module[0].weight
    model, _ = decomposed(Target(module, sites="*", data=[torch.randn(8, 3)]))
    assert model.sites["0"].factors is model.sites["2"].factors
    assert len(list(model.parameters())) == 2


def test_conv1d() -> None:
    module = nn.Sequential(Conv1D(6, 4), nn.GELU(), Conv1D(3, 6))
    target = Target(module, sites="*", data=[torch.randn(8, 4)])
    model, _ = decomposed(target)
    x = torch.randn(9, 4)
    clean = model.clean(x)
    torch.testing.assert_close(model.masked(clean, constant_masks(like(model, clean), 1.0, 1.0)), module(x))
    V, U = model.sites["0"].factors.views()
    assert (V.shape, U.shape) == ((4, 7), (7, 6))
    g = like(model, clean)
    hidden = module[1]((x @ V * g["0"]) @ U + module[0].bias)
    torch.testing.assert_close(model.masked(clean, {"0": Mask(g["0"])}), module[2](hidden))


def test_inputs_with_positions(target: Target) -> None:
    model, _ = decomposed(target)
    x = torch.randn(5, 3, 4)
    clean, flat = model.clean(x), model.clean(x.flatten(0, 1))
    masks = {path: Mask(g, torch.rand(5, 3)) for path, g in like(model, clean).items()}
    flat_masks = {
        path: Mask(mask.component.flatten(0, 1), None if mask.delta is None else mask.delta.flatten()) for path, mask in masks.items()
    }
    out = model.masked(model.clean(x), masks)
    assert out.shape == (5, 3, 3)
    torch.testing.assert_close(out.flatten(0, 1), model.masked(flat, flat_masks))


def test_inserted_identity() -> None:
    module = mlp()
    target = Target(module, sites="0", identities="2", data=[torch.randn(8, 4)])
    model, _ = decomposed(target)
    x = torch.randn(9, 4)
    clean = model.clean(x)
    assert list(clean.sites) == ["0", "2.pre_identity"]
    torch.testing.assert_close(clean.output, module(x))
    torch.testing.assert_close(clean.inputs["2.pre_identity"], torch.relu(module[0](x)))
    masks = constant_masks(like(model, clean), 1.0, 1.0)
    torch.testing.assert_close(model.masked(clean, masks), module(x))
    V, U = model.sites["2.pre_identity"].factors.views()
    out = model.masked(clean, {"2.pre_identity": constant_masks(like(model, clean), 1.0, None)["2.pre_identity"]})
    torch.testing.assert_close(out, module[2](torch.relu(module[0](x)) @ V @ U))


def test_identity_before_a_module_that_is_a_site_too() -> None:
    module = mlp()
    target = Target(module, sites="*", identities="2", data=[torch.randn(8, 4)])
    model, _ = decomposed(target)
    x = torch.randn(9, 4)
    clean = model.clean(x)
    assert sorted(clean.sites) == ["0", "2", "2.pre_identity"]
    torch.testing.assert_close(model.masked(clean, constant_masks(like(model, clean), 1.0, 1.0)), module(x))


def test_routed_without_delta(target: Target) -> None:
    model, _ = decomposed(target)
    x = torch.randn(9, 4)
    clean = model.clean(x)
    routed = torch.rand(9) < 0.5
    masks = {path: Mask(g, None, routed if path == "0" else ~routed) for path, g in like(model, clean).items()}
    module = target.module
    assert isinstance(module, nn.Sequential)
    torch.testing.assert_close(model.masked(clean, masks), dense_mlp_output(model, module, x, masks))


def test_a_nonlinearity_that_works_in_place_is_not_remembered_wrongly() -> None:
    module = nn.Sequential(nn.Linear(4, 6), nn.ReLU(inplace=True), nn.Linear(6, 3))
    target = Target(module, sites="*", data=[torch.randn(8, 4)])
    model, _ = decomposed(target)
    x = torch.randn(9, 4)
    clean = model.clean(x)
    torch.testing.assert_close(clean.output, module(x))
    torch.testing.assert_close(model.masked(clean, constant_masks(like(model, clean), 1.0, 1.0)), module(x))
    torch.testing.assert_close(model.masked(clean, {"2": constant_masks(like(model, clean), 1.0, 1.0)["2"]}), module(x))


def test_residual_stream_is_not_taken_for_its_clean_self() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.layer, self.other = nn.LayerNorm(4), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = x + self.layer(self.norm(x))
            return x + self.other(self.norm(x))

    module = Block()
    target = Target(module, sites="layer", data=[torch.randn(8, 4)])
    model, _ = decomposed(target)
    x = torch.randn(9, 4)
    clean = model.clean(x)
    masks = {"layer": Mask(like(model, clean)["layer"])}
    V, U = model.sites["layer"].factors.views()
    stream = x + (module.norm(x) @ V * masks["layer"].component) @ U + module.layer.bias
    torch.testing.assert_close(model.masked(clean, masks), stream + module.other(module.norm(stream)))


def test_site_that_the_model_does_not_use() -> None:
    module = tied_pair()
    module.register_module("spare", nn.Linear(2, 2))
    model, _ = decomposed(Target(module, sites="*", data=[torch.rand(8, 5)]))
    with pytest.raises(UserError, match="The site 'spare' is not used in the forward pass"):
        model.clean(torch.rand(8, 5))


def test_components_by_glob_the_most_exact_wins() -> None:
    sites = (Site("a.q", 3, 3), Site("a.k", 3, 3), Site("b", 3, 3))
    assert resolve_components(sites, 5) == {"a.q": 5, "a.k": 5, "b": 5}
    assert resolve_components(sites, {"*": 20, "b": 8}) == {"a.q": 20, "a.k": 20, "b": 8}
    assert resolve_components(sites, {"b": 8, "*": 20}) == {"a.q": 20, "a.k": 20, "b": 8}
    assert resolve_components(sites, {"*": 20, "a.*": 3, "a.q": 4}) == {"a.q": 4, "a.k": 3, "b": 20}


@pytest.mark.parametrize(
    ("components", "message"),
    [
        ({"*": 0}, r"'\*' was given C = 0"),
        ({"*": 3, "c": 2}, "the glob 'c' matches no site"),
        ({"a": 3}, "the site 'b' has no C"),
        ({"a": 3, "b": 4}, "'b' is tied to 'a' but has another C"),
    ],
)
def test_components_that_do_not_fit(components: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve_components((Site("a", 3, 2), Site("b", 2, 3, Tie("a", transposed=True))), components)


class TwoNames(nn.Module):
    """One linear map under two names, called by the second."""

    def __init__(self, calls: tuple[str, ...]) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = self.first
        self.calls = calls

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for name in self.calls:
            x = getattr(self, name)(x)
        return x


def test_a_module_under_two_names_is_one_site() -> None:
    target = Target(TwoNames(("second",)), sites="*", data=[torch.randn(8, 3)])
    model = decomposed(target, C=3)[0]
    clean = model.clean(target.data.batch(0, 8, torch.Generator()))
    ablated = model.masked(clean, {path: Mask(torch.zeros(3), torch.tensor(0.0)) for path in model.sites})
    torch.testing.assert_close(ablated, target.module.get_parameter("first.bias").expand(8, 3))


@pytest.mark.parametrize("calls", [("first", "second"), ("first", "first")])
def test_a_site_that_is_called_twice_is_refused(calls: tuple[str, ...]) -> None:
    target = Target(TwoNames(calls), sites="*", data=[torch.randn(8, 3)])
    with pytest.raises(UserError, match="called more than once"):
        DecomposedModel(target, 3).clean(target.data.batch(0, 8, torch.Generator()))
