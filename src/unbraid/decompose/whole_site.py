"""What does a large site give under masks, when all of it is new? Products and masks together, a block of positions at a time.

The formula is that of masked_product.py. Where the input is that of the clean pass, `x V` and `x M` are known and that way is the shorter one; here neither is, and the
site would write and read some ten tensors as large as its input. The kernel takes a few rows through all of it while they lie in the cache, and multiplies
by V and U only the rows that are routed.
"""

from __future__ import annotations

import ctypes
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from unbraid.decompose.kernels import blas, library, on_cpu
from unbraid.decompose.masks import Between
from unbraid.decompose.precision import casts_products, is_high
from unbraid.decompose.products import has_tiles

_SMALL = 1 << 18  # up to so many numbers in V, U and M a block's products read them from the cache
_BLOCK, _BLOCK_OF_LARGE = 256, 1024  # positions


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
        and (blas() is not None or (is_high() and has_tiles()))
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
    both = mask.both if mask.both is not None and mask.both.requires_grad else None
    r, kept = (mask.source.expand(mask.importance.shape), mask.delta) if both is None else (None, None)
    return _WholeSite.apply(C, x, V, U, mask.importance, r, kept, both, mask.routed, M, bias)


class _WholeSite(torch.autograd.Function):
    """Shapes are those of the caller: what is flattened in here leaves no trace in the graph."""

    @staticmethod
    def forward(
        ctx: Any,
        C: int,
        x: Tensor,
        V: Tensor,
        U: Tensor,
        g: Tensor,
        r: Tensor | None,
        kept: Tensor | None,
        both: Tensor | None,
        routed: Tensor | None,
        M: Tensor,
        bias: Tensor | None,
    ) -> Tensor:
        h, y = x.new_empty(g.numel() // C, C), x.new_empty(*x.shape[:-1], U.shape[1])
        given = (x, V, U, g, r, kept, both, routed, M, bias, h)
        ctx.save_for_backward(*given)
        ctx.high = is_high() and has_tiles()
        described, alive = _described(ctx.high, *given)
        _kernels().site_forward(ctypes.byref(described), _p(y))
        del alive
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        given = ctx.saved_tensors
        grad = _rows(grads[0])
        found = [
            torch.empty(tensor.shape, device=tensor.device) if needed else None
            for tensor, needed in zip(given[:7], ctx.needs_input_grad[1:8], strict=True)
        ]
        *inner, grad_r, grad_kept, grad_both = found
        if grad_both is not None:
            columns = grad_both.flatten(0, -2)
            grad_r, grad_kept = columns[:, :-1], columns[:, -1]
        strides = (
            ctypes.c_int64(grad_r.shape[-1] + (grad_both is not None) if grad_r is not None else 0),
            ctypes.c_int64(1 if grad_both is None else grad_both.shape[-1]),
        )
        described, alive = _described(ctx.high, *given)
        _kernels().site_backward(
            ctypes.byref(described),
            _p(grad),
            ctypes.c_int64(grad.stride(0)),
            *map(_p, inner),
            _p(grad_r),
            strides[0],
            _p(grad_kept),
            strides[1],
        )
        del alive
        return (None, *found, None, None, None)


def _described(
    high: bool,
    x: Tensor,
    V: Tensor,
    U: Tensor,
    g: Tensor,
    r: Tensor | None,
    kept: Tensor | None,
    both: Tensor | None,
    routed: Tensor | None,
    M: Tensor,
    bias: Tensor | None,
    h: Tensor,
) -> tuple[_Site, list[Tensor]]:
    """Return the kernel's view of a site, and the tensors that must live as long as it is used."""
    (d_in, C), d_out = V.shape, U.shape[1]
    r, kept = (both[..., :-1], both[..., -1]) if both is not None else (cast(Tensor, r), cast(Tensor, kept))
    x, g, r = _rows(x), _rows(g), _rows(r)
    kept, routed = kept.reshape(-1), None if routed is None else routed.reshape(-1).contiguous()
    block = min(len(x), _BLOCK if V.numel() + U.numel() + M.numel() <= _SMALL else _BLOCK_OF_LARGE)
    scratch = x.new_empty(2 * block * (C + d_in + d_out))
    described = _Site(
        None if high else blas(),
        *(len(x), d_in, C, d_out, block),
        *map(_factor, (V, U, M)),
        *(tensor.data_ptr() for tensor in (x, g, r, kept)),
        *(tensor.stride(0) for tensor in (x, g, r, kept)),
        *(None if tensor is None else tensor.data_ptr() for tensor in (routed, bias, h, scratch)),
    )
    return described, [tensor for tensor in (x, g, r, kept, routed, scratch) if tensor is not None]


def _factor(matrix: Tensor) -> _Factor:
    transposed = matrix.stride(1) != 1
    return _Factor(matrix.data_ptr(), matrix.stride(0) if not transposed else matrix.stride(1), int(transposed))


def _kernels() -> Any:
    return library()


def _p(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def _rows(tensor: Tensor) -> Tensor:
    """Return a tensor as a matrix whose rows each lie in one piece, as most do."""
    matrix = tensor.reshape(-1, tensor.shape[-1])
    return matrix if matrix.stride(1) == 1 else matrix.contiguous()
