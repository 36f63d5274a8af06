"""A denoiser of sparse features: where plateaus come from, and whether the parts that parameter decomposition finds are the features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from statistics import fmean
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from unbraid.core.statistics import bootstrap_median
from unbraid.targets.panel import Panel
from unbraid.targets.toy import Check, Toy, toys
from unbraid.targets.toy_kit.denoiser import (
    DenoiserModule,
    HotFeatures,
    Shape,
    feature_planes,
    fit_scalars,
    plane_shape,
    random_planes,
    ternary,
    weighted_error,
)
from unbraid.targets.toy_kit.feature_panel import feature_panel
from unbraid.targets.toy_kit.probes import co_active_probes, one_hot_probes
from unbraid.targets.truth import SiteTruth, Truth

ON = 0.5
"""A feature is on above this; the noise stays far below."""
HOT = 2


@toys.register
class Denoiser(Toy):
    """Tied random weights that clean two-hot inputs, with two scalars fitted."""

    kind: Literal["denoiser"] = "denoiser"
    n_features: PositiveInt = 128
    """Number of features."""
    neurons: PositiveInt = 48
    """Number of neurons."""
    density: float = Field(default=0.15, gt=0, le=1)
    """Share of the weights that are not 0."""
    activation: Literal["tanh3", "jumprelu"] = "tanh3"
    """What silences the noise."""
    noise: NonNegativeFloat = 0.03
    """Standard deviation of the noise on every feature."""

    summary: ClassVar[str] = "128 features in 48 neurons with tied random weights, cleaned of noise: one reading piece per feature"
    lesson: ClassVar[str] = "error correction makes a response break out along features first: a level set squarer than an ellipse"
    sites: ClassVar[tuple[str, ...]] = ("read",)
    planes: ClassVar[int] = 48
    examples: ClassVar[int] = 512
    recipe: ClassVar[Mapping[str, Any]] = {
        "steps": 6000,
        "starts": {"count": 2, "until": 0.4},
        "batch_size": 1024,
        "components": 300,
        "importance": {"kind": "layerwise-mlp", "hidden": 96},
        "prune": {"at": 0.5, "below": 0.2},
        "losses": {
            "stochastic": {"routing": "subset"},
            "faithfulness": {"coefficient": 1e-2, "relative": True},
            "minimality": {"coefficient": 4e-5},
        },
        "optimizer": {"factors": {"learning_rate": 3e-3}, "importance": {"learning_rate": 3e-3}},
    }

    def build(self) -> DenoiserModule:
        """Return the model with its weights drawn and its two scalars fitted."""
        generator = torch.Generator().manual_seed(self.seed)
        module = DenoiserModule(ternary(self.neurons, self.n_features, self.density, generator), self.activation)
        clean = self.data().clean(self.examples, generator)
        fit_scalars(module, clean, clean + self.noise * torch.randn(clean.shape, generator=generator))
        return module

    def data(self) -> HotFeatures:
        """Return two features at 1, with noise on all."""
        return HotFeatures(self.n_features, HOT, self.noise)

    def wanted(self, inputs: Tensor) -> Tensor:
        """Return the inputs without the noise."""
        return (inputs > ON).to(inputs.dtype)

    def truth(self, module: nn.Module) -> Truth:
        """Return one piece per feature where the features are read.

        `write` is the same matrix, yet no site: the answers to features that are off are interference, with n_features / neurons times
        the energy of the answers that are on, and squared error makes it a part of what the model does. Pieces of `write` by feature
        would leave it out.
        """
        E = module.get_parameter("read.weight").detach()
        site = SiteTruth(V=torch.eye(self.n_features), U=E.T.contiguous(), pattern="per_feature", on=self.wanted, needed=self.wanted)
        return Truth(
            sites={"read": site},
            one_hot=one_hot_probes(self.n_features, value=1.0),
            co_active=co_active_probes(self.n_features, most=HOT, value=1.0),
            identity_error_bar=2,
        )

    def shapes(self, module: nn.Module, degrees: float | None) -> list[Shape]:
        """Return the level sets in planes of two features turned by an angle, or in random planes for None."""
        generator = torch.Generator().manual_seed(self.seed + 1)
        if degrees is None:
            anchors, planes = random_planes(self.n_features, self.planes, generator)
        else:
            anchors, planes = feature_planes(self.n_features, self.planes, degrees, generator)
        return [plane_shape(module, anchor, plane) for anchor, plane in zip(anchors, planes, strict=True)]

    def checks(self, module: nn.Module) -> tuple[Check, ...]:
        """Ask whether it denoises, and whether features are singled out, which no quadratic response could do."""
        feature, random, turned = (self.shapes(module, degrees) for degrees in (0.0, None, 60.0))
        radius = fmean(shape.radius for shape in feature) / fmean(shape.radius for shape in random)
        return (
            Check("weighted error / that of answering nothing", self._error(module), high=0.5, why="it does not denoise"),
            _exponent("on planes of two features", feature, 2.8, 3.5, "features are not singled out"),
            _exponent("on random planes", random, 1.85, 2.15, "the exponent is not a matter of features"),
            _exponent("on planes turned 60° off two features", turned, 1.85, 2.15, "the exponent is not a matter of features"),
            Check("break radius along features / along random directions", radius, high=0.9, why="features do not break out sooner"),
        )

    def _error(self, module: nn.Module) -> float:
        generator = torch.Generator().manual_seed(self.seed + 1)
        clean = self.data().clean(self.examples, generator)
        noisy = clean + self.noise * torch.randn(clean.shape, generator=generator)
        weight = self.n_features / 8
        with torch.no_grad():
            answer = module(noisy)
        return float(weighted_error(answer, clean, weight) / weighted_error(torch.zeros_like(clean), clean, weight))

    def panel(self, module: nn.Module) -> Panel:
        """Return the sceptic's panel over the range of a feature."""
        values: Float[Tensor, " grid"] = torch.linspace(0.0, 1.0, 11)
        panel = feature_panel(self, module, values, active=self.wanted)
        note = (
            "The squared error here is unweighted;"
            " the two scalars were fitted with features that are on weighing an eighth of their number, so answering nothing loses less."
        )
        return replace(panel, notes=(*panel.notes, note))


def _exponent(where: str, shapes: list[Shape], low: float, high: float, meaning: str) -> Check:
    """Return the check on a median exponent, with its interval over planes."""
    median = bootstrap_median([shape.fit.p for shape in shapes])
    name = f"superellipse exponent {where}, all four quadrants (median of {median.n}, 95 % {median.low:.2f} – {median.high:.2f})"
    return Check(name, median.value, low, high, why=meaning)
