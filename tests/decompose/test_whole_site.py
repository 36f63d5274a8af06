"""A site that is computed in blocks gives the formula's output and gradients, whatever is routed and however its matrices lie."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from unbraid.decompose import kernels
from unbraid.decompose.masks import Between
from unbraid.decompose.whole_site import fits, whole_site

LEAD, D_IN, C, D_OUT = (3, 130), 5, 7, 6  # 390 positions: a block and a part of one


@pytest.fixture(autouse=True)
def one_thread() -> None:
    if kernels.library() is None or kernels.blas() is None:
        pytest.skip("no C compiler or no BLAS here, so there are no blocks")
    assert torch.get_num_threads() == 1


def drawn(shared: bool, transposed: bool) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)

    def rand(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    def matrix(rows: int, cols: int) -> Tensor:
        return (rand(cols, rows).T if transposed else rand(rows, cols)) - 0.5

    wide = rand(*((1, 1) if shared else LEAD), C + 1)
    return {
        "x": rand(*LEAD, D_IN) - 0.5,
        "V": matrix(D_IN, C),
        "U": matrix(C, D_OUT),
        "g": rand(*LEAD, C),
        "r": wide[..., :-1],
        "kept": rand(*LEAD, 2)[..., 1],
        "M": matrix(D_IN, D_OUT),
    }


def by_formula(at: dict[str, Tensor], routed: Tensor | None, bias: Tensor | None) -> Tensor:
    mask = at["g"] + (1 - at["g"]) * at["r"]
    y = ((at["x"] @ at["V"]) * mask) @ at["U"] + at["kept"][..., None] * (at["x"] @ (at["M"] - at["V"] @ at["U"]))
    y = y if routed is None else torch.where(routed[..., None], y, at["x"] @ at["M"])
    return y if bias is None else y + bias


def in_blocks(at: dict[str, Tensor], routed: Tensor | None, bias: Tensor | None) -> Tensor:
    mask = Between(at["g"], at["r"], at["kept"], routed)
    assert fits(at["x"], mask, at["V"], at["U"], at["M"], bias)
    return whole_site(at["x"], mask, at["V"], at["U"], at["M"], bias)


@pytest.mark.parametrize(
    "needed", [("x", "V", "U", "g"), ("x", "r", "kept"), ("x", "V", "U", "g", "r", "kept"), ("U",), ("kept",)], ids=",".join
)
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("chance", [None, 0.5, 0.0, 1.0])
def test_output_and_gradients(needed: tuple[str, ...], shared: bool, transposed: bool, chance: float | None) -> None:
    given = drawn(shared, transposed)
    routed = None if chance is None else torch.rand(LEAD) < chance
    bias, upstream = torch.randn(D_OUT) if shared else None, torch.randn(*LEAD, D_OUT)
    results: list[list[Tensor]] = []
    for call in (in_blocks, by_formula):
        at = {name: value.detach().requires_grad_(name in needed) for name, value in given.items()}
        y = call(at, routed, bias)
        results.append([y, *torch.autograd.grad(y, [at[name] for name in needed], upstream)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_what_the_kernel_cannot_take_goes_another_way() -> None:
    at = drawn(shared=False, transposed=False)
    mask = Between(at["g"], at["r"], at["kept"])
    assert fits(at["x"], mask, at["V"], at["U"], at["M"], None)
    assert not fits(at["x"].bfloat16(), mask, at["V"], at["U"], at["M"], None)
    assert not fits(at["x"], mask, at["V"], at["U"], at["M"].repeat(2, 2)[::2, ::2], None)
    with torch.autocast("cpu", torch.bfloat16):
        assert not fits(at["x"], mask, at["V"], at["U"], at["M"], None)
