"""Do the subcomponents add up to the weights? The size of Δ, absolute or relative to the matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from unbraid.decompose.model import DecomposedModel
from unbraid.decompose.step import Loss, LossConfig, Step, losses


def faithfulness(deltas: Sequence[Float[Tensor, "_ _"]]) -> Float[Tensor, ""]:
    """Return `Σ ‖Δ_l‖² / Σ numel(W_l)` (Bushnaq et al. 2025, eq. 3)."""
    total = torch.stack([delta.square().sum() for delta in deltas]).sum()
    return total / sum(delta.numel() for delta in deltas)


def relative_faithfulness(deltas: Sequence[Float[Tensor, "_ _"]], weights: Sequence[Float[Tensor, "_ _"]]) -> Float[Tensor, ""]:
    """Return the mean over sites of `‖Δ_l‖² / ‖W_l‖²`, which does not depend on the scale of the weights."""
    shares = [delta.square().sum() / weight.square().sum() for delta, weight in zip(deltas, weights, strict=True)]
    return torch.stack(shares).mean()


@losses.register
class FaithfulnessConfig(LossConfig):
    """The size of Δ."""

    kind: Literal["faithfulness"] = "faithfulness"
    relative: bool = False
    """Divide each site's ‖Δ‖² by its ‖W‖² and average over sites, instead of by the number of weights."""

    def build(self, model: DecomposedModel) -> Loss:
        """Return the term."""
        return Faithfulness(self)


class Faithfulness(Loss):
    """The size of Δ over all sites; tied sites count once each, as they stand in the model."""

    def __init__(self, config: FaithfulnessConfig) -> None:
        super().__init__()
        self.relative = config.relative

    def forward(self, step: Step) -> Tensor:
        """Return the value on the current factors; the batch plays no part."""
        return model_faithfulness(step.model, self.relative)


def model_faithfulness(model: DecomposedModel, relative: bool) -> Float[Tensor, ""]:
    """Return the size of Δ over the sites of a model."""
    deltas = [site.delta() for site in model.sites.values()]
    return relative_faithfulness(deltas, [site.weight for site in model.sites.values()]) if relative else faithfulness(deltas)
