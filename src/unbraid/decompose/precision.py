"""In which precision do matrix products run? torch's autocast, and what stands for it on tensors without contents."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

Precision = Literal["fp32", "bf16"]

_PRODUCTS = frozenset(
    (
        *(torch.matmul, torch.mm, torch.bmm, torch.addmm, torch.baddbmm),
        *(Tensor.matmul, Tensor.__matmul__, Tensor.__rmatmul__, Tensor.mm, Tensor.bmm),
        *(F.linear, F.conv2d, F.scaled_dot_product_attention),
    )
)


class CastProducts(TorchFunctionMode):
    """Casts what goes into matrix products to bf16, as autocast does; autocast itself does not know the "meta" device."""

    active = False

    def __enter__(self) -> CastProducts:
        """Begin to cast."""
        CastProducts.active = True
        return super().__enter__()

    def __exit__(self, *raised: Any) -> None:
        """Cast no more."""
        CastProducts.active = False
        super().__exit__(*raised)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, on other numbers if it is a product."""
        kwargs = kwargs or {}
        if func in _PRODUCTS:
            args, kwargs = tree_map_only(
                Tensor, lambda tensor: tensor.bfloat16() if tensor.dtype == torch.float32 else tensor, (args, kwargs)
            )
        return func(*args, **kwargs)


def in_precision(precision: Precision, like: Tensor) -> AbstractContextManager[object]:
    """Return the context in which matrix products run in this precision, on the device of `like`."""
    if like.device.type == "meta":
        return CastProducts() if precision == "bf16" else nullcontext()
    return torch.autocast(like.device.type, torch.bfloat16, enabled=precision == "bf16")


def casts_products(like: Tensor) -> bool:
    """Whether a matrix product on the device of `like` would be cast to bf16 here."""
    return CastProducts.active if like.device.type == "meta" else torch.is_autocast_enabled(like.device.type)
