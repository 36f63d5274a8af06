"""Does the behaviour survive when everything is ablated as far as its importance allows? The corner r = 0 of all masks."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from unbraid.decompose.masks import Mask
from unbraid.decompose.model import DecomposedModel
from unbraid.decompose.step import Loss, LossConfig, Step, losses


@losses.register
class ImportanceMaskedConfig(LossConfig):
    """Reconstruction with the importances themselves as masks, without Δ."""

    kind: Literal["importance-masked"] = "importance-masked"

    def build(self, model: DecomposedModel) -> Loss:
        """Return the term."""
        return ImportanceMasked()


class ImportanceMasked(Loss):
    """The distance at the lowest masks."""

    def forward(self, step: Step) -> Tensor:
        """Return the distance."""
        return step.distance({path: Mask(g) for path, g in step.importances.lower.items()})
