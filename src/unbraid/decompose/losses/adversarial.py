"""Does the behaviour survive the worst ablation that a short ascent finds? Fresh projected gradient, anew for each batch."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from unbraid.decompose.adversary import Scope, as_sources, over_ranks, projected_ascent, random_sources
from unbraid.decompose.masks import masks_from
from unbraid.decompose.model import DecomposedModel
from unbraid.decompose.step import Loss, LossConfig, Step, losses


@losses.register
class AdversarialConfig(LossConfig):
    """Reconstruction under fresh adversarial masks."""

    kind: Literal["adversarial"] = "adversarial"
    scope: Scope = "c"
    """What the adversary may vary its sources over."""
    choices: PositiveInt = 8
    """N, for the scope nsc."""
    ascent_steps: PositiveInt = 1
    """Sign steps per training step; steps × size ≈ 2 lets every source reach both ends."""
    step_size: PositiveFloat = 1.0
    """Length of a sign step."""

    def build(self, model: DecomposedModel) -> Loss:
        """Return the term."""
        return Adversarial(self)


class Adversarial(Loss):
    """The distance after a short ascent on the sources; all sites are masked."""

    def __init__(self, config: AdversarialConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, step: Step) -> Tensor:
        """Return the distance under the sources that the ascent ends with."""
        fixed = {path: g.detach() for path, g in step.importances.lower.items()}
        config, share = self.config, step.share
        start = random_sources(fixed, config.scope, step.streams["adversary"], config.choices, share)
        worst = projected_ascent(
            lambda values: step.distance(masks_from(fixed, as_sources(values, fixed, share)), fixed=True),
            start,
            config.ascent_steps,
            config.step_size,
            lambda grads: over_ranks(grads, config.scope, step.ranks),
        )
        return step.distance(masks_from(step.importances.lower, as_sources(worst, fixed, share)))
