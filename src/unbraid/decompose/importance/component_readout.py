"""Two sigmoids per subcomponent, on its own activation: one for positive and one for negative values.

    z_c = s₊ σ(a₊ h̃_c + b₊)  +  s₋ σ(b₋ - a₋ h̃_c)  +  b,        h̃_c = h_c / (running maximum of |h_c|)

A subcomponent that is needed for both signs of its activation needs a gate with two sides; an MLP on the site's input learns
the side with more weight first and then keeps the other shut. Source: the component-conditioned readout of Goodfire's
param-decomp, here without a network beneath it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from unbraid.core.ranks import Ranks
from unbraid.decompose.importance_function import ImportanceConfig, ImportanceFunction, SiteShape, importance_functions


@importance_functions.register
class ComponentReadoutConfig(ImportanceConfig):
    """A two-sided gate per subcomponent with seven numbers each."""

    kind: Literal["component-readout"] = "component-readout"
    slope: float = 6.0
    """a₊ and a₋ at the start."""
    threshold: float = 2.5
    """-b₊ and -b₋ at the start."""
    bias: float = -0.15
    """b at the start."""
    scale_decay: float = Field(default=0.99, ge=0, lt=1)
    """How much of the running maximum is kept each step."""

    def build(self, sites: Mapping[str, SiteShape], generator: torch.Generator) -> ImportanceFunction:
        """Return the gates at their starting values; nothing is drawn."""
        return ComponentReadout(self, sites)


class _Gates(nn.Module):
    """The gates of one site."""

    scale: Tensor

    def __init__(self, config: ComponentReadoutConfig, C: int) -> None:
        super().__init__()
        self.decay = config.scale_decay
        self.size = nn.Parameter(torch.ones(2, C))
        self.slope = nn.Parameter(torch.full((2, C), config.slope))
        self.shift = nn.Parameter(torch.full((2, C), -config.threshold))
        self.bias = nn.Parameter(torch.full((C,), config.bias))
        self.register_buffer("scale", torch.zeros(C))

    def forward(self, h: Tensor, ranks: Ranks) -> Tensor:
        """Map activations [..., C] to logits [..., C]; in training the running maximum follows."""
        if self.training and torch.is_grad_enabled():
            with torch.no_grad():
                highest = ranks.highest(h.abs().flatten(0, -2).amax(0))
                # The first batch sets the scale; a smaller later one lets it sink slowly.
                self.scale.copy_(torch.where(self.scale > 0, torch.lerp(highest, self.scale, self.decay), highest))
        scaled = h / self.scale.clamp(min=1e-6)
        above = self.size[0] * torch.sigmoid(torch.addcmul(self.shift[0], scaled, self.slope[0]))
        below = self.size[1] * torch.sigmoid(torch.addcmul(self.shift[1], scaled, self.slope[1], value=-1))
        return above + below + self.bias


class ComponentReadout(ImportanceFunction):
    """Each subcomponent's logit from its own activation, whatever its sign."""

    def __init__(self, config: ComponentReadoutConfig, sites: Mapping[str, SiteShape]) -> None:
        super().__init__()
        self.paths = list(sites)
        self.gates = nn.ModuleList([_Gates(config, shape.C) for shape in sites.values()])

    def forward(self, inputs: Mapping[str, Tensor], activations: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return each site's logits; gradients reach V through the activations."""
        return {path: gates(activations[path], self.ranks) for path, gates in zip(self.paths, self.gates, strict=True)}
