"""Do two decompositions have the same parts? Each alive subcomponent beside the one of the other run that is most like it.

Asked of runs that differ in their seed it says how stable the parts are; of runs that differ in C, whether there are as many as before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from unbraid.core.errors import UserError
from unbraid.core.seeds import Streams
from unbraid.decompose.result import Decomposition


@dataclass(frozen=True)
class SiteLikeness:
    """How alike the alive subcomponents of one site are in two runs; each number is a mean over both directions.

    Attributes:
        path: The site.
        C: Subcomponents in each run.
        alive: How many of them are alive.
        reads: Mean largest |cosine| of V.
        writes: Mean largest |cosine| of U.
        pieces: Mean largest cosine of the rank-one matrices V Uᵀ.
        chance: `pieces` when one run's space is turned at random: what two unrelated runs of these sizes would have.
    """

    path: str
    C: tuple[int, int]
    alive: tuple[int, int]
    reads: float
    writes: float
    pieces: float
    chance: float


@dataclass(frozen=True)
class Likeness:
    """The sites of two runs side by side."""

    names: tuple[str, str]
    sites: tuple[SiteLikeness, ...]

    def mean(self, what: str) -> float:
        """Return a score over all alive subcomponents of both runs, or NaN where nothing is alive."""
        counts = [sum(site.alive) for site in self.sites]
        pairs = [(count, getattr(site, what)) for count, site in zip(counts, self.sites, strict=True) if count]
        return sum(count * value for count, value in pairs) / sum(count for count, _ in pairs) if pairs else float("nan")

    def tree(self) -> dict[str, Any]:
        """Return everything as JSON-ready values."""
        total = {name: self.mean(name) for name in ("reads", "writes", "pieces", "chance")}
        total |= {"alive": [sum(site.alive[run] for site in self.sites) for run in (0, 1)]}
        return {"runs": list(self.names), "total": total, "sites": [vars(site) for site in self.sites]}

    def summary(self) -> Table:
        """Return one row per site and one for all of them."""
        table = Table(title=f"{self.names[0]} and {self.names[1]}", title_justify="left")
        for name in ("site", "C", "alive", "V", "U", "V U", "by chance"):
            table.add_column(name, justify="left" if name == "site" else "right")
        for site in self.sites:
            scores = (site.reads, site.writes, site.pieces, site.chance)
            table.add_row(site.path, _pair(site.C), _pair(site.alive), *(f"{score:.2f}" for score in scores))
        sums = [tuple(sum(getattr(site, name)[run] for site in self.sites) for run in (0, 1)) for name in ("C", "alive")]
        means = (f"{self.mean(name):.2f}" for name in ("reads", "writes", "pieces", "chance"))
        table.add_section()
        table.add_row("all", *(_pair((first, second)) for first, second in sums), *means)
        return table


def likeness(first: Decomposition, second: Decomposition, batches: int = 10) -> Likeness:
    """Compare the alive subcomponents of two decompositions of the same weights.

    Args:
        first: One run.
        second: Another one, with another seed, C or recipe.
        batches: Fresh batches from which each run's alive ones are counted.

    Raises:
        UserError: They decompose other weights or have no site in common.
    """
    if first.target.fingerprint() != second.target.fingerprint():
        raise UserError("The two runs decompose different weights.", "Compare runs of one model.")
    paths = [path for path in first.model.sites if path in second.model.sites]
    if not paths:
        raise UserError("The two runs have no site in common.", "Compare runs that decompose the same matrices.")
    alive = [run.alive(batches) for run in (first, second)]
    generator = Streams(first.config.seed)["likeness"]
    sites: list[SiteLikeness] = []
    for path in paths:
        factors = [_alive_factors(run, path, kept[path]) for run, kept in zip((first, second), alive, strict=True)]
        (V, U), (other_V, other_U) = factors
        turned = other_V.T @ _rotation(V.shape[0], generator), other_U @ _rotation(U.shape[1], generator)
        sites.append(
            SiteLikeness(
                path,
                (first.model.C[path], second.model.C[path]),
                (V.shape[1], other_V.shape[1]),
                best_match(cosines(V.T, other_V.T).abs()),
                best_match(cosines(U, other_U).abs()),
                best_match(cosines(V.T, other_V.T) * cosines(U, other_U)),
                best_match(cosines(V.T, turned[0]) * cosines(U, turned[1])),
            )
        )
    return Likeness((first.name, second.name), tuple(sites))


def cosines(first: Float[Tensor, "n d"], second: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """Return the cosine of every pair of rows."""
    return F.normalize(first, dim=1) @ F.normalize(second, dim=1).T


def best_match(alike: Float[Tensor, "n m"]) -> float:
    """Return the mean largest entry of the rows and of the columns, each row and column counting once; NaN without any."""
    if not alike.numel():
        return float("nan")
    return float(torch.cat([alike.amax(1), alike.amax(0)]).mean())


def compare_all(runs: Sequence[Decomposition]) -> list[Likeness]:
    """Compare every two of several runs."""
    return [likeness(first, second) for index, first in enumerate(runs) for second in runs[index + 1 :]]


def _alive_factors(run: Decomposition, path: str, alive: Bool[Tensor, " C"]) -> tuple[Tensor, Tensor]:
    V, U = (factor.detach().cpu() for factor in run.model.sites[path].factors.views())
    return V[:, alive.cpu()], U[alive.cpu()]


def _rotation(d: int, generator: torch.Generator) -> Float[Tensor, "d d"]:
    return torch.linalg.qr(torch.randn(d, d, generator=generator)).Q


def _pair(values: tuple[int, ...]) -> str:
    return str(values[0]) if len(set(values)) == 1 else ", ".join(map(str, values))
