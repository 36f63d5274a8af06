"""Do the subcomponents alone, all kept and without Δ, behave like the target? Faithfulness in function space."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from unbraid.decompose.masks import constant_masks
from unbraid.decompose.model import DecomposedModel
from unbraid.decompose.step import Loss, LossConfig, Step, losses


@losses.register
class UnmaskedConfig(LossConfig):
    """Reconstruction with every subcomponent kept and Δ left out."""

    kind: Literal["unmasked"] = "unmasked"

    def build(self, model: DecomposedModel) -> Loss:
        """Return the term."""
        return Unmasked()


class Unmasked(Loss):
    """The distance between the sum of the subcomponents and the target."""

    def forward(self, step: Step) -> Tensor:
        """Return the distance."""
        return step.distance(constant_masks(step.importances.lower, 1.0, delta=None))
