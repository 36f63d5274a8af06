"""How far apart are two distributions over a vocabulary, when the logits are the largest tensors of the step?

KL(softmax(clean) ‖ softmax(other)) in nats, with the gradient `softmax(other) - softmax(clean)` written out. Of the forward pass only one number
per position is kept, so that the logits themselves are the only large tensors; both distributions are made again where the gradient needs
them, and on devices other than the CPU a block of positions at a time.
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
        kl, lse_clean, lse_other = (torch.empty(len(other), device=other.device) for _ in range(3))
        c = _c(clean, other)
        if c is not None:
            c.kl_rows(*_rows(clean, other), *map(_p, (kl, lse_clean, lse_other)), *map(ctypes.c_int64, other.shape))
        for rows in () if c is not None else _blocks(other):
            a, b = clean[rows].float(), other[rows].float()
            lse_clean[rows], lse_other[rows] = a.logsumexp(-1), b.logsumexp(-1)
            a, b = F.log_softmax(a, dim=-1), F.log_softmax(b, dim=-1)
            kl[rows] = (a.exp() * (a - b)).sum(-1)
        ctx.save_for_backward(clean, other, lse_clean, lse_other)
        return kl

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor]:
        clean, other, lse_clean, lse_other = ctx.saved_tensors
        weights, out = grads[0].contiguous(), torch.empty_like(other, memory_format=torch.contiguous_format)
        c = _c(clean, other)
        if c is not None:
            c.kl_rows_backward(*_rows(clean, other), *map(_p, (lse_clean, lse_other, weights, out)), *map(ctypes.c_int64, other.shape))
            return None, out
        for rows in _blocks(other):
            share = (other[rows].float() - lse_other[rows, None]).exp_()
            share -= (clean[rows].float() - lse_clean[rows, None]).exp_()
            out[rows] = share.mul_(weights[rows, None])
        return None, out


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
