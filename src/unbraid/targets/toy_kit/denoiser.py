"""What error correction does a tied random network do, and does it single features out?

`f(x) = c_out Eᵀ g(c_in E x)` with random entries {0, ±1} in E and only the two scalars fitted: the least that maps noisy sparse
inputs to clean ones. Nothing in it was trained to have features as its parts, yet its response breaks out along features first.

Source: the toy model of Ferreira da Silva and Heimersheim 2026 (arXiv 2606.24964).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unbraid.targets.toy_kit.superellipse import (
    Superellipse,
    crossing_radii,
    fit_superellipse,
    half_axis_threshold,
    in_axis_units,
    quadrant_angles,
)

FURTHEST = 2.0
"""How far planes are explored, in units of a feature that is on; 4 and 8 give the same exponents."""
FEWEST_NEURONS = 3
"""A feature that fewer neurons read is drawn again: it could not be told from noise."""


@dataclass(frozen=True)
class HotFeatures:
    """A few features at 1, chosen at random, and Gaussian noise on all of them."""

    n_features: int
    hot: int
    noise: float

    def batch(self, step: int, size: int, generator: torch.Generator) -> Float[Tensor, "batch n_features"]:
        """Draw `size` inputs; `step` plays no part."""
        clean = self.clean(size, generator)
        return clean + self.noise * torch.randn(clean.shape, generator=generator, device=generator.device)

    def clean(self, size: int, generator: torch.Generator) -> Float[Tensor, "batch n_features"]:
        """Draw inputs without the noise."""
        ranks = torch.rand(size, self.n_features, generator=generator, device=generator.device)
        chosen = ranks.topk(self.hot, dim=1).indices
        return torch.zeros(size, self.n_features, device=generator.device).scatter_(1, chosen, 1.0)


class Gate(nn.Module):
    """What silences noise: `tanh³`, or a JumpReLU that lets through what exceeds 1."""

    def __init__(self, kind: Literal["tanh3", "jumprelu"]) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        """Apply the gate to each neuron."""
        return x.tanh() ** 3 if self.kind == "tanh3" else x * (x > 1)


class DenoiserModule(nn.Module):
    """`c_out · write(gate(c_in · read(x)))`, where write's weight is read's transpose."""

    def __init__(self, E: Float[Tensor, "neurons n_features"], gate: Literal["tanh3", "jumprelu"]) -> None:
        super().__init__()
        neurons, n_features = E.shape
        self.read = nn.Linear(n_features, neurons, bias=False)
        self.gate = Gate(gate)
        self.write = nn.Linear(neurons, n_features, bias=False)
        with torch.no_grad():
            self.read.weight.copy_(E)
            self.write.weight.copy_(E.T)
        self.register_buffer("c_in", torch.ones(()))
        self.register_buffer("c_out", torch.ones(()))

    def forward(self, x: Float[Tensor, "*batch n_features"]) -> Float[Tensor, "*batch n_features"]:
        """Return the cleaned features."""
        return self.get_buffer("c_out") * self.write(self.gate(self.get_buffer("c_in") * self.read(x)))


def ternary(neurons: int, n_features: int, density: float, generator: torch.Generator) -> Float[Tensor, "neurons n_features"]:
    """Return independent entries that are ±1 with probability `density` and else 0, every feature read by at least `FEWEST_NEURONS`."""
    E = torch.zeros(neurons, n_features)
    missing = torch.ones(n_features, dtype=torch.bool)
    while bool(missing.any()):
        shape = (neurons, int(missing.sum()))
        signs = torch.randint(0, 2, shape, generator=generator) * 2.0 - 1.0
        E[:, missing] = signs * (torch.rand(shape, generator=generator) < density)
        missing = E.abs().sum(dim=0) < min(FEWEST_NEURONS, neurons)
    return E


def weighted_error(
    answer: Float[Tensor, "batch n_features"], clean: Float[Tensor, "batch n_features"], on_weight: float
) -> Float[Tensor, ""]:
    """Return the mean over inputs of the squared error, with entries that are on weighing `on_weight`."""
    return (torch.where(clean > 0, on_weight, 1.0) * (answer - clean).square()).sum(dim=1).mean()


def fit_scalars(module: DenoiserModule, clean: Float[Tensor, "batch n_features"], noisy: Float[Tensor, "batch n_features"]) -> None:
    """Set `c_in` and `c_out` to the least weighted error: `c_out` in closed form at each `c_in` of a grid, which is then refined once.

    Entries that are on weigh an eighth of the number of features, as in the source.
    """
    weight = torch.where(clean > 0, clean.shape[1] / 8, 1.0)
    read = module.read(noisy)

    def solved(c_in: Tensor) -> tuple[float, Tensor]:
        raw = module.write(module.gate(c_in * read))
        c_out = (weight * raw * clean).sum() / (weight * raw.square()).sum().clamp(min=1e-12)
        return float((weight * (c_out * raw - clean).square()).sum()), c_out

    with torch.no_grad():
        grid = torch.logspace(-1.5, 1.0, 36)
        best = min(range(len(grid)), key=lambda i: solved(grid[i])[0])
        fine = torch.linspace(float(grid[max(best - 1, 0)]), float(grid[min(best + 1, len(grid) - 1)]), 13)
        c_in = fine[min(range(len(fine)), key=lambda i: solved(fine[i])[0])]
        module.get_buffer("c_in").copy_(c_in)
        module.get_buffer("c_out").copy_(solved(c_in)[1])


@dataclass(frozen=True)
class Shape:
    """The level set of the response in one plane.

    Attributes:
        fit: Its superellipse.
        radius: Mean radius on the four half axes at which the response is half of what the weakest of them reaches.
    """

    fit: Superellipse
    radius: float


def plane_shape(
    module: Callable[[Tensor], Tensor],
    anchor: Float[Tensor, " n_features"],
    plane: Float[Tensor, "2 n_features"],
    furthest: float = FURTHEST,
) -> Shape:
    """Return the level set of `‖f(a + x d₁ + y d₂) - f(a)‖` in the plane of two unit directions.

    Raises:
        UserError: The response never crosses the threshold on a half axis.
    """
    with torch.no_grad():
        base = module(anchor[None])

        def response(points: Tensor) -> Tensor:
            return (module(anchor + points.to(plane.dtype) @ plane) - base).norm(dim=1).to(points.dtype)

        angles = quadrant_angles()
        radii = crossing_radii(response, half_axis_threshold(response, furthest), angles, furthest)
    axes = radii[:: len(angles) // 4]
    return Shape(fit_superellipse(in_axis_units(radii, angles)), float(axes.mean()))


def feature_planes(n_features: int, count: int, degrees: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return anchors [count, n_features] with two features on, and planes [count, 2, n_features] of two others, each turned away from
    its feature by an angle into a random direction of its own.
    """
    picks = torch.rand(count, n_features, generator=generator).topk(4, dim=1).indices
    anchors = torch.zeros(count, n_features).scatter_(1, picks[:, :2], 1.0)
    planes = torch.zeros(count, 2, n_features).scatter_(2, picks[:, 2:, None], 1.0)
    aside = torch.randn(planes.shape, generator=generator)
    aside = nn.functional.normalize(aside - (aside * planes).sum(-1, keepdim=True) * planes, dim=-1)
    turn = math.radians(degrees)
    return anchors, math.cos(turn) * planes + math.sin(turn) * aside


def random_planes(n_features: int, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return anchors with two features on, and planes of two random directions."""
    anchors, _ = feature_planes(n_features, count, 0.0, generator)
    return anchors, nn.functional.normalize(torch.randn(count, 2, n_features, generator=generator), dim=-1)
