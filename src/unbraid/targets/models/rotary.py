"""How does a query or key matrix look when the coordinates that turn together stand next to each other, and when they stand half a head apart?"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def halves_from_pairs(weight: Float[Tensor, "rows d_in"], n_heads: int) -> Float[Tensor, "rows d_in"]:
    """Reorder the rows of each head from pairs (0, 1), (2, 3), … to halves (0, d/2), (1, d/2 + 1), …, as transformers turns them.

    Rotary position embedding turns pairs of coordinates by an angle. Both orders give the same attention scores when queries
    and keys have the same one. llama.cpp and the RoPE paper use pairs; transformers' Llama uses halves.

    Args:
        weight: A query or key matrix, one row per coordinate, heads one after another.
        n_heads: How many heads the rows are; for a key matrix the number of key heads.

    Source: Su et al. 2021, "RoFormer", section 3.2.
    """
    rows, d_in = weight.shape
    return weight.view(n_heads, rows // n_heads // 2, 2, d_in).transpose(1, 2).reshape(rows, d_in)


def pairs_from_halves(weight: Float[Tensor, "rows d_in"], n_heads: int) -> Float[Tensor, "rows d_in"]:
    """Undo `halves_from_pairs`."""
    rows, d_in = weight.shape
    return weight.view(n_heads, 2, rows // n_heads // 2, d_in).transpose(1, 2).reshape(rows, d_in)
