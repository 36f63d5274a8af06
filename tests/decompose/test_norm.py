"""The norm in one pass is torch's, with its gradient, and only modules that compute it are taken for it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from unbraid.decompose import kernels
from unbraid.decompose.norm import fits_norm, formula_of, normed_columns, rms_norm


def large(width: int = 40) -> torch.Tensor:
    return torch.randn(4, 500, width, generator=torch.Generator().manual_seed(width))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("eps", [None, 1e-2])
def test_output_and_gradient(weighted: bool, eps: float | None) -> None:
    weight, upstream = torch.rand(40) if weighted else None, torch.randn(4, 500, 40)
    assert fits_norm(large(), weight) == (kernels.library() is not None)
    one, other = (large().requires_grad_() for _ in range(2))
    y, expected = rms_norm(one, weight, eps), F.rms_norm(other, (40,), weight, eps)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(*(torch.autograd.grad(out, x, upstream)[0] for out, x in ((y, one), (expected, other))))


def test_rows_that_lie_apart() -> None:
    wide = torch.randn(2000, 80)
    torch.testing.assert_close(rms_norm(wide[:, 40:]), F.rms_norm(wide[:, 40:], (40,)))


def test_inputs_side_by_side() -> None:
    inputs = [large(40), large(72)]
    expected = torch.cat([F.rms_norm(x, x.shape[-1:]) for x in inputs], dim=-1)
    torch.testing.assert_close(normed_columns(inputs), expected)
    few = [x[:1, :2] for x in inputs]
    torch.testing.assert_close(normed_columns(few), expected[:1, :2])


def test_a_weight_that_learns_is_left_to_torch() -> None:
    weight = nn.Parameter(torch.rand(40))
    assert not fits_norm(large(), weight)
    rms_norm(large(), weight).sum().backward()
    assert weight.grad is not None


def test_only_this_formula_is_recognised() -> None:
    norm = nn.RMSNorm(8, eps=1e-3)
    assert formula_of(norm) == (norm.weight, 1e-3)
    assert formula_of(nn.LayerNorm(8)) is None
    assert formula_of(nn.RMSNorm([4, 8])) is None


def test_norms_of_transformers_that_are_taken_for_it_compute_it() -> None:
    transformers = pytest.importorskip("transformers")
    for family in ("llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3"):
        source = __import__(f"transformers.models.{family}.modeling_{family}", fromlist=["x"])
        kind = next(value for name, value in vars(source).items() if name.endswith("RMSNorm") and value.__module__ == source.__name__)
        module = kind(40, eps=1e-2).requires_grad_(False)
        module.weight.copy_(torch.rand(40))
        formula = formula_of(module)
        assert formula is not None, kind
        torch.testing.assert_close(rms_norm(large(), *formula), module(large()))
    del transformers
