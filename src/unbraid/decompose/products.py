"""How are large inputs multiplied by a matrix? By torch, or, where a run asks for the precision `high`, on the tile unit of the processor.

Torch calls a float32 product "high" when it takes each number for the sum of two bfloat16, or for a TensorFloat32; on the CPU it has neither. The kernel split.c has
the first, with float32 sums. It errs by a few 2^-18 of the numbers that are summed, where float32 does by 2^-24, and is two to three times as fast. Without
such a unit, in several threads and for small inputs, the product is torch's own.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from unbraid.decompose.columns import is_large
from unbraid.decompose.kernels import library, on_cpu
from unbraid.decompose.precision import is_high


def times(
    x: Float[Tensor, "*lead d_in"], W: Float[Tensor, "d_in d_out"], bias: Float[Tensor, " d_out"] | None = None
) -> Float[Tensor, "*lead d_out"]:
    """Return `x W + b` in the precision that is in force."""
    if is_high() and splits(x, W):
        y = _Times.apply(x, W)
        return y if bias is None else y + bias
    if bias is None:
        return x @ W
    if x.dim() == 2:
        return torch.addmm(bias, x, W)
    return torch.addmm(bias, x.flatten(0, -2), W).view(*x.shape[:-1], -1) if is_large(x) else x @ W + bias


def splits(*factors: Tensor) -> bool:
    """Whether the kernel can take these and is worth it: the first is large, and all are float32 on the CPU, in one thread."""
    return (
        is_large(factors[0])
        and all(factor.dtype == torch.float32 and on_cpu(factor) and 1 in factor.stride() for factor in factors)
        and torch.get_num_threads() == 1
        and has_tiles()
    )


def has_tiles() -> bool:
    """Whether this processor has a tile unit that the kernels may use."""
    kernels = library()
    return kernels is not None and bool(kernels.split_available())


def product(a: Float[Tensor, "m k"], b: Float[Tensor, "k n"]) -> Float[Tensor, "m n"]:
    """Return `a b` by the kernel; only where it `splits`."""
    out = torch.empty(len(a), b.shape[1], device=a.device)
    sizes = (ctypes.c_int64(size) for size in (*out.shape, a.shape[1]))
    if not _kernels().split_product(*sizes, *_factor(a), *_factor(b), ctypes.c_int(0), *_matrix(out)):
        raise MemoryError("no memory for a matrix product")
    return out


class _Times(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, W: Tensor) -> Tensor:
        ctx.save_for_backward(x, W)
        return product(x.reshape(-1, x.shape[-1]), W).view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (x, W), grad = ctx.saved_tensors, grads[0].reshape(-1, grads[0].shape[-1])
        needs_x, needs_W = ctx.needs_input_grad
        return product(grad, W.mT).view(x.shape) if needs_x else None, product(x.reshape(-1, x.shape[-1]).mT, grad) if needs_W else None


def _factor(matrix: Tensor) -> tuple[Any, ...]:
    if 1 not in matrix.stride():
        matrix = matrix.contiguous()
    transposed = matrix.stride(1) != 1
    return (*_matrix(matrix.mT if transposed else matrix), ctypes.c_int(transposed), None)


def _matrix(matrix: Tensor) -> tuple[Any, ...]:
    return ctypes.c_void_p(matrix.data_ptr()), ctypes.c_int64(matrix.stride(0))


def _kernels() -> Any:
    return library()
