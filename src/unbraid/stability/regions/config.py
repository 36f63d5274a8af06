"""How are stable regions looked for?"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from unbraid.core.config import Config


class RegionsConfig(Config):
    """How anchors are chosen, which paths between them are walked, and how far an answer may move within a region."""

    anchors: Annotated[int, Field(ge=4)] = 300
    """How many activations: as many last tokens in one context, or as many input vectors."""
    tokens: Literal["likely", "text"] = "likely"
    """Which last tokens: the likeliest ones there, or those that are commonest in the text."""
    context: Annotated[int, Field(ge=2)] = 16
    """Tokens of the context, with the last one."""
    site: int | str | None = None
    """Whose output is moved: a block's number or a module's path; null for the first block, or the input of a model without blocks."""
    read: str = "logits"
    """What is read: "logits", "final", "distribution", or a module's path."""
    tau: PositiveFloat = 0.5
    """How far an answer may move within a region, as a share of the median distance between two anchors' answers (nearly nothing where half of them answer alike)."""
    grid: Annotated[int, Field(ge=5)] = 51
    """Points along a path."""
    neighbours: PositiveInt = 8
    """How many nearest anchors, by their answers, each is joined with first."""
    random: PositiveInt = 1000
    """How many random pairs are joined."""
    most: NonNegativeInt = 20000
    """How many more paths may be walked to settle which regions are one."""
    triples: PositiveInt = 500
    """How many triples are looked at to see whether being neighbours is transitive."""
    permutations: Annotated[int, Field(ge=19)] = 200
    """How often labels are permuted for the chance level."""
    untrained: bool = True
    """Whether the same is done with fresh weights, to compare with."""
    matched: bool = True
    """Whether the same is done with random anchors of the same mean and covariance, to compare with."""
    seed: int = 0
    """Decides the context, pairs, random anchors and fresh weights."""
    at_once: PositiveInt = 512
    """How many points are read together."""
