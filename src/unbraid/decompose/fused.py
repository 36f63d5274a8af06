"""The engine's elementwise steps with their gradients written out, so that each costs one pass over memory instead of many.

Each step is one autograd function with two bodies: a call into the compiled kernels for float32 matrices on the CPU, and the
same arithmetic in torch for everything else. Both give the same bits, so it never matters which one ran.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from unbraid.decompose.kernels import library, on_cpu

SLOPE = 0.01


def _c(*tensors: Tensor) -> ctypes.CDLL | None:
    """Return the kernels if they can take these tensors: float32 matrices on the CPU with unit column stride."""
    for tensor in tensors:
        if tensor.dtype != torch.float32 or not on_cpu(tensor) or tensor.dim() != 2 or (tensor.stride(1) != 1 and tensor.shape[1] != 1):
            return None
    return library()


def _p(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def _s(tensor: Tensor) -> ctypes.c_int64:
    """Return the row stride; 0 for one row that stands for all."""
    return ctypes.c_int64(tensor.stride(0) if tensor.shape[0] > 1 else 0)


def _n(number: int) -> ctypes.c_int64:
    return ctypes.c_int64(number)


class _LeakyHard(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(z)
        c = _c(z)
        if c is None:
            lower = z.clamp(0, 1)
            return lower, lower + (z - 1).clamp_(min=0).mul_(SLOPE)
        lower, upper = z.new_empty(z.shape), z.new_empty(z.shape)
        c.leaky_hard(_p(z), _s(z), _p(lower), _p(upper), *map(_n, z.shape), ctypes.c_float(SLOPE))
        return lower, upper

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (z,), (grad_lower, grad_upper) = ctx.saved_tensors, grads
        c = _c(z, grad_lower, grad_upper)
        if c is None:
            below = grad_lower.clamp(max=0) * SLOPE
            return torch.where(z <= 0, below, torch.where(z > 1, grad_upper * SLOPE, grad_lower + grad_upper))
        out = z.new_empty(z.shape)
        sources = (_p(z), _s(z), _p(grad_lower), _s(grad_lower), _p(grad_upper), _s(grad_upper))
        c.leaky_hard_backward(*sources, _p(out), *map(_n, z.shape), ctypes.c_float(SLOPE))
        return out


def leaky_hard(z: Float[Tensor, "*lead C"]) -> tuple[Float[Tensor, "*lead C"], Float[Tensor, "*lead C"]]:
    """Return two hard sigmoids of the logits that share the value `clamp(z, 0, 1)` and differ outside, with slope α = 0.01.

    `lower` goes into masks: below 0 it lets through α of a gradient that would raise z, so a dead subcomponent can come back.
    `upper` goes into minimality: above 1 it is `1 + α (z - 1)`, so a saturated importance can still be pulled down.
    Source: Bushnaq et al. 2025, section 2.3, as revised in their code.
    """
    lower, upper = _LeakyHard.apply(z.flatten(0, -2))
    return lower.view(z.shape), upper.view(z.shape)


class _SmoothCount(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, g: Tensor, weights: Tensor, gamma: float) -> Tensor:
        ctx.save_for_backward(g, weights)
        ctx.gamma2 = gamma2 = float(torch.tensor(gamma * gamma, dtype=torch.float32)) if g.dtype == torch.float32 else gamma * gamma
        c = _c(g)
        if c is None:
            squares = g * g
            return (squares / (squares + gamma2)).T.mv(weights)
        psi = g.new_empty(g.shape)
        c.smooth_count(_p(g), _s(g), _p(psi), *map(_n, g.shape), ctypes.c_float(gamma2))
        return psi.T.mv(weights)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        g, weights = ctx.saved_tensors
        shares, slopes = weights * (2 * ctx.gamma2), grads[0].contiguous()
        c = _c(g)
        if c is None:
            denominator = g * g + ctx.gamma2
            return torch.outer(shares, slopes).mul_(g).div_(denominator * denominator), None, None
        out = g.new_empty(g.shape)
        c.smooth_count_backward(_p(g), _s(g), _p(shares), _p(slopes), _p(out), *map(_n, g.shape), ctypes.c_float(ctx.gamma2))
        return out, None, None


def smooth_count(g: Float[Tensor, "positions C"], weights: Float[Tensor, " positions"], gamma: float) -> Float[Tensor, " C"]:
    """Return the weighted sum over positions of `g² / (g² + γ²)`; its slope is `2 g γ² / (g² + γ²)²`."""
    return _SmoothCount.apply(g, weights, gamma)


def unit_interval(words: Tensor) -> Float[Tensor, " n"]:
    """Map 16-bit words [n] to [0, 1] in steps of 1 / 65535."""
    c = library() if on_cpu(words) else None
    if c is None:
        return words.float().add_(32768.0).mul_(1.0 / 65535.0)
    out = torch.empty(words.shape, dtype=torch.float32)
    c.unit_interval(_p(words), _p(out), _n(words.numel()))
    return out


class _Interpolate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, g: Tensor, source: Tensor) -> Tensor:
        ctx.save_for_backward(source)
        c = _c(g, source)
        if c is None:
            return source + g * (1 - source)
        out = g.new_empty(g.shape)
        c.interpolate(_p(g), _s(g), _p(source), _s(source), _p(out), *map(_n, g.shape))
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (source,), (grad,) = ctx.saved_tensors, grads
        c = _c(grad, source)
        if c is None:
            return grad * (1 - source), None
        out = grad.new_empty(grad.shape)
        c.interpolate_backward(_p(grad), _s(grad), _p(source), _s(source), _p(out), *map(_n, grad.shape))
        return out, None


def interpolate(importance: Float[Tensor, "*lead C"], source: Float[Tensor, "*#lead C"]) -> Float[Tensor, "*lead C"]:
    """Return the mask `r + g (1 - r) = g + (1 - g) r`."""
    if source.requires_grad or source.shape != importance.shape or importance.dim() != 2:
        return source + importance * (1 - source)  # an adversary's sources, which are few or need a gradient themselves
    return _Interpolate.apply(importance, source)


class _Excess(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor, mask: Tensor, kept: Tensor) -> Tensor:
        ctx.save_for_backward(h, mask, kept)
        c = _c(h, mask, kept)
        if c is None:
            return h * (mask - kept)
        out = h.new_empty(h.shape)
        c.excess(_p(h), _s(h), _p(mask), _s(mask), _p(kept), _s(kept), _p(out), *map(_n, h.shape))
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        (h, mask, kept), (grad,) = ctx.saved_tensors, grads
        c = _c(grad, h, mask, kept)
        if c is None:
            return grad * (mask - kept), grad * h, None
        grad_h, grad_mask = h.new_empty(h.shape), h.new_empty(h.shape)
        sources = (_p(grad), _s(grad), _p(h), _s(h), _p(mask), _s(mask), _p(kept), _s(kept))
        c.excess_backward(*sources, _p(grad_h), _p(grad_mask), *map(_n, h.shape))
        return grad_h, grad_mask, None


def excess(h: Float[Tensor, "*lead C"], mask: Float[Tensor, "*#lead C"], kept: Float[Tensor, "*#lead 1"]) -> Float[Tensor, "*lead C"]:
    """Return `h ⊙ (m - m_Δ)`, what the subcomponents add beyond the share of the whole matrix that Δ's mask keeps."""
    if kept.requires_grad or h.dim() != 2 or mask.shape != h.shape:
        return h * (mask - kept)
    return _Excess.apply(h, mask, kept)
