"""Which settings make groups of subcomponents?"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from unbraid.core.config import Config


class GroupingConfig(Config):
    """How subcomponents are grouped into modules."""

    method: Literal["description-length"] = "description-length"
    """By which rule: merge as long as that shortens the description of who fires when."""
    alpha: NonNegativeFloat = 0.5
    """Bits per member of a firing group: small values merge more. Nobody has a principle for it. At 0.5 the planted firings themselves give
    back the planted modules of compiled-blocks, superposed-blocks, residual-mlp-2 and coupled-teachers; at 1 not the last one's, at 2 not the first's."""
    evidence: NonNegativeFloat | None = 5.0
    """Merge only groups that fire together more often than independent ones would, as improbably as so many standard deviations; null leaves all to the formula."""
    threshold: float = Field(default=0.1, ge=0, lt=1)
    """A subcomponent fires where its importance is above this."""
    min_density: float = Field(default=1e-3, ge=0, lt=1)
    """Subcomponents that fire on a smaller share of the datapoints are ignored, as they do not count as alive; the result says how many."""
    datapoints: PositiveInt = 20_000
    """How many positions of fresh data to look at, at least."""
    batch_size: PositiveInt = 1024
    """Inputs per pass."""
    seed: NonNegativeInt = 0
    """Decides which fresh data."""
