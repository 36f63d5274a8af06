"""A large site's output and gradients are those of the formula, with and without the compiled kernels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from unbraid.decompose import kernels, masked_product
from unbraid.decompose.masks import Between

LEAD, D_IN, C, D_OUT = (3, 5), 4, 7, 6


def drawn(shared: bool) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)

    def rand(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    wide = rand(*((1, 1) if shared else LEAD), C + 1)
    return {
        "x": rand(*LEAD, D_IN) - 0.5,
        "V": rand(D_IN, C) - 0.5,
        "U": rand(C, D_OUT) - 0.5,
        "g": rand(*LEAD, C),
        "r": wide[..., :-1],
        "kept": rand(*LEAD, 2)[..., 1],
        "M": rand(D_IN, D_OUT) - 0.5,
    }


def fused(at: dict[str, Tensor], routed: Tensor | None, bias: Tensor | None) -> Tensor:
    h, dense = masked_product.both_products(at["x"], at["V"], at["M"])
    return masked_product.masked_product(h, Between(at["g"], at["r"], at["kept"], routed), at["U"], dense, bias)


def by_formula(at: dict[str, Tensor], routed: Tensor | None, bias: Tensor | None) -> Tensor:
    mask = at["g"] + (1 - at["g"]) * at["r"]
    y = ((at["x"] @ at["V"]) * mask) @ at["U"] + at["kept"][..., None] * (at["x"] @ (at["M"] - at["V"] @ at["U"]))
    y = y if routed is None else torch.where(routed[..., None], y, at["x"] @ at["M"])
    return y if bias is None else y + bias


@pytest.mark.parametrize("body", ["kernel", "torch"])
@pytest.mark.parametrize("needed", [("x", "V", "U", "g"), ("x", "r", "kept"), ("x", "V", "U", "g", "r", "kept"), ("U",)], ids=",".join)
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("limited", [False, True])
def test_output_and_gradients(body: str, needed: tuple[str, ...], shared: bool, limited: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if body == "torch":
        monkeypatch.setattr(masked_product, "library", lambda: None)
    elif kernels.library() is None:
        pytest.skip("no C compiler here, so there is only the torch body")
    given = drawn(shared)
    routed = torch.rand(LEAD) < 0.5 if limited else None
    bias, upstream = torch.randn(D_OUT), torch.randn(*LEAD, D_OUT)
    results: list[list[Tensor]] = []
    for call in (fused, by_formula):
        at = {name: value.detach().requires_grad_(name in needed) for name, value in given.items()}
        y = call(at, routed, bias)
        results.append([y, *torch.autograd.grad(y, [at[name] for name in needed], upstream)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_without_a_bias() -> None:
    at = drawn(shared=False)
    torch.testing.assert_close(fused(at, None, None), by_formula(at, None, None))
