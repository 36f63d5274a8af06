"""Does the behaviour survive random ablation of what importance calls unneeded? The training workhorse (Bushnaq et al. 2025, eq. 8)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from unbraid.decompose.masks import Routing, Sampling, Source, masks_from, route_subsets
from unbraid.decompose.model import DecomposedModel
from unbraid.decompose.step import Loss, LossConfig, Step, losses


@losses.register
class StochasticConfig(LossConfig):
    """Reconstruction under random masks."""

    kind: Literal["stochastic"] = "stochastic"
    routing: Routing = "all"
    """Which sites are masked at once: all; each alone, averaged (layerwise); or a random subset per position (subset)."""
    sampling: Sampling = "continuous"
    """Sources uniform on [0, 1], or 0 and 1 with equal chance."""
    delta: bool = True
    """Whether Δ is a part that is masked too; without it the masked model lacks Δ."""

    def build(self, model: DecomposedModel) -> Loss:
        """Return the term."""
        return Stochastic(self)


class Stochastic(Loss):
    """The distance between the masked and the target's own output."""

    def __init__(self, config: StochasticConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, step: Step) -> Tensor:
        """Return the distance under this step's random masks, which all stochastic losses share."""
        return routed_distance(step, step.sources(self.config.sampling), self.config.routing, self.config.delta)


def routed_distance(step: Step, sources: dict[str, Source], routing: Routing, delta: bool) -> Tensor:
    """Return the distance under the masks of these sources, on the sites that `routing` chooses."""
    lower = step.importances.lower
    if routing == "layerwise":
        masks = masks_from(lower, sources, delta)
        return torch.stack([step.distance({path: mask}) for path, mask in masks.items()]).mean()
    if routing == "all":
        return step.distance(masks_from(lower, sources, delta))
    return step.distance(masks_from(lower, sources, delta, route_subsets(lower, step.streams["routing"], step.share)))
