"""How few subcomponents does an input need, and how rarely is each needed? A smooth count of importances, with a frequency term.

    ψ(g) = g² / (g² + γ²),   f_c = mean over positions of ψ(g_c),   activity = Σ_c f_c,   frequency = Σ_c f_c log2(1 + a f_c).

γ falls from 1, where ψ is a gentle square, to 0.01, where it counts. The reference count a stands for how many datapoints the
frequency is thought over and makes the term independent of the batch size. With an average over steps (EMA) the frequency's
slope is taken at the running f, which a single small batch cannot know. Source: Goodfire's param-decomp, "smooth_l0".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor

from unbraid.core.config import Config
from unbraid.core.schedules import linear
from unbraid.decompose.model import DecomposedModel
from unbraid.decompose.site_weights import site_weights
from unbraid.decompose.step import Loss, LossConfig, Step, losses


class _SmoothL0(torch.autograd.Function):
    """The mean of ψ over positions, with the closed-form slope ψ'(g) = 2 g γ² / (g² + γ²)²: two passes over g, not eight."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, gamma: float) -> Tensor:  # type: ignore[override]
        squares = g.square()
        denominator = squares + gamma * gamma
        ctx.save_for_backward(g, denominator)
        ctx.gamma = gamma
        return (squares / denominator).flatten(0, -2).mean(0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        g, denominator = ctx.saved_tensors
        scale = grad * (2 * ctx.gamma**2 / (g.numel() // g.shape[-1]))
        return g / denominator.square() * scale, None


def smooth_l0(g: Float[Tensor, "*lead C"], gamma: float) -> Float[Tensor, " C"]:
    """Return f_c, the mean over positions of `g² / (g² + γ²)`."""
    return _SmoothL0.apply(g, gamma)  # type: ignore[no-any-return]


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
    frequency: FrequencyConfig | None = FrequencyConfig()
    """The frequency term; null for none."""
    site_weights: Mapping[str, NonNegativeFloat] = {}
    """Glob over sites → weight of the site's whole cost; 1 where no glob matches. A matrix that is needed by every input wants less pressure than a sparse one."""

    def build(self, model: DecomposedModel) -> Loss:
        """Return the term."""
        return Minimality(self, model)


class Minimality(Loss):
    """Activity plus frequency, summed over subcomponents and sites."""

    def __init__(self, config: MinimalityConfig, model: DecomposedModel) -> None:
        super().__init__()
        self.coefficient = config.coefficient
        self.config = config
        self.paths = list(model.sites)
        weights = site_weights(self.paths, config.site_weights)
        self.register_buffer("weights", torch.cat([torch.full((model.C[path],), weights[path]) for path in self.paths]), persistent=False)
        self.register_buffer("running", torch.zeros(sum(model.C.values())))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, step: Step) -> Tensor:
        """Return the value on a step's upper importances."""
        config = self.config
        gamma = linear(step.progress, config.gamma_start, config.gamma_end, config.anneal_until)
        f = torch.cat([smooth_l0(step.importances.upper[path], gamma) for path in self.paths])
        value = f if config.frequency is None else f + config.frequency.weight * self._frequency(f, config.frequency)
        return (value * self.weights).sum()

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
