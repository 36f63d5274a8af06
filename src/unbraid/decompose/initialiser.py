"""Where do the subcomponents start? An initialisation fills V and U of every site before training."""

from __future__ import annotations

import torch

from unbraid.core.config import Config
from unbraid.core.registry import Registry
from unbraid.decompose.site import DecomposedSite, Factors


class InitialisationConfig(Config):
    """The settings of an initialisation; subclasses register under their `kind`."""

    kind: str

    def fill(self, site: DecomposedSite, factors: Factors, generator: torch.Generator) -> None:
        """Write the starting V and U of one site, in place and without gradient."""
        raise NotImplementedError


initialisations: Registry[InitialisationConfig] = Registry("initialisation", "unbraid.decompose.initialisation")
