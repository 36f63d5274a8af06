"""One MLP for all sites: the concatenated inputs of all of them → the logits of every subcomponent of every site."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from unbraid.core.errors import UserError
from unbraid.decompose.importance_function import MLP, ImportanceConfig, ImportanceFunction, SiteShape, importance_functions


@importance_functions.register
class GlobalMLPConfig(ImportanceConfig):
    """One MLP that sees all sites, since what a subcomponent matters for may depend on the others."""

    kind: Literal["global-mlp"] = "global-mlp"
    hidden: PositiveInt = 200
    """Hidden width."""

    def build(self, sites: Mapping[str, SiteShape], generator: torch.Generator) -> ImportanceFunction:
        """Return the function with freshly drawn weights."""
        return GlobalMLP(sites, self.hidden, generator)


class GlobalMLP(ImportanceFunction):
    """All logits from the concatenation of all sites' inputs."""

    def __init__(self, sites: Mapping[str, SiteShape], hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.paths = list(sites)
        self.sizes = [sites[path].C for path in self.paths]
        d_in = sum(site.d_in for site in sites.values())
        self.mlp = MLP(d_in, hidden, sum(self.sizes), generator)

    def forward(self, inputs: Mapping[str, Tensor], activations: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return each site's logits.

        Raises:
            UserError: The sites see inputs of different leading shapes, so that they cannot be concatenated.
        """
        if len({inputs[path].shape[:-1] for path in self.paths}) > 1:
            raise UserError(
                "The importance function 'global-mlp' needs sites that see the same positions.", "Use importance.kind=layerwise-mlp."
            )
        logits = self.mlp(torch.cat([inputs[path] for path in self.paths], dim=-1))
        return dict(zip(self.paths, logits.split(self.sizes, dim=-1), strict=True))
