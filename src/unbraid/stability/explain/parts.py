"""Which parts does a model have after an activation, and which other parts are alike? Subcomponents and Δ of several sites in one row.

A set of parts is a row of booleans over all sites: the subcomponents of the first site, its Δ, those of the second site, and so on.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unbraid.decompose.model import DecomposedModel

NEAREST = 5
"""From so many parts of the nearest norm one is drawn in the place of another."""


@dataclass(frozen=True)
class Parts:
    """The parts of some sites in one row.

    Attributes:
        sites: The sites' paths, in the order in which the model runs them.
        sizes: Subcomponents of each.
        norms: Frobenius norm of each part, [parts]: `‖V_c‖ ‖U_c‖` for a subcomponent.
    """

    sites: tuple[str, ...]
    sizes: tuple[int, ...]
    norms: Float[Tensor, " parts"]

    @classmethod
    def of(cls, model: DecomposedModel, sites: tuple[str, ...]) -> Parts:
        """Return the parts of these sites of a model."""
        norms: list[Tensor] = []
        with torch.no_grad():
            for path in sites:
                V, U = model.sites[path].factors.views()
                norms += [V.norm(dim=0) * U.norm(dim=1), model.sites[path].delta().norm()[None]]
        return cls(sites, tuple(model.C[path] for path in sites), torch.cat(norms))

    @property
    def count(self) -> int:
        """How many parts there are, each site's Δ being one."""
        return sum(self.sizes) + len(self.sizes)

    @property
    def is_delta(self) -> Bool[Tensor, " parts"]:
        """Which of them are no subcomponent but what the subcomponents leave of a matrix."""
        return torch.cat([torch.arange(size + 1, device=self.norms.device) == size for size in self.sizes])

    @cached_property
    def site_of(self) -> tuple[int, ...]:
        """The number of each part's site."""
        return tuple(index for index, size in enumerate(self.sizes) for _ in range(size + 1))

    def of_site(self, path: str) -> Bool[Tensor, " parts"]:
        """Return the set of all parts of one site."""
        return torch.tensor(self.site_of, device=self.norms.device) == self.sites.index(path)

    def joined(self, values: Mapping[str, Float[Tensor, "*lead _"]]) -> Float[Tensor, "*lead parts"]:
        """Put numbers per subcomponent into one row; Δ has 0, as its importance is."""
        rows: list[Tensor] = []
        for path in self.sites:
            rows += [values[path], torch.zeros_like(values[path][..., :1])]
        return torch.cat(rows, dim=-1)

    def split(self, row: Float[Tensor, "*lead parts"]) -> dict[str, tuple[Float[Tensor, "*lead _"], Float[Tensor, "*lead"]]]:
        """Take a row apart: site → the numbers of its subcomponents, and that of Δ."""
        pieces = row.split([size + 1 for size in self.sizes], dim=-1)
        return {path: (piece[..., :-1], piece[..., -1]) for path, piece in zip(self.sites, pieces, strict=True)}

    def name(self, index: int) -> str:
        """Return how reports call a part: its site and its number there."""
        site = self.site_of[index]
        first = sum(self.sizes[:site]) + site
        return f"{self.sites[site]} {'Δ' if index - first == self.sizes[site] else index - first}"


def draw_alike(
    chosen: Bool[Tensor, " parts"], pool: Bool[Tensor, " parts"], parts: Parts, norms: bool, same_site: bool, generator: torch.Generator
) -> Bool[Tensor, " parts"]:
    """Draw a set of as many parts as `chosen` has, the null for what such a set does.

    Args:
        chosen: The set that it is compared with.
        pool: What may be drawn. Where it has too few, all of it is taken: the set is then smaller.
        parts: What they are.
        norms: Whether each member is replaced by one of the nearest norm.
        same_site: Whether each member is replaced by one of its own site.
        generator: Decides.
    """
    drawn = torch.zeros_like(chosen)
    sites = torch.tensor(parts.site_of if same_site else [0] * parts.count, device=chosen.device)
    for site in sites[chosen].unique():
        members, able = ((which & (sites == site)).nonzero()[:, 0] for which in (chosen, pool))
        if norms:
            picked = _nearest(parts.norms[members].tolist(), parts.norms[able].tolist(), generator)
        else:
            picked = torch.randperm(len(able), generator=generator)[: len(members)].tolist()
        drawn[able[picked]] = True
    return drawn


def _nearest(wanted: list[float], there: list[float], generator: torch.Generator) -> list[int]:
    """Return for each wanted number, in random order, one of the nearest that are left; fewer where they run out."""
    left = sorted((value, index) for index, value in enumerate(there))
    choices = torch.randint(NEAREST, (len(wanted),), generator=generator).tolist()
    picked: list[int] = []
    for member, choice in zip(torch.randperm(len(wanted), generator=generator).tolist(), choices, strict=True):
        value = wanted[member]
        at = bisect(left, (value, 0))
        first = max(at - NEAREST, 0)
        near = sorted(range(first, min(at + NEAREST, len(left))), key=lambda place: abs(left[place][0] - value))[:NEAREST]
        if near:
            picked.append(left.pop(near[choice % len(near)])[1])
    return picked
