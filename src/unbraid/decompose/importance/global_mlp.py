"""One MLP for all sites: the concatenated inputs of all of them → the logits of every subcomponent of every site."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from unbraid.core.errors import UserError
from unbraid.decompose.importance_function import MLP, ImportanceConfig, ImportanceFunction, importance_functions
from unbraid.decompose.model import DecomposedModel


@importance_functions.register
class GlobalMLPConfig(ImportanceConfig):
    """One MLP that sees all sites, since what a subcomponent matters for may depend on the others."""

    kind: Literal["global-mlp"] = "global-mlp"
    hidden: PositiveInt = 200
    """Hidden width."""

    def build(self, model: DecomposedModel, generator: torch.Generator) -> ImportanceFunction:
        """Return the function with freshly drawn weights."""
        return GlobalMLP(model, self.hidden, generator)


class GlobalMLP(ImportanceFunction):
    """All logits from the concatenation of all sites' inputs."""

    def __init__(self, model: DecomposedModel, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.paths = list(model.sites)
        self.sizes = [model.C[path] for path in self.paths]
        d_in = sum(site.weight.shape[0] for site in model.sites.values())
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
