"""What stands for a language model's sites and text where only shapes matter? Sites of a model without weights, tokens without text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor, nn

from unbraid.targets.matrices import weight_of
from unbraid.targets.sites import Site, Tie, match_paths, site_at


@dataclass(frozen=True)
class PaperTokens:
    """Windows of so many tokens, all alike."""

    window: int

    def batch(self, step: int, size: int, generator: torch.Generator) -> Int[Tensor, "batch window"]:
        """Return a batch of the right shape."""
        return torch.zeros((size, self.window), dtype=torch.int64)


def paper_sites(module: nn.Module, patterns: str | Sequence[str]) -> tuple[Site, ...]:
    """Return the sites of a model that globs choose, by their shapes alone.

    Modules that share a parameter are tied, as they are where the weights are there.

    Raises:
        UserError: A glob matches nothing, or something that is no matrix.
    """
    modules = dict(module.named_modules())
    owners: dict[object, tuple[str, tuple[int, ...]]] = {}
    sites: list[Site] = []
    for path in match_paths(module, [patterns] if isinstance(patterns, str) else list(patterns)):
        site = site_at(path, module, modules)
        child = modules[site.module_path]
        stride = weight_of(child).stride()
        owner, other = owners.setdefault((id(child.weight), site.part), (path, stride))
        sites.append(replace(site, tie=None if owner == path else Tie(owner, transposed=stride != other)))
    return tuple(sites)
