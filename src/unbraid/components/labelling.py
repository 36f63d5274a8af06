"""To which planted module does a subcomponent belong? The one in whose read and write directions most of it lies."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unbraid.decompose.recovery import piece_cosines
from unbraid.targets.truth import SiteTruth, Truth

RANK_TOLERANCE = 1e-3  # directions shorter than this share of the longest span nothing


@dataclass(frozen=True)
class Labelled:
    """The planted module of each subcomponent of a site.

    Attributes:
        module: Index into `names`, [C].
        share: How much of the subcomponent lies in that module, in [0, 1]: its squared length within the module's read directions times
            that within its write directions; where single pieces are planted, the best `|cos u| |cos v|` instead.
        names: The planted modules, modules that the data cannot tell apart under one name.
    """

    module: Int[Tensor, " C"]
    share: Float[Tensor, " C"]
    names: tuple[str, ...]


def planted_names(truth: Truth) -> tuple[str, ...]:
    """Return the planted modules of all sites, modules that the data cannot tell apart under one name."""
    return tuple(dict.fromkeys(truth.resolvable(name) for name in truth.module_names))


def has_single_pieces(site: SiteTruth) -> bool:
    """Whether the pieces themselves are planted, not only the subspaces that they span."""
    return site.pattern != "always_on" and not site.any_basis


def planted_modules(V: Float[Tensor, "d_in C"], U: Float[Tensor, "C d_out"], site: SiteTruth, truth: Truth) -> Labelled:
    """Say for each subcomponent of a site which planted module it belongs to, and how surely."""
    names = planted_names(truth)
    own = torch.tensor([names.index(truth.resolvable(name)) for name in site.modules])
    overlap = V.new_zeros(len(names), V.shape[1])
    pieces = piece_cosines(V, U, site).abs() if has_single_pieces(site) else None
    for module in own.unique().tolist():
        chosen = torch.nonzero(own == module).flatten()
        if pieces is not None:
            overlap[module] = pieces[chosen].max(0).values
        else:
            overlap[module] = span_share(V, U, site, chosen)
    share, module = overlap.max(0)
    return Labelled(module, share, names)


def span_share(
    V: Float[Tensor, "d_in C"], U: Float[Tensor, "C d_out"], site: SiteTruth, pieces: Int[Tensor, " chosen"]
) -> Float[Tensor, " C"]:
    """Return the share of each subcomponent that lies in what some planted pieces read and write: `‖Q_readᵀ v̂‖² ‖Q_writeᵀ û‖²`."""
    normalize = torch.nn.functional.normalize
    read = span(_read(site.V[:, pieces], site)).T @ normalize(_read(V, site), dim=0)
    write = span(site.U[pieces].T).T @ normalize(U, dim=1).T
    return read.square().sum(0) * write.square().sum(0)


def span(directions: Float[Tensor, "d n"], tolerance: float = RANK_TOLERANCE) -> Float[Tensor, "d rank"]:
    """Return an orthonormal basis of what directions span; parts below `tolerance` of the largest singular value count as zero."""
    left, values, _ = torch.linalg.svd(directions, full_matrices=False)
    if len(values) == 0:
        return directions.new_zeros(directions.shape[0], 0)
    return left[:, values > tolerance * values[0].clamp(min=1e-12)]


def _read(V: Tensor, site: SiteTruth) -> Tensor:
    """Project read directions onto what the data lets the site read."""
    return V if site.read_basis is None else site.read_basis.T @ V
