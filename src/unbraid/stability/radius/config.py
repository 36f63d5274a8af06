"""Which settings measure how far an activation can move?"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from unbraid.core.config import Config
from unbraid.stability.radius.units import Unit


class RadiusConfig(Config):
    """Along what activations are moved, how far, and when the answer counts as another one."""

    directions: tuple[str, ...] = Field(default=("random", "difference", "pca"), min_length=1)
    """Families: random, covariance, difference, pca, features and features-rotated (planted, toys only), components:RUN. Their nulls are added."""
    anchors: int = Field(default=30, ge=2)
    """How many real activations are moved; intervals are over these."""
    rays: PositiveInt = 16
    """Rays of each family from each anchor."""
    pool: int = Field(default=256, ge=8)
    """Activations of other prompts, of which directions are made and from which the scale is taken."""
    context: PositiveInt = 10
    """Tokens of a prompt; the last one's activation is moved."""
    inputs: Literal["clean", "noisy"] | None = None
    """For targets that put noise on their inputs: whether activations are moved from inputs without it, or from noisy ones; null for clean."""
    site: int | str | None = None
    """Where: a block's number, a module's path, or "input"; null for the first block, or the input of a model without blocks."""
    read: str = "logits"
    """What is read and compared: logits, final, distribution, or a module's path."""
    rays_are: Literal["turns", "steps"] | None = None
    """Turns keep the norm and are measured in degrees, steps are straight; null for turns in language models and steps elsewhere."""
    share: float = Field(default=0.5, gt=0)
    """An answer is another one where it is this share of the unit away."""
    unit: Unit | None = None
    """The unit: what one planted feature more does to an answer ("feature"), or the distance between two real answers ("answers"), medians both.
    Null for the first that there is; the other stands beside it."""
    bits: PositiveFloat = 0.05
    """Besides, for language models: where the Jensen-Shannon divergence of the next token is so many bits."""
    furthest: PositiveFloat | None = None
    """How far rays are followed; null for 90 degrees, or for twice the median distance between two real activations."""
    grid: int = Field(default=30, ge=4)
    """Points of a ray that are looked at before bisection."""
    tolerance: PositiveFloat = 0.1
    """How exactly a crossing is located, in degrees of a quarter turn; of a straight ray the same share of its length."""
    thickness_rays: NonNegativeInt = 4
    """On how many rays of each family and anchor the boundary's thickness and the blocks' gains are measured; 0 for none."""
    inradius_steps: NonNegativeInt = 12
    """How many turns downhill look for the nearest boundary; 0 for not looking."""
    planes: NonNegativeInt = 30
    """Planes of each family whose superellipse exponent is measured, spread over the anchors; 0 for none."""
    planes_at: Literal["axes", "threshold"] = "axes"
    """The level in planes: half of what the weakest half axis reaches within `furthest`, as was published, or the threshold of the radii."""
    mixtures: tuple[Literal[2, 4, 8, 16], ...] = (2, 4, 8)
    """How many directions of a family are mixed, at every anchor; empty for none."""
    gain_at: float = Field(default=0.1, gt=0, le=1)
    """How far an activation is moved to measure the blocks' gains, as a share of `furthest`."""
    untrained: bool = True
    """Whether the same model with fresh weights is measured too, with random and covariance-matched directions."""
    seed: NonNegativeInt = 0
    """Decides prompts, directions and resamples."""
