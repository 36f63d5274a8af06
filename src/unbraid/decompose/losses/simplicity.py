"""How small a rank do the subcomponents span? A Schatten-like penalty on their sizes, which no change of basis can dodge.

    Σ_c s_c (‖V_c‖ ‖U_c‖)^p

With p < 1 it is cheapest to write a matrix as few, orthogonal pieces, whatever their basis. With s = 1 it asks nothing of importance,
so it suits a map that every input needs: minimality would turn such a map's basis until some input needs one piece less. As published
s_c is the share of inputs that need the subcomponent, and what is small is what an input needs at once.
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


def simplicity(
    V: Float[Tensor, "d_in C"], U: Float[Tensor, "C d_out"], p: float, shares: Float[Tensor, " C"] | None = None
) -> Float[Tensor, ""]:
    """Return `Σ_c s_c (‖V_c‖ ‖U_c‖)^p`; without shares each counts whole."""
    sizes = (V.square().sum(0) * U.square().sum(1) + _EPSILON).pow(p / 2)
    return sizes.sum() if shares is None else torch.dot(sizes, shares)


def active_shares(g: Float[Tensor, "*lead C"], weights: Float[Tensor, "*lead"] | None = None) -> Float[Tensor, " C"]:
    """Return the mean importance of each subcomponent over positions: s_c, where importance is 0 or 1."""
    flat = g.flatten(0, -2)
    return flat.mean(0) if weights is None else flat.T.mv(weights.flatten())


@losses.register
class SimplicityConfig(LossConfig):
    """The Schatten-like size of the subcomponents."""

    kind: Literal["simplicity"] = "simplicity"
    p: PositiveFloat = 0.9
    """The power; below 1 few large pieces are cheaper than many small ones."""
    active: bool = False
    """Count each subcomponent by the share of inputs that need it, as published, instead of whole."""
    per_weight: bool = False
    """Divide by the number of weights of the sites, as published and as faithfulness does."""
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
        self.scale = 1 / sum(model.sites[path].weight.numel() for path in self.paths) if config.per_weight else 1.0

    def forward(self, step: Step) -> Tensor:
        """Return the value on the current factors; the batch plays a part only through the shares."""
        terms: list[Tensor] = []
        for path in self.paths:
            shares = active_shares(step.importances.lower[path], step.weights) if self.config.active else None
            terms.append(simplicity(*step.model.sites[path].factors.views(), self.config.p, shares))
        return torch.stack(terms).sum() * self.scale
