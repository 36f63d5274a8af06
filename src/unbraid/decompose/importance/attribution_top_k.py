"""A component is needed where its attribution is among the largest of the batch: the choice of attribution-based decomposition.

Nothing here is learned. Component c stands for the subcomponents of the same place in *every* site, so one importance serves all
sites. In training the k · B largest attributions of a batch of B inputs are kept, with importance 1, and the rest have 0 (batch
top-k, Braun et al. 2025).

The published method does the same when it evaluates, but then what an input needs depends on its company, and on a batch of probes
k means something else than on data. So training remembers where it cut, as a running average, and outside training a component is
needed where its attribution lies above that. Before the first step there is no cut, and the batch at hand decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from unbraid.core.errors import UserError
from unbraid.core.ranks import ALONE
from unbraid.decompose.attribution import attributions, spread
from unbraid.decompose.importance_function import ImportanceConfig, ImportanceFunction, SiteShape, importance_functions
from unbraid.decompose.model import Clean, DecomposedModel


def batch_top_k(scores: Float[Tensor, "batch K"], count: int) -> tuple[Float[Tensor, "batch K"], Float[Tensor, ""]]:
    """Return 1 for exactly `count` of the largest scores and 0 for the rest, and the cut, half way between the last kept and the next."""
    flat = scores.flatten()
    count = min(max(count, 1), flat.numel())
    values, places = flat.topk(min(count + 1, flat.numel()))
    kept = torch.zeros_like(flat)
    kept[places[:count]] = 1.0
    return kept.view_as(scores), (values[count - 1] + values[-1]) / 2


@importance_functions.register
class AttributionTopKConfig(ImportanceConfig):
    """Importance 1 for the components with the largest attributions, 0 for the others."""

    kind: Literal["attribution-top-k"] = "attribution-top-k"
    k: PositiveFloat = 1.0
    """How many components are kept per input, on average over the batch."""
    rank: PositiveInt = 1
    """How many consecutive subcomponents of each site make one component."""
    cut_decay: float = Field(default=0.99, ge=0, lt=1)
    """How much of the running cut is kept each step."""

    def build(self, sites: Mapping[str, SiteShape], generator: torch.Generator) -> ImportanceFunction:
        """Return the function; nothing is drawn.

        Raises:
            UserError: The sites differ in C, or C is no multiple of `rank`.
        """
        C = {path: shape.C for path, shape in sites.items()}
        if len(set(C.values())) > 1:
            given = ", ".join(f"{path}: {value}" for path, value in C.items())
            raise UserError(
                f"A component of 'attribution-top-k' spans all sites, but they differ in C ({given}).", "Give one number in `components`."
            )
        first = next(iter(C.values()))
        if first % self.rank:
            raise UserError(f"components is {first}, no multiple of importance.rank {self.rank}.", "Give the number of components × rank.")
        return AttributionTopK(self)


class AttributionTopK(ImportanceFunction):
    """Batch top-k of attributions in training, a remembered cut elsewhere."""

    needs_every_input = True
    cut: Tensor

    def __init__(self, config: AttributionTopKConfig) -> None:
        super().__init__()
        self.config, self.rank = config, config.rank
        self.register_buffer("cut", torch.tensor(-1.0))  # below 0 while there is none

    def forward(self, inputs: Mapping[str, Tensor], activations: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Refuse, since what the sites read does not say what the outputs do with it.

        Raises:
            UserError: Always; it stands among the functions of `per-site`.
        """
        raise UserError("'attribution-top-k' looks at all sites at once.", "Set importance.kind=attribution-top-k, without per-site.")

    def logits_on(self, model: DecomposedModel, clean: Clean) -> dict[str, Tensor]:
        """Return 1 or 0 for every subcomponent, the same at all positions of an input; in training the running cut follows."""
        needed = self._needed(attributions(model, clean, self.rank))
        return {path: spread(needed, site.x.shape[:-1], self.rank) for path, site in clean.sites.items()}

    @torch.no_grad()
    def _remember(self, cut: Tensor) -> None:
        self.cut.copy_(torch.where(self.cut < 0, cut, torch.lerp(cut, self.cut, self.config.cut_decay)))

    def _needed(self, scores: Tensor) -> Tensor:
        learning = self.training and torch.is_grad_enabled()
        if not learning and float(self.cut) >= 0:
            return (scores > self.cut).to(scores.dtype)
        # Outside training a batch is whole on every rank.
        ranks = self.ranks if learning else ALONE
        scores = ranks.concat(scores)
        needed, cut = batch_top_k(scores, round(self.config.k * len(scores)))
        if learning:
            self._remember(cut)
        return needed.chunk(ranks.count)[ranks.rank]
