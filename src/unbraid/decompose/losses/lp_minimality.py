"""How few subcomponents does an input need? The published Lp sum of importances, with p annealed and a batch-wise frequency term.

Σ_l Σ_c mean_b (g + ε)^p  +  β Σ_l Σ_c (s / n) log2(1 + s),   s = Σ_b (g + ε)^p over the n positions of the batch.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor

from unbraid.core.schedules import linear
from unbraid.decompose.model import DecomposedModel
from unbraid.decompose.site_choice import choose_sites
from unbraid.decompose.step import Loss, LossConfig, Step, losses

_EPSILON = 1e-12


def lp_mean(g: Float[Tensor, "*lead C"], p: float, weights: Float[Tensor, "*lead"] | None = None) -> Float[Tensor, " C"]:
    """Return the mean over positions of `(g + ε)^p`."""
    raised = g + _EPSILON
    if p == 2:
        raised = raised.square()
    elif p != 1:
        raised = raised**p
    flat = raised.flatten(0, -2)
    return flat.mean(0) if weights is None else flat.T.mv(weights.flatten())


@losses.register
class LpMinimalityConfig(LossConfig):
    """Lp minimality (Bushnaq et al. 2025, eq. 11; with the frequency term of the 2026 paper)."""

    kind: Literal["lp-minimality"] = "lp-minimality"
    p_start: PositiveFloat = 1.0
    """p at the first step."""
    p_end: PositiveFloat | None = None
    """p when the annealing ends; null keeps it."""
    anneal_until: float = Field(default=1.0, gt=0, le=1)
    """Share of the run after which p stays."""
    beta: NonNegativeFloat = 0.0
    """Weight of the frequency term, which depends on the batch size (`minimality` has one that does not)."""
    sites: str | tuple[str, ...] = "*"
    """Globs of the sites it acts on."""

    def build(self, model: DecomposedModel) -> Loss:
        """Return the term."""
        return LpMinimality(self, model)


class LpMinimality(Loss):
    """The Lp sum over subcomponents and sites."""

    def __init__(self, config: LpMinimalityConfig, model: DecomposedModel) -> None:
        super().__init__()
        self.config = config
        self.paths = choose_sites(list(model.sites), config.sites)

    def forward(self, step: Step) -> Tensor:
        """Return the value on a step's upper importances."""
        config = self.config
        p = linear(step.progress, config.p_start, config.p_start if config.p_end is None else config.p_end, config.anneal_until)
        terms: list[Tensor] = []
        for path in self.paths:
            mean = step.ranks.mean(lp_mean(step.importances.upper[path], p, step.weights))
            value = mean if config.beta == 0 else mean * (1 + config.beta * torch.log2(1 + mean * step.positions))
            terms.append(value.sum())
        return torch.stack(terms).sum()
