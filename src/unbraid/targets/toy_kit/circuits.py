"""Which directions does a pair of matrices use on the data? The circuits of one attention head, cut down to the rank the behaviour needs.

Queries and keys act only through `W_q W_kᵀ`, values and outputs only through `W_v W_o` (Elhage et al. 2021, "A Mathematical Framework
for Transformer Circuits"). So a rank is planted in each product, not in a single matrix, and it counts only directions that the data has.
The best product of a given rank, in mean squared error on the data, is the truncated SVD of the product between the square
roots of the data's second moments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Pieces = tuple[Float[Tensor, "d_in rank"], Float[Tensor, "rank d_out"]]
"""Read directions V and write directions U of one matrix, `y = x @ V @ U`."""


@dataclass(frozen=True)
class Circuit:
    """Two matrices that act only through their product, as far as the data reaches.

    Attributes:
        sites: Paths of the two matrices: q and k, or v and o.
        module: The planted module that they belong to.
        read_bases: For each of the two, the root of the second moment of what it reads: directions count as much as the data uses them.
        spectrum: Singular values of the product on the data, largest first.
        cut: Rank → the pieces of both matrices that keep the product's best part of that rank.
    """

    sites: tuple[str, str]
    module: str
    read_bases: tuple[Float[Tensor, "d d"], Float[Tensor, "e e"]]
    spectrum: Float[Tensor, " d"]
    cut: Callable[[int], tuple[Pieces, Pieces]]


def matching_circuit(
    sites: tuple[str, str],
    module: str,
    queries: Float[Tensor, "n d"],
    keys: Float[Tensor, "m d"],
    W_q: Float[Tensor, "d d_head"],
    W_k: Float[Tensor, "d d_head"],
) -> Circuit:
    """Return the circuit that decides where a head looks.

    What all keys share adds the same to every score of a query, which softmax does not see, so keys are taken about their mean.

    Args:
        sites: Paths of q and k.
        module: The planted module's name.
        queries: What q reads, where it matters.
        keys: What k reads.
        W_q: q's matrix, `y = x @ W_q`.
        W_k: k's matrix.
    """
    root_q, inverse_q = roots(queries)
    root_k, inverse_k = roots(keys - keys.mean(0))
    left, values, right = torch.linalg.svd(root_q @ W_q @ W_k.T @ root_k)

    def cut(rank: int) -> tuple[Pieces, Pieces]:
        q, k = left[:, :rank], right[:rank].T
        return (inverse_q @ q, q.T @ root_q @ W_q), (inverse_k @ k, k.T @ root_k @ W_k)

    return Circuit(sites, module, (root_q, root_k), values, cut)


def moving_circuit(
    sites: tuple[str, str], module: str, moved: Float[Tensor, "n d"], W_v: Float[Tensor, "d d_head"], W_o: Float[Tensor, "d_head d"]
) -> Circuit:
    """Return the circuit that decides what a head moves.

    Args:
        sites: Paths of v and o.
        module: The planted module's name.
        moved: What v reads, averaged by the head's attention.
        W_v: v's matrix.
        W_o: o's matrix.
    """
    root, inverse = roots(moved)
    left, values, right = torch.linalg.svd(root @ W_v @ W_o)

    def cut(rank: int) -> tuple[Pieces, Pieces]:
        read, written = left[:, :rank], right[:rank]
        return (inverse @ read, read.T @ root @ W_v), (W_o @ written.T, written)

    return Circuit(sites, module, (root, roots(moved @ W_v)[0]), values, cut)


def roots(rows: Float[Tensor, "n d"], smallest: float = 1e-6) -> tuple[Float[Tensor, "d d"], Float[Tensor, "d d"]]:
    """Return the square root of the second moment of some vectors and its pseudo-inverse.

    Directions with less than `smallest` of the largest one's share count as absent.
    """
    values, vectors = torch.linalg.eigh((rows.T @ rows / len(rows)).double())
    kept = values > smallest * values.max()
    root = torch.where(kept, values, 0.0).sqrt()
    inverse = torch.where(kept, 1 / root.clamp(min=1e-30), 0.0)
    return (vectors * root @ vectors.T).float(), (vectors * inverse @ vectors.T).float()


def readers(directions: Float[Tensor, "d n"], rows: Float[Tensor, "m d"]) -> Float[Tensor, "d n"]:
    """Return how to read the amplitude of each direction: exactly, blind to the other ones, and least disturbed by what else the rows hold.

    Those are the best linear unbiased estimates, `C⁻¹ B (Bᵀ C⁻¹ B)⁻¹`. C is the rows' second moment, with a little added everywhere, so that
    directions that hardly occur are not read strongly.
    """
    C = rows.T @ rows / len(rows)
    weighted = torch.linalg.solve(C + 1e-4 * C.diagonal().mean() * torch.eye(len(C)), directions)
    return weighted @ torch.linalg.inv(directions.T @ weighted)


def steepest_fall(spectrum: Float[Tensor, " d"], smallest: float = 0.01) -> tuple[int, float]:
    """Return after how many singular values the spectrum falls by the largest factor, and that factor: where a rank is clear, it is there.

    Values below `smallest` of the first count as that, so that falls among next to nothing do not.
    """
    floored = spectrum.clamp(min=smallest * float(spectrum[0]))
    factors = floored[:-1] / floored[1:]
    rank = int(factors.argmax()) + 1
    return rank, float(factors[rank - 1])
