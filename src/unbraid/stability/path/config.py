"""Which settings does a population of paths have?"""

from __future__ import annotations

from pydantic import Field, NonNegativeInt, PositiveInt

from unbraid.core.config import Config
from unbraid.stability.engine.paths import PathKind


class PathConfig(Config):
    """How many pairs of activations are joined, where, and what is read."""

    pairs: PositiveInt = 200
    """How many pairs; no prompt is in two of them."""
    site: int | str | None = None
    """Where the activation is exchanged: a block's number (its output), a module's path, or "input"; null for the first block, or the input."""
    position: int = -1
    """At which token of the prompt; the answer is read at the last one."""
    context: PositiveInt = 10
    """Tokens of each prompt."""
    read: str = "logits"
    """What sharpness is told of: logits, final (the last block), distribution, or a module's path. The first three are always read."""
    path: PathKind = "linear"
    """linear, geodesic (arc, the norm changes evenly), or centred (arc around the mean activation)."""
    points: int = Field(default=51, ge=11)
    """Points of the even grid."""
    extra: NonNegativeInt = 12
    """Points that are put where the answer changes most."""
    controls: bool = True
    """Whether every control is measured; a result without them is provisional."""
    control_pairs: PositiveInt = 40
    """On how many of the pairs."""
    bank: PositiveInt = 400
    """How many activations stand for what is there, for covariance-matched ends and the centred path."""
    untrained_seed: NonNegativeInt = 0
    """Seed of the weights of the untrained control."""
    seed: NonNegativeInt = 0
    """Decides which prompts."""
