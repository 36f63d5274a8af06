"""What does a large site give under masks, when all of it is new? Products and masks together, a block of positions at a time.

The formula is that of masked_product.py. Where the input is that of the clean pass, `x V` and `x M` are known and that way is the shorter one; here neither is, and the
site would write and read some ten tensors as large as its input. The kernel takes a few rows through all of it while they lie in the cache, and multiplies
by V and U only the rows that are routed.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from unbraid.decompose.kernels import blas, library, on_cpu
from unbraid.decompose.masks import Between
from unbraid.decompose.precision import casts_products

_SMALL = 1 << 18  # up to so many numbers in V, U and M a block's products read them from the cache
_BLOCK, _BLOCK_OF_LARGE = 128, 1024


class _Factor(ctypes.Structure):
    _fields_ = (("at", ctypes.c_void_p), ("stride", ctypes.c_int64), ("transposed", ctypes.c_int64))


class _Site(ctypes.Structure):
    _fields_ = (
        ("sgemm", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("rows", "d_in", "C", "d_out", "block")),
        *((name, _Factor) for name in ("V", "U", "M")),
        *((name, ctypes.c_void_p) for name in ("x", "g", "r", "kept")),
        *((name, ctypes.c_int64) for name in ("sx", "sg", "sr", "sk")),
        *((name, ctypes.c_void_p) for name in ("routed", "bias", "h", "scratch")),
    )


def fits(x: Tensor, mask: Between, V: Tensor, U: Tensor, M: Tensor, bias: Tensor | None) -> bool:
    """Whether the kernel can take these: float32 on the CPU, in one thread, with products in full precision."""
    tensors = [tensor for tensor in (x, mask.importance, mask.source, mask.delta, V, U, M, bias) if tensor is not None]
    return (
        all(tensor.dtype == torch.float32 and on_cpu(tensor) for tensor in tensors)
        and all(1 in matrix.stride() for matrix in (V, U, M))
        and torch.get_num_threads() == 1
        and not casts_products(x)
        and library() is not None
        and blas() is not None
    )


def whole_site(
    x: Float[Tensor, "*lead d_in"],
    mask: Between,
    V: Float[Tensor, "d_in C"],
    U: Float[Tensor, "C d_out"],
    M: Float[Tensor, "d_in d_out"],
    bias: Float[Tensor, " d_out"] | None,
) -> Float[Tensor, "*lead d_out"]:
    """Return a site's output under a mask; only where it `fits`.

    Args:
        x: What the site is given.
        mask: g, r, m_Δ, and where they apply.
        V: Read directions.
        U: Write directions.
        M: The site's own matrix, which has no gradient.
        bias: Always on; it has no gradient either.
    """
    C = V.shape[1]
    routed = None if mask.routed is None else mask.routed.reshape(-1).contiguous()
    g, r = mask.importance.reshape(-1, C), mask.source.expand(mask.importance.shape).reshape(-1, C)
    y = _WholeSite.apply(_rows(x.reshape(-1, x.shape[-1])), V, U, _rows(g), _rows(r), mask.delta.reshape(-1), routed, M, bias)
    return y.view(*x.shape[:-1], -1)


class _WholeSite(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, V: Tensor, U: Tensor, g: Tensor, r: Tensor, kept: Tensor, routed: Tensor | None, M: Tensor, bias: Tensor | None
    ) -> Tensor:
        h, y = x.new_empty(len(x), V.shape[1]), x.new_empty(len(x), U.shape[1])
        ctx.save_for_backward(x, V, U, g, r, kept, routed, M, bias, h)
        _kernels().site_forward(ctypes.byref(_described(x, V, U, g, r, kept, routed, M, bias, h)), _p(y))
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        given = ctx.saved_tensors
        grad = _rows(grads[0])
        found = [
            torch.empty(tensor.shape, device=tensor.device) if needed else None
            for tensor, needed in zip(given[:6], ctx.needs_input_grad[:6], strict=True)
        ]
        _kernels().site_backward(ctypes.byref(_described(*given)), _p(grad), ctypes.c_int64(grad.stride(0)), *map(_p, found))
        return (*found, None, None, None)


def _described(
    x: Tensor, V: Tensor, U: Tensor, g: Tensor, r: Tensor, kept: Tensor, routed: Tensor | None, M: Tensor, bias: Tensor | None, h: Tensor
) -> _Site:
    (d_in, C), d_out = V.shape, U.shape[1]
    block = min(len(x), _BLOCK if V.numel() + U.numel() + M.numel() <= _SMALL else _BLOCK_OF_LARGE)
    scratch = x.new_empty(2 * block * (C + d_in + d_out))
    described = _Site(
        blas(),
        *(len(x), d_in, C, d_out, block),
        *map(_factor, (V, U, M)),
        *(tensor.data_ptr() for tensor in (x, g, r, kept)),
        *(tensor.stride(0) for tensor in (x, g, r, kept)),
        *(None if tensor is None else tensor.data_ptr() for tensor in (routed, bias, h, scratch)),
    )
    described.kept_alive = scratch
    return described


def _factor(matrix: Tensor) -> _Factor:
    transposed = matrix.stride(1) != 1
    return _Factor(matrix.data_ptr(), matrix.stride(0) if not transposed else matrix.stride(1), int(transposed))


def _kernels() -> Any:
    return library()


def _p(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def _rows(matrix: Tensor) -> Tensor:
    """Return a matrix whose rows lie in one piece, as most do."""
    return matrix if matrix.stride(1) == 1 else matrix.contiguous()
