"""Different importance functions for different sites, since one kind of gate does not fit every matrix."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, SerializeAsAny
from torch import Tensor, nn

from unbraid.core.errors import UserError
from unbraid.decompose.importance_function import ImportanceConfig, ImportanceFunction, SiteShape, importance_functions


def _parse_each(value: object) -> Any:
    if not isinstance(value, Mapping):
        raise ValueError("sites is a mapping from globs to importance functions")
    return {glob: importance_functions.parse(function) for glob, function in value.items()}


@importance_functions.register
class PerSiteConfig(ImportanceConfig):
    """A choice of importance function by glob over sites; the first glob that matches counts."""

    kind: Literal["per-site"] = "per-site"
    sites: Annotated[Mapping[str, SerializeAsAny[ImportanceConfig]], BeforeValidator(_parse_each)]
    """Glob over site paths → importance function."""

    def build(self, sites: Mapping[str, SiteShape], generator: torch.Generator) -> ImportanceFunction:
        """Return the functions, each built for the sites it was chosen for.

        Raises:
            UserError: A site is matched by no glob, or a glob chooses no site.
        """
        chosen: dict[str, dict[str, SiteShape]] = {glob: {} for glob in self.sites}
        for path, shape in sites.items():
            glob = next((glob for glob in self.sites if fnmatch.fnmatchcase(path, glob)), None)
            if glob is None:
                raise UserError(f"importance.sites: no glob matches the site {path!r}.", 'Add one, for example "*": {kind: layerwise-mlp}.')
            chosen[glob][path] = shape
        empty = [glob for glob, members in chosen.items() if not members]
        if empty:
            raise UserError(f"importance.sites: the glob {empty[0]!r} chooses no site.", f"Sites: {', '.join(sites)}.")
        return PerSite([self.sites[glob].build(members, generator) for glob, members in chosen.items()])


class PerSite(ImportanceFunction):
    """Several importance functions, side by side."""

    def __init__(self, functions: list[ImportanceFunction]) -> None:
        super().__init__()
        self.functions = nn.ModuleList(functions)

    def forward(self, inputs: Mapping[str, Tensor], activations: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the logits of all sites."""
        logits: dict[str, Tensor] = {}
        for function in self.functions:
            logits |= function(inputs, activations)
        return logits
