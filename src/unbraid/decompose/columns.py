"""How are many sites handled by one tensor operation? Their last axes laid side by side, when they see the same positions.

A small model spends its time on starting operations, not on arithmetic, so importances, sources and masks of all sites are
kept as columns of one tensor; the sites get views of it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from unbraid.core.ranks import Share
from unbraid.decompose.kernels import kernels_for

# Above so many numbers per site, arithmetic costs more than starting operations, and laying side by side would only copy.
_LARGE = 1 << 16


def is_large(tensor: Tensor) -> bool:
    """Whether arithmetic on a site's tensor costs more than starting it."""
    return tensor.numel() > _LARGE


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors of one shape hold the same numbers."""
    c = kernels_for(one, other)
    if c is None:
        return torch.equal(one, other)
    return bool(c.same_bits(*(ctypes.c_void_p(tensor.data_ptr()) for tensor in (one, other)), ctypes.c_int64(4 * one.numel())))


def grouped(tensors: Mapping[str, Tensor], share: Share | None = None) -> list[list[str]]:
    """Group sites whose tensors are small and have the same leading shape, in order; a large one stands alone.

    With a share of a batch, the size that counts is that of all ranks' tensors, so that the groups are the same for any number of ranks.
    """
    groups: dict[object, list[str]] = {}
    for path, tensor in tensors.items():
        size = tensor.numel() if share is None else tensor.numel() // share.rows * share.total
        groups.setdefault(path if size > _LARGE else tensor.shape[:-1], []).append(path)
    return list(groups.values())


def side_by_side(tensors: Mapping[str, Tensor], paths: list[str]) -> Float[Tensor, "*lead total"]:
    """Lay the last axes of some sites' tensors side by side; these have the same leading shape, others may have another."""
    return tensors[paths[0]] if len(paths) == 1 else torch.cat([tensors[path] for path in paths], dim=-1)


def split_columns(columns: Float[Tensor, "*lead total"], paths: list[str], widths: list[int]) -> dict[str, Float[Tensor, "*lead _"]]:
    """Give each site its view of the columns."""
    if len(paths) == 1:
        return {paths[0]: columns}  # the gradient of a split would be a copy
    return dict(zip(paths, columns.split(widths, dim=-1), strict=True))


def elementwise(function: Callable[[Tensor], tuple[Tensor, ...]], tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], ...]:
    """Apply an elementwise function to all sites' tensors at once; return one mapping per output, in the sites' order."""
    results: list[dict[str, Tensor]] = []
    for paths in grouped(tensors):
        widths = [tensors[path].shape[-1] for path in paths]
        for index, output in enumerate(function(side_by_side(tensors, paths))):
            if index == len(results):
                results.append({})
            results[index] |= split_columns(output, paths, widths)
    return tuple({path: result[path] for path in tensors} for result in results)
