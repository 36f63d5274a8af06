"""In which precision do matrix products run? torch's autocast, what stands for it on tensors without contents, and the precision between the two."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

Precision = Literal["fp32", "high", "bf16"]

_HIGH = [False]  # whether the precision "high" is in force

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
    if precision == "high":
        return _high()
    if like.device.type == "meta":
        return CastProducts() if precision == "bf16" else nullcontext()
    return torch.autocast(like.device.type, torch.bfloat16, enabled=precision == "bf16")


@contextmanager
def _high() -> Generator[None]:
    before, _HIGH[0] = _HIGH[0], True
    try:
        yield
    finally:
        _HIGH[0] = before


def is_high() -> bool:
    """Whether products may take each float32 for the sum of two bfloat16, or for a TensorFloat32."""
    return _HIGH[0]


@contextmanager
def tensor_float_32(precision: Precision) -> Generator[None]:
    """Let a GPU use TensorFloat32 in a run of the precision "high", also in the backward passes."""
    before = torch.get_float32_matmul_precision()
    if precision == "high" and torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        if torch.get_float32_matmul_precision() != before:
            torch.set_float32_matmul_precision(before)


def casts_products(like: Tensor) -> bool:
    """Whether a matrix product on the device of `like` would be cast to bf16 here."""
    return CastProducts.active if like.device.type == "meta" else torch.is_autocast_enabled(like.device.type)
