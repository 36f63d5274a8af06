from __future__ import annotations

import pytest
import torch
from torch import Tensor

from unbraid.decompose.masks import Mask
from unbraid.decompose.site import DecomposedSite, Factors, Pass, TransposedFactors


def site(C: int = 5, bias: bool = True) -> DecomposedSite:
    factors = Factors(4, 3, C)
    torch.nn.init.normal_(factors.V)
    torch.nn.init.normal_(factors.U)
    return DecomposedSite("a", torch.randn(4, 3), torch.randn(3) if bias else None, factors, Pass())


def written_out(layer: DecomposedSite, x: Tensor, mask: Mask) -> Tensor:
    """`(x V ⊙ m) U + m_Δ (x Δ) + b`, the formula of the module's docstring in its first form."""
    V, U = layer.factors.views()
    y = (x @ V * mask.component) @ U
    if mask.delta is not None:
        y = y + mask.delta[..., None] * (x @ (layer.weight - V @ U))
    return y if layer.bias is None else y + layer.bias


@pytest.mark.parametrize("lead", [(6,), (2, 3), (2, 3, 1)])
@pytest.mark.parametrize("delta", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_output_under_a_mask_is_the_written_formula(lead: tuple[int, ...], delta: bool, bias: bool) -> None:
    layer, x = site(bias=bias), torch.randn(*lead, 4)
    mask = Mask(torch.rand(*lead, 5), torch.rand(lead) if delta else None)
    layer.shared.masks = {"a": mask}
    torch.testing.assert_close(layer(x), written_out(layer, x, mask))


@pytest.mark.parametrize("delta", [True, False])
def test_gradients_under_a_mask_are_those_of_the_written_formula(delta: bool) -> None:
    layer, x = site(), torch.randn(6, 4, requires_grad=True)
    component, kept = torch.rand(6, 5, requires_grad=True), torch.rand(6, requires_grad=True)
    mask = Mask(component, kept if delta else None)
    leaves = [x, component, *layer.factors.parameters(), *([kept] if delta else [])]
    layer.shared.masks = {"a": mask}
    fast = torch.autograd.grad(layer(x).square().sum(), leaves)
    plain = torch.autograd.grad(written_out(layer, x, mask).square().sum(), leaves)
    for one, other in zip(fast, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_without_a_mask_the_site_is_the_matrix() -> None:
    layer, x = site(), torch.randn(6, 4)
    torch.testing.assert_close(layer(x), x @ layer.weight + layer.bias)


def test_not_routed_without_delta_is_the_matrix() -> None:
    layer, x = site(), torch.randn(6, 4)
    routed = torch.tensor([True, False] * 3)
    mask = Mask(torch.rand(6, 5), None, routed)
    layer.shared.masks = {"a": mask}
    y = layer(x)
    torch.testing.assert_close(y[~routed], (x @ layer.weight + layer.bias)[~routed])
    torch.testing.assert_close(y[routed], written_out(layer, x, mask)[routed])


def test_delta_is_what_the_subcomponents_leave() -> None:
    layer = site()
    V, U = layer.factors.views()
    torch.testing.assert_close(layer.delta() + V @ U, layer.weight)


def test_transposed_factors_are_the_same_parameters() -> None:
    owner = Factors(4, 3, 5)
    torch.nn.init.normal_(owner.V)
    torch.nn.init.normal_(owner.U)
    V, U = TransposedFactors(owner).views()
    assert V.shape == (3, 5)
    assert U.shape == (5, 4)
    torch.testing.assert_close(V @ U, (owner.V @ owner.U).T)
    assert list(TransposedFactors(owner).parameters()) == []
