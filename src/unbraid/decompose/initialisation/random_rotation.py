"""Start from directions that mean nothing: those of the units, turned at random. With factors that stay there it is a null.

Orthonormal directions Q on the side of the units give `M = M Q Qᵀ`, exactly when C ≥ units: as faithful as neurons, and just as many.
"""

from __future__ import annotations

from typing import Literal

import torch

from unbraid.decompose.initialiser import UnitsConfig, initialisations
from unbraid.decompose.site import DecomposedSite, Factors


@initialisations.register
class RandomRotationConfig(UnitsConfig):
    """Random orthonormal directions in the space of the units; with more subcomponents than units, a tight frame of them."""

    kind: Literal["random-rotation"] = "random-rotation"

    def fill(self, site: DecomposedSite, factors: Factors, generator: torch.Generator) -> None:
        """Draw the directions, and give each what the matrix does with it."""
        M, C = site.weight, factors.V.shape[1]
        units = M.shape[0] if self.reads_units(site) else M.shape[1]
        drawn = torch.randn(max(units, C), min(units, C), generator=generator, dtype=torch.float64)
        orthonormal = torch.linalg.qr(drawn).Q.to(M.dtype)
        Q = orthonormal if units >= C else orthonormal.T  # [units, C]
        if self.reads_units(site):
            factors.V.copy_(Q)
            factors.U.copy_(Q.T @ M)
        else:
            factors.V.copy_(M @ Q)
            factors.U.copy_(Q.T)
