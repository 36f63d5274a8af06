"""Which modules are a matrix, whichever way round they store it? M [d_in, d_out] with `y = x M + b`.

A linear map multiplies what it is given. An embedding looks rows up, which is the same as multiplying one-hot vectors of the vocabulary's width.
A convolution multiplies each patch of its input, C_in · height · width numbers, by the same matrix.
"""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

DECOMPOSABLE = "nn.Linear, Hugging Face Conv1D, nn.Conv2d, nn.Embedding, whose weights are not quantised"
_PLAIN = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def is_conv1d(module: nn.Module) -> bool:
    """Recognise Hugging Face's `Conv1D`, a linear map that stores its weight as [d_in, d_out], without importing it."""
    return type(module).__name__ == "Conv1D" and hasattr(module, "nf")


def is_linear(module: nn.Module) -> bool:
    """Whether a module multiplies what it is given by its weight, and does nothing else but add a bias."""
    return isinstance(module, nn.Linear) or is_conv1d(module)


def is_table(module: nn.Module) -> bool:
    """Whether a module looks up the rows of its weight."""
    return isinstance(module, nn.Embedding)


def is_matrix(module: nn.Module) -> bool:
    """Whether a module's weight is a matrix, or several, whether or not it can be decomposed."""
    return is_linear(module) or isinstance(module, (nn.Embedding, nn.Conv2d))


def is_decomposable(module: nn.Module) -> bool:
    """Whether this module's weight can be written as a sum of rank-one pieces."""
    return is_matrix(module) and why_not(module) is None


def quantised(module: nn.Module) -> str | None:
    """Return the type that a matrix is packed into, such as int8 or an 8-bit float; None for plain numbers."""
    dtype = cast(Tensor, module.weight).dtype if is_matrix(module) else torch.float32
    return None if dtype in _PLAIN else str(dtype).removeprefix("torch.")


def why_not(module: nn.Module) -> str | None:
    """Say why a module with a matrix cannot be decomposed; None where it can, and for modules of other kinds."""
    packed = quantised(module)
    if packed is not None:
        return f"its weights are quantised ({packed})"
    if isinstance(module, nn.Conv2d) and module.groups != 1:
        return f"its channels are in {module.groups} groups, each with a matrix of its own"
    if isinstance(module, nn.Embedding):
        if module.max_norm is not None:
            return "it changes its own weights when they are looked up (max_norm)"
        if type(module).forward is not nn.Embedding.forward and not _is_scaled(module):
            return f"{type(module).__name__} does more than look rows up"
    return None


def _is_scaled(module: nn.Embedding) -> bool:
    """Recognise the embeddings of several families of transformers that multiply what they look up by one number."""
    return type(module).__name__.endswith("ScaledWordEmbedding") and hasattr(module, "embed_scale")


def scale_of(module: nn.Module) -> float | None:
    """Return what an embedding multiplies the rows by that it looks up; None where it leaves them as they are."""
    if not isinstance(module, nn.Embedding) or not _is_scaled(module):
        return None
    return float(cast("float | Tensor", module.embed_scale))


def weight_of(module: nn.Module) -> Float[Tensor, "d_in d_out"]:
    """Return the matrix M with `y = x @ M + bias`, whichever way round the module stores it."""
    weight = cast(Tensor, module.weight).detach()
    if isinstance(module, nn.Conv2d):
        return weight.flatten(1).T
    return weight if is_conv1d(module) or is_table(module) else weight.T


def bias_of(module: nn.Module) -> Float[Tensor, " d_out"] | None:
    """Return the module's bias, or None when it has none."""
    bias = getattr(module, "bias", None)
    return bias.detach() if isinstance(bias, Tensor) else None
