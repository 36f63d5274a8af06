"""One MLP per site, from the whole input of the site to the logits of all its subcomponents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from unbraid.decompose.importance_function import MLP, ImportanceConfig, ImportanceFunction, SiteShape, importance_functions


@importance_functions.register
class LayerwiseMLPConfig(ImportanceConfig):
    """One MLP per site (the "shared MLP" of the published code)."""

    kind: Literal["layerwise-mlp"] = "layerwise-mlp"
    hidden: PositiveInt = 64
    """Hidden width."""

    def build(self, sites: Mapping[str, SiteShape], generator: torch.Generator) -> ImportanceFunction:
        """Return the function with freshly drawn weights."""
        return LayerwiseMLP(sites, self.hidden, generator)


class LayerwiseMLP(ImportanceFunction):
    """Each site's logits from that site's input alone."""

    def __init__(self, sites: Mapping[str, SiteShape], hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.paths = list(sites)
        self.mlps = nn.ModuleList([MLP(site.d_in, hidden, site.C, generator) for site in sites.values()])

    def forward(self, inputs: Mapping[str, Tensor], activations: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return each site's logits."""
        return {path: mlp(inputs[path]) for path, mlp in zip(self.paths, self.mlps, strict=True)}
