"""Does the behaviour survive random and adversarial ablation, at the price of one pass? Each example of the batch meets one of the two.

With probability `adversarial_share` an example is ablated by the persistent adversary, all sites masked; otherwise by random sources on a random
subset of the sites per position. The early ascents are over all examples; the last one, from the merged pass itself, moves the sources of those
that met the adversary. Source: Goodfire's param-decomp, merged stochastic and persistent adversarial reconstruction.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool
from pydantic import Field
from torch import Tensor

from unbraid.core.errors import UserError
from unbraid.decompose.adversary import Scope, as_sources
from unbraid.decompose.losses.persistent_adversarial import PersistentAdversarial, PersistentAdversarialConfig
from unbraid.decompose.masks import Source, draw_subset, masks_from, own_rows
from unbraid.decompose.model import DecomposedModel
from unbraid.decompose.step import Loss, Step, losses


@losses.register
class MergedConfig(PersistentAdversarialConfig):
    """Random and adversarial reconstruction in one pass."""

    kind: Literal["merged"] = "merged"
    scope: Scope = "bsc"
    """What the adversary may vary its sources over: bsc, or bc for one vector per example and site, used at all positions."""
    adversarial_share: float = Field(default=0.5, gt=0, lt=1)
    """Chance of an example to meet the adversary."""

    def build(self, model: DecomposedModel) -> Loss:
        """Return the term.

        Raises:
            UserError: The adversary has no sources of single examples, or a pool in a scope that has none.
        """
        if self.scope not in ("bc", "bsc"):
            raise UserError(f"The loss 'merged' was given scope={self.scope}, which examples share.", "Use scope=bsc or scope=bc.")
        self.check_pool()
        return Merged(self, list(model.sites))


class Merged(PersistentAdversarial):
    """The distance of a batch of which some examples meet the adversary and the others random masks."""

    config: MergedConfig

    def __init__(self, config: MergedConfig, paths: list[str]) -> None:
        super().__init__(config, paths)
        self._met: Bool[Tensor, " batch"] | None = None

    def forward(self, step: Step) -> Tensor:
        """Return the distance of the one merged pass."""
        lower = step.importances.lower
        fixed = self.climb(step)
        adversarial, random = as_sources(self.attach(step), fixed, step.share), step.sources("continuous")
        some = next(iter(lower.values()))
        chance = step.streams["routing"]
        routed = draw_subset(list(lower), some.shape[:-1], chance, some.device, step.share)
        drawn = own_rows(lambda shape: torch.rand(shape, generator=chance, device=some.device), (len(some),), step.share)
        met = drawn < self.config.adversarial_share
        self._met = met
        here = met.view(-1, *[1] * (some.dim() - 2))
        sources = {
            path: Source(
                torch.where(here[..., None], adversarial[path].component, source.component),
                torch.where(here, adversarial[path].delta, source.delta),
            )
            for path, source in random.items()
        }
        return step.distance(masks_from(lower, sources, routed={path: where | here for path, where in routed.items()}))

    def moved(self) -> Bool[Tensor, " batch"] | None:
        """Return which examples met the adversary, whose sources the last ascent moves."""
        return self._met
