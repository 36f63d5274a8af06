"""How few subcomponents does an input need, and how rarely is each needed? A smooth count of importances, with a frequency term.

    ψ(g) = g² / (g² + γ²),   f_c = mean over positions of ψ(g_c),   activity = Σ_c f_c,   frequency = Σ_c f_c log2(1 + a f_c).

γ falls from 1, where ψ is a gentle square, to 0.01, where it counts. The reference count a stands for how many datapoints the
frequency is thought over and makes the term independent of the batch size. With an average over steps (EMA) the frequency's
slope is taken at the running f, which a single small batch cannot know. Source: Goodfire's param-decomp, "smooth_l0".
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor

from unbraid.core.config import Config
from unbraid.core.schedules import linear
from unbraid.decompose.columns import grouped, side_by_side
from unbraid.decompose.fused import smooth_count
from unbraid.decompose.model import DecomposedModel
from unbraid.decompose.site_choice import choose_sites
from unbraid.decompose.step import Loss, LossConfig, Step, losses


def smooth_l0(g: Float[Tensor, "*lead C"], gamma: float, weights: Float[Tensor, "*lead"] | None = None) -> Float[Tensor, " C"]:
    """Return f_c, the mean over positions of `g² / (g² + γ²)`."""
    flat = g.flatten(0, -2)
    shares = flat.new_full((len(flat),), 1 / len(flat)) if weights is None else weights.flatten()
    return smooth_count(flat, shares, gamma)


def frequency(f: Float[Tensor, " C"], reference_count: float) -> Float[Tensor, " C"]:
    """Return `f log2(1 + a f)`: what a subcomponent costs for being needed often, in bits per datapoint."""
    return f * torch.log1p(reference_count * f) / math.log(2)


def frequency_slope(f: Float[Tensor, " C"], reference_count: float) -> Float[Tensor, " C"]:
    """Return the derivative of `frequency` with respect to f."""
    af = reference_count * f
    return (torch.log1p(af) + af / (1 + af)) / math.log(2)


class FrequencyConfig(Config):
    """The cost of being needed often, beside the cost of being needed."""

    weight: NonNegativeFloat = 0.5
    """Weight relative to the activity."""
    reference_count: PositiveFloat = 32_768
    """a, the number of datapoints that the frequency is thought over."""
    half_life_steps: PositiveFloat | None = None
    """Take the slope at a running average of f with this half-life; null uses the batch's own f."""


@losses.register
class MinimalityConfig(LossConfig):
    """Smooth-L0 minimality with a frequency term."""

    kind: Literal["minimality"] = "minimality"
    gamma_start: PositiveFloat = 1.0
    """γ at the first step."""
    gamma_end: PositiveFloat = 0.01
    """γ when the annealing ends."""
    anneal_until: float = Field(default=0.9, gt=0, le=1)
    """Share of the run after which γ stays."""
    normalized: bool = False
    """Multiply ψ by 1 + γ², so that an importance of 1 counts as 1 at every γ."""
    frequency: FrequencyConfig | None = FrequencyConfig()
    """The frequency term; null for none."""
    sites: str | tuple[str, ...] = "*"
    """Globs of the sites it acts on. A matrix that every input needs wants other pressure than a sparse one: give each its own term."""

    def build(self, model: DecomposedModel) -> Loss:
        """Return the term."""
        return Minimality(self, model)


class Minimality(Loss):
    """Activity plus frequency, summed over subcomponents and sites."""

    running: Tensor
    steps: Tensor

    def __init__(self, config: MinimalityConfig, model: DecomposedModel) -> None:
        super().__init__()
        self.config = config
        self.paths = choose_sites(list(model.sites), config.sites)
        C = sum(model.C[path] for path in self.paths)
        self.register_buffer("running", torch.zeros(C))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, step: Step) -> Tensor:
        """Return the value on a step's upper importances."""
        config = self.config
        gamma = linear(step.progress, config.gamma_start, config.gamma_end, config.anneal_until)
        upper = {path: step.importances.upper[path] for path in self.paths}
        f = torch.cat([smooth_l0(side_by_side(upper, paths), gamma, step.weights) for paths in grouped(upper, step.share)])
        f = step.ranks.mean(f)  # over the whole batch, before the frequency's logarithm
        if config.normalized:
            f = f * (1 + gamma**2)
        value = f if config.frequency is None else f + config.frequency.weight * self._frequency(f, config.frequency)
        return value.sum()

    def _frequency(self, f: Tensor, config: FrequencyConfig) -> Tensor:
        if config.half_life_steps is None:
            return frequency(f, config.reference_count)
        decay = 2 ** (-1 / config.half_life_steps)
        if torch.is_grad_enabled():
            self.running.lerp_(f.detach(), 1 - decay)
            self.steps += 1
        corrected = self.running / (1 - decay ** self.steps.clamp(min=1))
        # The value is Φ at the running f; its gradient is Φ' there, carried by this batch's f.
        return frequency(corrected, config.reference_count) + frequency_slope(corrected, config.reference_count) * (f - f.detach())
