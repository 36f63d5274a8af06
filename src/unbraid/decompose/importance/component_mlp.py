"""One tiny MLP per subcomponent, which sees only that subcomponent's own activation (the SPD paper's function)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from unbraid.decompose.importance_function import ImportanceConfig, ImportanceFunction, SiteShape, importance_functions, kaiming, zeros


@importance_functions.register
class ComponentMLPConfig(ImportanceConfig):
    """One scalar-input MLP per subcomponent; blind to every other direction of the input."""

    kind: Literal["component-mlp"] = "component-mlp"
    hidden: PositiveInt = 16
    """Hidden width of each MLP."""

    def build(self, sites: Mapping[str, SiteShape], generator: torch.Generator) -> ImportanceFunction:
        """Return the function with freshly drawn weights."""
        return ComponentMLP(sites, self.hidden, generator)


class _ScalarMLPs(nn.Module):
    """C parallel MLPs from one number to one number: `Σ_k w2[c,k] gelu(w1[c,k] h_c + b1[c,k]) + b2[c]`."""

    def __init__(self, C: int, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.W_in = kaiming((C, hidden), 1, generator)
        self.b_in = zeros(C, hidden)
        self.W_out = kaiming((C, hidden), hidden, generator, gain=1.0)
        self.b_out = zeros(C)

    def forward(self, h: Tensor) -> Tensor:
        """Map [..., C] to [..., C], each entry by its own MLP."""
        hidden = nn.functional.gelu(torch.addcmul(self.b_in, h[..., None], self.W_in))
        return (hidden * self.W_out).sum(-1) + self.b_out


class ComponentMLP(ImportanceFunction):
    """Each subcomponent's logit from its own activation."""

    def __init__(self, sites: Mapping[str, SiteShape], hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.paths = list(sites)
        self.mlps = nn.ModuleList([_ScalarMLPs(sites[path].C, hidden, generator) for path in self.paths])

    def forward(self, inputs: Mapping[str, Tensor], activations: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return each site's logits; gradients reach V through the activations, as in the published code."""
        return {path: mlp(activations[path]) for path, mlp in zip(self.paths, self.mlps, strict=True)}
