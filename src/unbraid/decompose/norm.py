"""What is the root-mean-square norm of many positions, in one pass over memory each way? torch writes it as five operations on the CPU.

The norms of the target's own model and of importance functions come here, where they are large; elsewhere torch's is used, which agrees up to rounding.
"""

from __future__ import annotations

import ctypes
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from unbraid.decompose.columns import is_large
from unbraid.decompose.kernels import library, on_cpu

# Norms of transformers with this very formula, x / sqrt(mean(x²) + eps) · weight; those that add one to the weight are not among them.
_LIKE_LLAMA = (
    *("LlamaRMSNorm", "MistralRMSNorm", "Olmo2RMSNorm", "Phi3RMSNorm"),
    *("Qwen2RMSNorm", "Qwen3RMSNorm", "SmolLM3RMSNorm"),
)


def rms_norm(x: Float[Tensor, "*lead d"], weight: Float[Tensor, " d"] | None = None, eps: float | None = None) -> Float[Tensor, "*lead d"]:
    """Return `x / sqrt(mean(x²) + eps) · weight`.

    Args:
        x: One row per position.
        weight: None for ones.
        eps: None for the smallest step at 1 of x's type, as in torch.
    """
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    if not fits_norm(x, weight):
        return F.rms_norm(x, x.shape[-1:], weight, eps)
    return _RMSNorm.apply(x.reshape(-1, x.shape[-1]), weight, eps).view(x.shape)


def normed_columns(inputs: list[Float[Tensor, "*lead _"]]) -> Float[Tensor, "*lead total"]:
    """Return the norms of several inputs at the same positions, side by side; no gradient reaches the inputs."""
    total = sum(x.shape[-1] for x in inputs)
    if not all(fits_norm(x, None) for x in inputs):
        return torch.cat([F.rms_norm(x, x.shape[-1:]) for x in inputs], dim=-1)
    out = inputs[0].new_empty(*inputs[0].shape[:-1], total)
    begin, rows = 0, out.flatten(0, -2)
    for x in inputs:
        _normalise(x.detach().reshape(-1, x.shape[-1]), None, torch.finfo(x.dtype).eps, rows[:, begin : begin + x.shape[-1]])
        begin += x.shape[-1]
    return out


def fits_norm(x: Tensor, weight: Tensor | None) -> bool:
    """Whether the kernel can take these, and there is enough to do; it has no gradient for the weight."""
    known = [x] if weight is None else [x, weight]
    plain = all(tensor.dtype == torch.float32 and on_cpu(tensor) and tensor.stride(-1) == 1 for tensor in known)
    return plain and x.dim() > 1 and is_large(x) and not (weight is not None and weight.requires_grad) and library() is not None


def formula_of(module: nn.Module) -> tuple[Tensor | None, float | None] | None:
    """Return the weight and eps of a module that computes this norm over the last axis; None for any other module."""
    if type(module) is nn.RMSNorm and len(module.normalized_shape) == 1:
        return cast("Tensor | None", module.weight), module.eps
    if type(module).__module__.startswith("transformers.") and type(module).__name__ in _LIKE_LLAMA:
        return cast(Tensor, module.weight), cast(float, module.variance_epsilon)
    return None


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
        y = torch.empty_like(x, memory_format=torch.contiguous_format)
        ctx.save_for_backward(x, weight, _normalise(x, weight, eps, y))
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        x, weight, inverse = ctx.saved_tensors
        grad = grads[0] if grads[0].stride(1) == 1 else grads[0].contiguous()
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        _kernels().rms_norm_backward(*_rows(grad), *_rows(x), _p(weight), _p(inverse), _p(out), *map(ctypes.c_int64, x.shape))
        return out, None, None


def _normalise(x: Tensor, weight: Tensor | None, eps: float, out: Tensor) -> Tensor:
    """Write the norm, and return what each row was multiplied by."""
    inverse = x.new_empty(len(x))
    _kernels().rms_norm(*_rows(x), _p(weight), ctypes.c_float(eps), *_rows(out), _p(inverse), *map(ctypes.c_int64, x.shape))
    return inverse


def _kernels() -> Any:
    return library()


def _rows(matrix: Tensor) -> tuple[ctypes.c_void_p, ctypes.c_int64]:
    return _p(matrix), ctypes.c_int64(matrix.stride(0))


def _p(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())
