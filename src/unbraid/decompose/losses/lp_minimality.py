"""How few subcomponents does an input need? The published Lp sum of importances, with p annealed and a batch-wise frequency term.

Σ_l Σ_c mean_b (g + ε)^p  +  β Σ_l Σ_c (s / n) log2(1 + s),   s = Σ_b (g + ε)^p over the n positions of the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor

from unbraid.core.schedules import linear
from unbraid.decompose.model import DecomposedModel
from unbraid.decompose.site_weights import site_weights
from unbraid.decompose.step import Loss, LossConfig, Step, losses

_EPSILON = 1e-12


def lp_sums(g: Float[Tensor, "*lead C"], p: float) -> Float[Tensor, " C"]:
    """Return `Σ (g + ε)^p` over positions."""
    raised = g + _EPSILON
    if p == 2:
        raised = raised.square()
    elif p != 1:
        raised = raised**p
    return raised.flatten(0, -2).sum(0)


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
    site_weights: Mapping[str, NonNegativeFloat] = {}
    """Glob over sites → weight of the site's whole cost; 1 where no glob matches."""

    def build(self, model: DecomposedModel) -> Loss:
        """Return the term."""
        return LpMinimality(self, model)


class LpMinimality(Loss):
    """The Lp sum over subcomponents and sites."""

    def __init__(self, config: LpMinimalityConfig, model: DecomposedModel) -> None:
        super().__init__()
        self.coefficient = config.coefficient
        self.config = config
        self.weights = site_weights(list(model.sites), config.site_weights)

    def forward(self, step: Step) -> Tensor:
        """Return the value on a step's upper importances."""
        config = self.config
        p = linear(step.progress, config.p_start, config.p_start if config.p_end is None else config.p_end, config.anneal_until)
        terms: list[Tensor] = []
        for path, weight in self.weights.items():
            g = step.importances.upper[path]
            n = g.numel() // g.shape[-1]
            s = lp_sums(g, p)
            value = s / n if config.beta == 0 else s / n * (1 + config.beta * torch.log2(1 + s))
            terms.append(weight * value.sum())
        return torch.stack(terms).sum()
