"""Are all planted pieces and subspaces there? One subcomponent for each piece, one group for each module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from unbraid.components.labelling import has_single_pieces, planted_names, span
from unbraid.decompose.recovery import piece_cosines
from unbraid.targets.truth import SiteTruth, Truth

MATCHED = 0.95
FACTORS_TOLERANCE = 0.05  # directions with less than this share of the greatest one's size count neither as found nor as planted

Factors = Mapping[str, tuple[Tensor, Tensor]]
"""Site → V [d_in, C] and U [C, d_out]."""


@dataclass(frozen=True)
class PieceMatch:
    """How the planted pieces of a site were matched to subcomponents, one to one.

    Attributes:
        cosines: `cos u · cos v` of each planted piece with its own subcomponent, that of the two matrices; 0 where none was left for it.
        subcomponents: The index of that subcomponent; -1 where none was left.
    """

    cosines: tuple[float, ...]
    subcomponents: tuple[int, ...]


def match_pieces(V: Float[Tensor, "d_in C"], U: Float[Tensor, "C d_out"], site: SiteTruth, alive: Int[Tensor, " alive"]) -> PieceMatch:
    """Give each planted piece an alive subcomponent of its own, so that the sum of the cosines is greatest (Hungarian).

    A planted piece that is zero, such as that of a dead neuron, does nothing and is left out.
    """
    cosines = piece_cosines(V[:, alive], U[alive], site).clamp(min=0)  # a piece that does the opposite is no match
    size = (site.V if site.read_basis is None else site.read_basis.T @ site.V).norm(dim=0) * site.U.norm(dim=1)
    cosines = cosines[size > 1e-6 * size.max()]
    rows, columns = linear_sum_assignment(cosines.numpy(), maximize=True)
    best, own = np.zeros(len(cosines)), np.full(len(cosines), -1)
    best[rows], own[rows] = cosines.numpy()[rows, columns], alive.numpy()[columns]
    return PieceMatch(tuple(best.tolist()), tuple(own.tolist()))


def match_all_pieces(factors: Factors, alive: Mapping[str, Int[Tensor, " alive"]], truth: Truth) -> dict[str, PieceMatch]:
    """Match the pieces of every site where single pieces are planted."""
    return {
        path: match_pieces(*factors[path], site, alive[path])
        for path, site in truth.sites.items()
        if site.modules and has_single_pieces(site)
    }


@dataclass(frozen=True)
class SubspaceMatch:
    """How well the group of a module spans what the module reads and writes at one site.

    Attributes:
        site: The site.
        module: The planted module.
        read: `‖P̂ P*‖_F² / rank` on the read side.
        write: The same on the write side.
    """

    site: str
    module: str
    read: float
    write: float


def subspace_overlap(found: Float[Tensor, "d n"], planted: Float[Tensor, "d m"], tolerance: float = FACTORS_TOLERANCE) -> float:
    """Return `‖P̂ P*‖_F² / rank` for the spans of two sets of directions, 1 where they are the same.

    The rank is the larger of the two: divided by the planted rank alone, a group that spans everything would score 1.
    """
    P, Q = span(found, tolerance), span(planted, tolerance)
    rank = max(P.shape[1], Q.shape[1])
    return 0.0 if rank == 0 else float((P.T @ Q).square().sum() / rank)


def match_subspaces(factors: Factors, members: Mapping[str, Mapping[str, tuple[int, ...]]], truth: Truth) -> tuple[SubspaceMatch, ...]:
    """Compare the span of each module's group with the module, at every site where subspaces are planted.

    Args:
        factors: The subcomponents.
        members: Planted module → site → the subcomponents of the group that was found for it; a module without a group is missing.
        truth: What is planted.
    """
    found: list[SubspaceMatch] = []
    for path, site in truth.sites.items():
        if not site.modules or has_single_pieces(site):
            continue
        V, U = factors[path]
        names = [truth.resolvable(name) for name in site.modules]
        for module in (name for name in planted_names(truth) if name in names):
            own = torch.tensor([index for index, name in enumerate(names) if name == module])
            chosen = torch.tensor(members.get(module, {}).get(path, ()), dtype=torch.long)
            basis = torch.eye(V.shape[0]) if site.read_basis is None else site.read_basis
            read, write = _sides(V[:, chosen], U[chosen], basis)
            planted_read, planted_write = _sides(site.V[:, own], site.U[own], basis)
            found.append(SubspaceMatch(path, module, subspace_overlap(read, planted_read), subspace_overlap(write, planted_write)))
    return tuple(found)


def _sides(V: Tensor, U: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """Return the read directions, where data lets them be read, and the write directions of pieces, all as long as the whole piece."""
    read = basis.T @ V
    size = read.norm(dim=0) * U.norm(dim=1)
    return torch.nn.functional.normalize(read, dim=0) * size, torch.nn.functional.normalize(U, dim=1).T * size
