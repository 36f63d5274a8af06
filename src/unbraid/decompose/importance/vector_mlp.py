"""One MLP per subcomponent, which sees the whole input of the site."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from unbraid.decompose.importance_function import ImportanceConfig, ImportanceFunction, SiteShape, importance_functions, kaiming, zeros


@importance_functions.register
class VectorMLPConfig(ImportanceConfig):
    """One MLP per subcomponent on the site's whole input; costs C times a layerwise MLP of the same width."""

    kind: Literal["vector-mlp"] = "vector-mlp"
    hidden: PositiveInt = 8
    """Hidden width of each MLP."""

    def build(self, sites: Mapping[str, SiteShape], generator: torch.Generator) -> ImportanceFunction:
        """Return the function with freshly drawn weights."""
        return VectorMLP(sites, self.hidden, generator)


class _VectorMLPs(nn.Module):
    """C parallel MLPs from the same vector to one number each."""

    def __init__(self, d_in: int, C: int, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.W_in = kaiming((d_in, C, hidden), d_in, generator)
        self.b_in = zeros(C, hidden)
        self.W_out = kaiming((C, hidden), hidden, generator, gain=1.0)
        self.b_out = zeros(C)

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., d_in] to [..., C]."""
        hidden = nn.functional.gelu((x @ self.W_in.flatten(1)).unflatten(-1, self.b_in.shape) + self.b_in)
        return (hidden * self.W_out).sum(-1) + self.b_out


class VectorMLP(ImportanceFunction):
    """Each subcomponent's logit from the site's input."""

    def __init__(self, sites: Mapping[str, SiteShape], hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.paths = list(sites)
        self.mlps = nn.ModuleList([_VectorMLPs(site.d_in, site.C, hidden, generator) for site in sites.values()])

    def forward(self, inputs: Mapping[str, Tensor], activations: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return each site's logits."""
        return {path: mlp(inputs[path]) for path, mlp in zip(self.paths, self.mlps, strict=True)}
