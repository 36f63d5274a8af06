"""How far apart are two distributions over a vocabulary, when the logits are the largest tensors of the step?

KL(softmax(clean) ‖ softmax(other)) in nats, with the gradient `softmax(other) - softmax(clean)` written out. The kernel makes it with the value, while a row is
in the cache, and keeps nothing else, so that logits and gradient are the only large tensors. Elsewhere one number per position is kept, and both
distributions are made again, a block of positions at a time.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from unbraid.decompose.columns import is_large
from unbraid.decompose.kernels import library, on_cpu
from unbraid.targets.behaviour import BEHAVIOURS, Behaviour

_BLOCK = 1 << 24  # so many logits at a time, outside the kernels


def distance_between(
    behaviour: Behaviour, clean: Tensor, other: Tensor, weights: Float[Tensor, "*batch"] | None = None
) -> Float[Tensor, ""]:
    """Return what `behaviour.between` does; large logits of sequences go through `vocabulary_kl`."""
    if behaviour.distance is not BEHAVIOURS["kl"].distance or other.dim() < 3 or not is_large(other):
        return behaviour.between(clean, other, weights)
    each = vocabulary_kl(clean, other)
    return each.mean() if weights is None else torch.dot(each.flatten(), weights.flatten())


def vocabulary_kl(clean: Float[Tensor, "*batch vocabulary"], other: Float[Tensor, "*batch vocabulary"]) -> Float[Tensor, "*batch"]:
    """Return KL(softmax(clean) ‖ softmax(other)) per position, in fp32; no gradient reaches `clean`."""
    each = _VocabularyKL.apply(clean.detach().flatten(0, -2), other.flatten(0, -2))
    return each.view(other.shape[:-1])


class _VocabularyKL(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, clean: Tensor, other: Tensor) -> Tensor:
        kl, c = torch.empty(len(other), device=other.device), _c(clean, other)
        ctx.gradient = None
        if c is not None and ctx.needs_input_grad[1]:
            ctx.gradient, row = torch.empty_like(other, memory_format=torch.contiguous_format), kl.new_empty(other.shape[1])
            c.kl_rows_gradient(*_rows(clean, other), *map(_p, (kl, ctx.gradient, row)), *map(ctypes.c_int64, other.shape))
            return kl
        if c is not None:
            c.kl_rows(*_rows(clean, other), _p(kl), *map(ctypes.c_int64, other.shape))
            return kl
        lse_clean, lse_other = torch.empty_like(kl), torch.empty_like(kl)
        for rows in _blocks(other):
            a, b = clean[rows].float(), other[rows].float()
            lse_clean[rows], lse_other[rows] = a.logsumexp(-1), b.logsumexp(-1)
            a, b = F.log_softmax(a, dim=-1), F.log_softmax(b, dim=-1)
            kl[rows] = (a.exp() * (a - b)).sum(-1)
        ctx.save_for_backward(clean, other, lse_clean, lse_other)
        return kl

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor]:
        if ctx.gradient is not None:
            # A second backward pass would scale it twice, and is told that it comes too late as torch tells it.
            gradient, ctx.gradient = ctx.gradient, None
            _kernels().scale_rows(_p(gradient), _p(grads[0].contiguous()), *map(ctypes.c_int64, gradient.shape))
            return None, gradient
        clean, other, lse_clean, lse_other = ctx.saved_tensors
        weights, out = grads[0].contiguous(), torch.empty_like(other, memory_format=torch.contiguous_format)
        for rows in _blocks(other):
            share = (other[rows].float() - lse_other[rows, None]).exp_()
            share -= (clean[rows].float() - lse_clean[rows, None]).exp_()
            out[rows] = share.mul_(weights[rows, None])
        return None, out


def _kernels() -> Any:
    return library()


def _c(*tensors: Tensor) -> ctypes.CDLL | None:
    fits = all(tensor.dtype == torch.float32 and on_cpu(tensor) and tensor.stride(-1) == 1 for tensor in tensors)
    return library() if fits else None


def _p(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def _rows(*matrices: Tensor) -> list[Any]:
    return [value for matrix in matrices for value in (_p(matrix), ctypes.c_int64(matrix.stride(0)))]


def _blocks(matrix: Tensor) -> list[slice]:
    rows = max(1, _BLOCK // matrix.shape[-1])
    return [slice(start, start + rows) for start in range(0, len(matrix), rows)]
