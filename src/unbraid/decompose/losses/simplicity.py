"""How small a rank do the subcomponents span? A Schatten-like penalty on their sizes, which no change of basis can dodge.

    Σ_c (‖V_c‖ ‖U_c‖)^p

With p < 1 it is cheapest to write a matrix as few, orthogonal pieces, whatever their basis. It asks nothing of importance, so it
suits a map that every input needs: minimality would turn such a map's basis until some input needs one piece less.
Source: the simplicity loss of attribution-based parameter decomposition (Braun et al. 2025), here for rank-one pieces.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import PositiveFloat
from torch import Tensor

from unbraid.decompose.model import DecomposedModel
from unbraid.decompose.site_choice import choose_sites
from unbraid.decompose.step import Loss, LossConfig, Step, losses

_EPSILON = 1e-6  # keeps the slope of the p-th power finite at a dead piece


def simplicity(V: Float[Tensor, "d_in C"], U: Float[Tensor, "C d_out"], p: float) -> Float[Tensor, ""]:
    """Return `Σ_c (‖V_c‖ ‖U_c‖)^p`."""
    return (V.square().sum(0) * U.square().sum(1) + _EPSILON).pow(p / 2).sum()


@losses.register
class SimplicityConfig(LossConfig):
    """The Schatten-like size of the subcomponents."""

    kind: Literal["simplicity"] = "simplicity"
    p: PositiveFloat = 0.9
    """The power; below 1 few large pieces are cheaper than many small ones."""
    sites: str | tuple[str, ...] = "*"
    """Globs of the sites it acts on."""

    def build(self, model: DecomposedModel) -> Loss:
        """Return the term."""
        return Simplicity(self, model)


class Simplicity(Loss):
    """The size of the subcomponents, summed over sites."""

    def __init__(self, config: SimplicityConfig, model: DecomposedModel) -> None:
        super().__init__()
        self.config = config
        self.paths = choose_sites(list(model.sites), config.sites)

    def forward(self, step: Step) -> Tensor:
        """Return the value on the current factors; the batch plays no part."""
        sites = [step.model.sites[path] for path in self.paths]
        return torch.stack([simplicity(*site.factors.views(), self.config.p) for site in sites]).sum()
