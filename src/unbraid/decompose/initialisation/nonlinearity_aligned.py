"""Start from the neurons: subcomponents that each read into, or write out of, one unit of the site.

A unit is an output of a matrix that feeds a non-linearity and an input of one that follows it. Exactly faithful when C ≥ units.
Source: Goodfire's param-decomp, "nonlinearity_aligned" initialisation.
"""

from __future__ import annotations

from typing import Literal

import torch

from unbraid.decompose.initialiser import UnitsConfig, initialisations
from unbraid.decompose.site import DecomposedSite, Factors


@initialisations.register
class NonlinearityAlignedConfig(UnitsConfig):
    """One subcomponent per unit; a surplus splits the vectors of randomly chosen units; a shortage samples units."""

    kind: Literal["nonlinearity-aligned"] = "nonlinearity-aligned"

    def fill(self, site: DecomposedSite, factors: Factors, generator: torch.Generator) -> None:
        """Assign units to subcomponents and share each unit's vector among those that have it."""
        M, C = site.weight, factors.V.shape[1]
        reads_units = self.reads_units(site)
        units = M.shape[0] if reads_units else M.shape[1]
        order = torch.randperm(units, generator=generator)
        surplus = torch.randint(units, (max(0, C - units),), generator=generator)
        owner = torch.cat([order, surplus])[:C]
        share = 1 / torch.bincount(owner, minlength=units)[owner].to(M.dtype)
        one_hot = torch.nn.functional.one_hot(owner, units).to(M.dtype)  # [C, units]
        if reads_units:
            factors.V.copy_(one_hot.T)
            factors.U.copy_(M[owner] * share[:, None])
        else:
            factors.V.copy_(M[:, owner] * share)
            factors.U.copy_(one_hot)
