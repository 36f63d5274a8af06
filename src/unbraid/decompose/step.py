"""What does one training step hand to its losses? The clean pass, the importances, and masked passes on demand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from unbraid.core.config import Config
from unbraid.core.ranks import ALONE, Ranks, Share
from unbraid.core.registry import Registry
from unbraid.core.schedules import geometric
from unbraid.core.seeds import Streams
from unbraid.decompose.columns import elementwise
from unbraid.decompose.fused import leaky_hard
from unbraid.decompose.importance_function import ImportanceFunction
from unbraid.decompose.masks import Masks, Sampling, Source, draw_sources
from unbraid.decompose.model import Clean, DecomposedModel
from unbraid.decompose.precision import Precision, in_precision
from unbraid.decompose.vocabulary import distance_between
from unbraid.targets.behaviour import Behaviour


@dataclass(frozen=True)
class Importances:
    """Importance of every subcomponent on a batch, [..., C] per site.

    Attributes:
        lower: In [0, 1], for masks.
        upper: As `lower`, but above 1 where the logit is; for minimality.
    """

    lower: dict[str, Tensor]
    upper: dict[str, Tensor]


def importances_of(model: DecomposedModel, function: ImportanceFunction, clean: Clean, precision: Precision = "fp32") -> Importances:
    """Evaluate the importance function on a clean pass; importances are fp32 in either precision."""
    with in_precision(precision, clean.output):
        logits = function.logits_on(model, clean)
    if precision == "bf16":
        logits = {path: z.float() for path, z in logits.items()}
    if model.pruned:
        # A pruned subcomponent's logit is -1: never important, and without a gradient.
        kept = {path: site.factors.kept for path, site in model.sites.items()}
        logits = {path: z * kept[path] - (1 - kept[path]) for path, z in logits.items()}
    return Importances(*elementwise(leaky_hard, {path: logits[path] for path in model.sites}))


@dataclass
class Step:
    """One training step, as the losses see it.

    Attributes:
        model: The decomposed model.
        clean: The target's own pass.
        importances: Attached to the importance function.
        behaviour: How far two outputs are apart.
        progress: Share of the run that is done, in [0, 1].
        streams: The run's random streams.
        weights: The share of the batch that each position stands for; None for equal shares. They sum to 1, on average over ranks.
        size: How many inputs the batch of all ranks stands for; None for as many as it has.
        share: Which part of that batch this rank has; None for all of it.
        ranks: Who has the rest.
        part: Which part of the step's batch this is, from 0.
        parts: Into how many parts it is divided.
        precision: In which masked passes run.
        recompute: Whether masked passes keep no activations.
        keeps_delta: Whether Δ is kept whole under random sources.
        elsewhere: The step on the other inputs, where the target has some.
    """

    model: DecomposedModel
    clean: Clean
    importances: Importances
    behaviour: Behaviour
    progress: float
    streams: Streams
    weights: Tensor | None = None
    size: int | None = None
    share: Share | None = None
    ranks: Ranks = ALONE
    part: int = 0
    parts: int = 1
    precision: Precision = "fp32"
    recompute: bool = False
    keeps_delta: bool = False
    elsewhere: Step | None = None
    _drawn: dict[str, dict[str, Source]] = field(default_factory=dict[str, dict[str, Source]])

    def sources(self, sampling: Sampling) -> dict[str, Source]:
        """Return the step's random sources, drawn once however many losses use them."""
        if sampling not in self._drawn:
            drawn = draw_sources(self.importances.lower, self.streams["masks"], sampling, self.share)
            if self.keeps_delta:
                drawn = {path: Source(source.component, torch.ones_like(source.delta)) for path, source in drawn.items()}
            self._drawn[sampling] = drawn
        return self._drawn[sampling]

    @property
    def positions(self) -> int:
        """How many positions the batch of all ranks stands for."""
        output = self.clean.output
        here = output.numel() // output.shape[-1]
        return self.size or (here if self.share is None else here // self.share.rows * self.share.total)

    def distance(self, masks: Masks, fixed: bool = False) -> Tensor:
        """Return how far the masked output is from the target's own; with `fixed`, for a gradient with respect to the masks alone."""
        output = self._masked(masks, fixed)
        return distance_between(
            self.behaviour, self.clean.output, output.float() if output.dtype != torch.float32 else output, self.weights
        )

    def _masked(self, masks: Masks, fixed: bool) -> Tensor:
        def run() -> Tensor:
            with in_precision(self.precision, self.clean.output):
                return self.model.masked(self.clean, masks, fixed, shares=not self.recompute)

        if not self.recompute:
            return run()
        # The masks hold every draw, so that the second run is the first one again.
        return cast(Tensor, checkpoint(run, use_reentrant=False, preserve_rng_state=False))


class Loss(torch.nn.Module):
    """A term of the objective; what it remembers between steps are buffers, so that a checkpoint holds it.

    Among ranks the term is the mean of what they return, and so is its gradient; a term that is no mean over examples takes the means
    that it needs with `step.ranks.mean`.

    Attributes:
        needs_every_input: Whether the term keeps something per input of the batch, so that equal inputs may not share one.
    """

    needs_every_input: bool = False

    def forward(self, step: Step) -> Tensor:
        """Return the unweighted value, a scalar."""
        raise NotImplementedError

    def rows(self) -> frozenset[str]:
        """Return the names of the buffers with one row per example of the batch, of which each rank keeps its examples' alone."""
        return frozenset()

    def after_backward(self, step: Step) -> None:
        """Run once the gradients of the step are known (a persistent adversary moves here)."""


class DecayConfig(Config):
    """A coefficient that falls by a constant ratio per step over part of the run."""

    begin: float = Field(ge=0, lt=1)
    """Share of the run after which it falls."""
    end: float = Field(gt=0, le=1)
    """Share of the run after which it stays."""
    final_share: PositiveFloat
    """What is left of it at the end."""


class LossConfig(Config):
    """The settings of a loss; subclasses register under their `kind`."""

    kind: str
    coefficient: float = 1.0
    """Weight in the total."""
    decay: DecayConfig | None = None
    """How the coefficient falls over the run; null keeps it."""

    def weight(self, progress: float) -> float:
        """Return the coefficient at this share of the run."""
        return self.coefficient * (1.0 if self.decay is None else geometric(progress, **self.decay.model_dump()))

    def build(self, model: DecomposedModel) -> Loss:
        """Return the term."""
        raise NotImplementedError


losses: Registry[LossConfig] = Registry("loss", "unbraid.decompose.losses")
