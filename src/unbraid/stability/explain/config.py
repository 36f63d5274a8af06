"""Which settings does the question "which parts build this plateau?" have?"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from unbraid.core.config import Config


class ExplainConfig(Config):
    """The settings of `explain`."""

    pair: tuple[str, str] | None = None
    """Two texts, the path going from the last token of the one to that of the other; null draws pairs from the held-out inputs."""
    pairs: PositiveInt = 20
    """How many pairs are drawn; no prompt is in two."""
    context: PositiveInt = 16
    """Tokens of each prompt that is drawn."""
    site: int | str | None = None
    """Where the activation is exchanged: a block's number, a module's path, or "input"; null for the token embedding, which every decomposed
    site comes after, or the input of a model that reads vectors."""
    position: int = -1
    """At which token, negative ones from the end."""
    path: Literal["linear", "geodesic"] | None = None
    """The way from the one activation to the other; null for an arc, or for vectors, which may be zero, a straight line."""
    points: int = Field(default=51, ge=11)
    """Points on each path."""
    read: str = "logits"
    """What is read of the answer: logits, final, distribution, or a module's path."""
    threshold: float = Field(default=0.1, ge=0, lt=1)
    """A part with an importance above this is active."""
    components: NonNegativeInt = 256
    """At most so many single components are removed, of those that are active on the path the ones with the highest importance."""
    draws: PositiveInt = 4
    """Random sets of each kind beside every set of parts."""
    sampled: NonNegativeInt = 24
    """How many single components stand for all where there are many: as the null of single ones, and to compare importance with ablation."""
    seed: NonNegativeInt = 0
    """Decides pairs and random sets."""
