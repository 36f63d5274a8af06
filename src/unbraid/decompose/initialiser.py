"""Where do the subcomponents start? An initialisation fills V and U of every site before training."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Literal

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


class UnitsConfig(InitialisationConfig):
    """The settings of an initialisation that asks on which side of a site its units are."""

    units: Mapping[str, Literal["input", "output"]] = {}
    """Glob over sites → the side of its units: neurons are outputs of the matrix that feeds them and inputs of the one that follows. Where no
    glob matches it is the narrower side, and the output of a square matrix."""

    def reads_units(self, site: DecomposedSite) -> bool:
        """Return whether the units are on the input side of this site."""
        for glob, side in self.units.items():
            if fnmatch.fnmatchcase(site.path, glob):
                return side == "input"
        return site.weight.shape[0] < site.weight.shape[1]


initialisations: Registry[InitialisationConfig] = Registry("initialisation", "unbraid.decompose.initialisation")
