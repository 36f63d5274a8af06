"""What does a large site give under masks, at the cost of its matrix products? The whole formula as one autograd function.

    y = (h ⊙ (m - m_Δ)) U + m_Δ (x M) + b,    m = r + g (1 - r)

Neither the mask nor what it leaves of h is kept for the backward pass: both are made again there, in the pass over memory that the gradients
need anyway. At a position that is not routed m and m_Δ are one, whatever the source. As in fused.py there are two bodies.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from unbraid.decompose.kernels import library, on_cpu
from unbraid.decompose.masks import Between
from unbraid.decompose.precision import is_high
from unbraid.decompose.products import product, splits


def masked_product(
    h: Float[Tensor, "*lead C"],
    mask: Between,
    U: Float[Tensor, "C d_out"],
    dense: Float[Tensor, "*lead d_out"],
    bias: Float[Tensor, " d_out"] | None,
) -> Float[Tensor, "*lead d_out"]:
    """Return a site's output under a mask.

    Args:
        h: `x V`.
        mask: g, r, m_Δ, and where they apply.
        U: Write directions.
        dense: `x M`.
        bias: Always on.
    """
    lead, C = h.shape[:-1], h.shape[-1]
    y = _MaskedProduct.apply(
        h.reshape(-1, C),
        mask.importance.reshape(-1, C),
        mask.source.expand(mask.importance.shape).reshape(-1, C),
        mask.delta.reshape(-1),
        None if mask.routed is None else mask.routed.reshape(-1),
        U,
        dense.reshape(-1, dense.shape[-1]),
        bias,
    )
    return y.view(*lead, dense.shape[-1])


def both_products(
    x: Float[Tensor, "*lead d_in"], V: Float[Tensor, "d_in C"], weight: Float[Tensor, "d_in d_out"]
) -> tuple[Float[Tensor, "*lead C"], Float[Tensor, "*lead d_out"]]:
    """Return `x V` and `x M`; what both send back to x is added up where it is computed, and M has no gradient."""
    h, dense = _BothProducts.apply(x.flatten(0, -2), V, weight)
    return h.view(*x.shape[:-1], -1), dense.view(*x.shape[:-1], -1)


class _BothProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, V: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, V, weight)
        return x @ V.to(x.dtype), x @ weight.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (x, V, weight), (grad_h, grad_dense) = ctx.saved_tensors, grads
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = grad_dense @ weight.mT.to(grad_dense.dtype)
            grad_x.addmm_(grad_h, V.mT.to(grad_h.dtype))
        return grad_x, (x.mT.to(grad_h.dtype) @ grad_h) if ctx.needs_input_grad[1] else None, None


class _MaskedProduct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        h: Tensor,
        g: Tensor,
        r: Tensor,
        kept: Tensor,
        routed: Tensor | None,
        U: Tensor,
        dense: Tensor,
        bias: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(h, g, r, kept, routed, U, dense)
        e = _excess(h, g, r, kept, routed)
        ctx.high = is_high() and splits(e, U)
        y = product(e, U) if ctx.high else e @ U.to(e.dtype)
        _add_kept(y, dense, kept, routed, bias)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        h, g, r, kept, routed, U, dense = ctx.saved_tensors
        needs_h, needs_g, needs_r, needs_kept, _, needs_U, needs_dense, _ = ctx.needs_input_grad
        grad = grads[0].contiguous()
        grad_kept = kept.new_zeros(kept.shape) if needs_kept else None
        grad_e = None
        if needs_h or needs_g or needs_r or needs_kept:
            grad_e = product(grad, U.mT) if ctx.high else grad @ U.mT.to(grad.dtype)
        grad_dense = _kept_backward(grad, dense, kept, routed, grad_kept, needs_dense)
        e, grad_h, grad_g, grad_r = _excess_backward(grad_e, h, g, r, kept, routed, grad_kept, needs=(needs_U, needs_h, needs_g, needs_r))
        grad_U = None if e is None else product(e.mT, grad) if ctx.high else e.mT.to(grad.dtype) @ grad
        return grad_h, grad_g, grad_r, grad_kept, None, grad_U, grad_dense, None


def _c(*tensors: Tensor | None) -> ctypes.CDLL | None:
    """Return the kernels if they can take these tensors: float32 (or, for routing, bool) on the CPU, matrices with unit column stride."""
    for tensor in tensors:
        if tensor is None:
            continue
        if not on_cpu(tensor) or tensor.dtype not in (torch.float32, torch.bool):
            return None
        if tensor.dim() == 2 and tensor.stride(1) != 1 and tensor.shape[1] != 1:
            return None
    return library()


def _p(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def _s(tensor: Tensor | None) -> ctypes.c_int64:
    return ctypes.c_int64(0 if tensor is None else tensor.stride(0))


def _strided(*tensors: Tensor | None) -> list[Any]:
    return [value for tensor in tensors for value in (_p(tensor), _s(tensor))]


def _size(matrix: Tensor) -> tuple[ctypes.c_int64, ctypes.c_int64]:
    return ctypes.c_int64(matrix.shape[0]), ctypes.c_int64(matrix.shape[1])


def _limited(value: Tensor, routed: Tensor | None) -> Tensor:
    """Return a mask per position, one where it is not routed, as a column."""
    return (value if routed is None else torch.where(routed, value, 1.0))[:, None]


def _excess(h: Tensor, g: Tensor, r: Tensor, kept: Tensor, routed: Tensor | None) -> Tensor:
    """Return `h ⊙ (m - m_Δ)`, zero where it is not routed."""
    c = _c(h, g, r, kept, routed)
    if c is None:
        e = h.float() * (r + g * (1 - r) - kept[:, None])
        return (e if routed is None else torch.where(routed[:, None], e, 0.0)).to(h.dtype)
    out = torch.empty_like(h, memory_format=torch.contiguous_format)
    c.masked_excess(*_strided(h, g, r, kept, routed), _p(out), *_size(h))
    return out


def _add_kept(y: Tensor, dense: Tensor, kept: Tensor, routed: Tensor | None, bias: Tensor | None) -> None:
    """Add `m_Δ (x M) + b` to y in place."""
    c = _c(y, dense, kept, routed, bias)
    if c is None:
        y.add_((_limited(kept, routed) * dense).to(y.dtype))
        if bias is not None:
            y.add_(bias.to(y.dtype))
        return
    c.add_kept(_p(y), *_strided(dense, kept, routed), _p(bias), *_size(y))


def _kept_backward(
    grad: Tensor, dense: Tensor, kept: Tensor, routed: Tensor | None, grad_kept: Tensor | None, needs_dense: bool
) -> Tensor | None:
    """Return the gradient of `x M`, and add to that of m_Δ what comes through it."""
    c = _c(grad, dense, kept, routed)
    if c is None:
        if grad_kept is not None:
            product = (grad * dense).float().sum(1)
            grad_kept += product if routed is None else torch.where(routed, product, 0.0)
        return (grad * _limited(kept, routed)).to(dense.dtype) if needs_dense else None
    out = torch.empty_like(grad) if needs_dense else None
    if out is not None or grad_kept is not None:
        c.add_kept_backward(*_strided(grad, dense, kept, routed), _p(out), _p(grad_kept), *_size(grad))
    return out


def _excess_backward(
    grad_e: Tensor | None,
    h: Tensor,
    g: Tensor,
    r: Tensor,
    kept: Tensor,
    routed: Tensor | None,
    grad_kept: Tensor | None,
    needs: tuple[bool, bool, bool, bool],
) -> tuple[Tensor | None, ...]:
    """Return `h ⊙ (m - m_Δ)` again and the gradients of h, g and r, each where it is needed; add to that of m_Δ what comes through it."""
    if grad_e is None:
        return (_excess(h, g, r, kept, routed) if needs[0] else None, None, None, None)
    c = _c(grad_e, h, g, r, kept, routed)
    if c is None:
        rest = r + g * (1 - r) - kept[:, None]
        if routed is not None:
            rest, grad_e = torch.where(routed[:, None], rest, 0.0), torch.where(routed[:, None], grad_e, 0.0)
        grad_e, h = grad_e.float(), h.float()
        through = grad_e * h
        if grad_kept is not None:
            grad_kept -= through.float().sum(1)
        found = (h * rest, grad_e * rest, through * (1 - r), through * (1 - g))
        return tuple(value if need else None for value, need in zip(found, needs, strict=True))
    out = [h.new_empty(h.shape) if need else None for need in needs]
    c.masked_excess_backward(*_strided(grad_e, h, g, r, kept, routed), *map(_p, out), _p(grad_kept), *_size(h))
    return tuple(out)
