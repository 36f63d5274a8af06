"""Random directions: V ~ N(0, 1/d_in), U ~ N(0, 1/C) (variances), the published default."""

from __future__ import annotations

from typing import Literal

import torch

from unbraid.decompose.initialiser import InitialisationConfig, initialisations
from unbraid.decompose.site import DecomposedSite, Factors


@initialisations.register
class GaussianConfig(InitialisationConfig):
    """Independent normal entries."""

    kind: Literal["gaussian"] = "gaussian"

    def fill(self, site: DecomposedSite, factors: Factors, generator: torch.Generator) -> None:
        """Draw V and U."""
        d_in, C = factors.V.shape
        factors.V.normal_(0, d_in**-0.5, generator=generator)
        factors.U.normal_(0, C**-0.5, generator=generator)
