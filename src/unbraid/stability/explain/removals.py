"""How does the answer change along a path when parts are removed from the model? Sets of parts, single ones, and random ones like them.

The parts are removed along the whole path, its ends too, so that the answers there are those of the same smaller model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

from unbraid.stability.engine.distances import Read
from unbraid.stability.explain.config import ExplainConfig
from unbraid.stability.explain.exchanged import DecomposedCarrier, Exchanged
from unbraid.stability.explain.parts import Parts, draw_alike
from unbraid.stability.explain.widths import two_sided

FLOOR = 1e-4
"""A curve whose ends are nearer to each other than this share of the model's own is rounding, and undefined."""
UNTESTED = ("all", "inactive", "Δ")
"""Sets that no random set is like."""
MOST_GROUPS = 5
"""Up to so many groups are removed in every combination."""


@dataclass(frozen=True)
class Path:
    """One path through a decomposed model.

    Attributes:
        carrier: The prompt, and where the activation is exchanged.
        points: The path.
        t: Where its points are.
        read: What is read of the answers.
    """

    carrier: DecomposedCarrier
    points: Float[Tensor, "n d"]
    t: Float[Tensor, " n"]
    read: Read


@dataclass(frozen=True)
class Removals:
    """A path and what is known of it before anything is removed.

    Attributes:
        path: The path.
        run: The passes with its points in place.
        own: The model's own answers.
        active: Which components are active somewhere on it.
        ever: Their numbers, the highest importance first.
    """

    path: Path
    run: Exchanged
    own: Float[Tensor, "n k"]
    active: Bool[Tensor, " parts"]
    ever: Int[Tensor, " _"]

    def measure(self, blocks: Sequence[str], config: ExplainConfig, generator: torch.Generator) -> dict[str, ndarray]:
        """Return the curves, NaN where nothing was removed or the model has one answer throughout.

        `curves` [1 + sets, n], the first without any removal; `null_size` and `null_norm` [tested sets, draws, n]; `singles` [active components, n];
        `null_singles_…` [sampled, n]; `subsets` and `null_subsets` [2 ** groups, n] for the groups of `grouping` and a random division like theirs.
        """
        parts = self.path.carrier.parts
        sets = removed_sets(parts, self.active, blocks)
        tested = {name: removed for name, removed in sets.items() if name not in UNTESTED}
        sample = self.ever[torch.randint(max(len(self.ever), 1), (config.sampled if len(self.ever) else 0,), generator=generator)]
        found = {
            "curves": np.stack([self.curve(None), *(self.curve(removed) for removed in sets.values())]),
            "counts": np.asarray([int(removed.sum()) for removed in sets.values()]),
            "singles": np.stack([self._undefined, *(self.curve(self._single(part)) for part in self.ever[: config.components])])[1:],
        }
        for key, norms in (("size", False), ("norm", True)):
            draws = [
                [self._null(removed, norms, name != "active", generator) for _ in range(config.draws)] for name, removed in tested.items()
            ]
            drawn = [self._null(self._single(part), norms, False, generator) for part in sample]
            found[f"null_{key}"] = np.stack(draws)
            # One row more than asked for, which is empty: none may have been asked for.
            found[f"null_singles_{key}"] = np.stack([*drawn, *[self._undefined] * (config.sampled - len(drawn) + 1)])
        groups = [sets[name] for name in grouping(list(sets))]
        shuffled = torch.randperm(parts.count, generator=generator)
        found["subsets"] = self._subsets(groups)
        found["null_subsets"] = self._subsets([group[shuffled] for group in groups])
        return found

    def curve(self, removed: Bool[Tensor, " parts"] | None) -> Float[ndarray, " n"]:
        """Return the two-sided distance along the path without some parts, between the ends' own answers without them."""
        if removed is not None and not bool(removed.any()):
            return self._undefined
        distance, what = self.path.read.distance, self.path.read.what
        answers = self.own if removed is None else self.run.answers((~removed).float(), what)
        if not float(distance(answers[:1], answers[-1:])[0]) > FLOOR * float(distance(self.own[:1], self.own[-1:])[0]):
            return self._undefined
        return two_sided(answers, answers[0], answers[-1], distance)

    @property
    def _undefined(self) -> ndarray:
        return np.full(len(self.own), math.nan)

    def _null(self, removed: Tensor, norms: bool, of_group: bool, generator: torch.Generator) -> ndarray:
        """Return the curve without random parts: of a group, any components; of active components, inactive ones of the same sites."""
        parts = self.path.carrier.parts
        pool = ~parts.is_delta if of_group else ~parts.is_delta & ~self.active
        return self.curve(draw_alike(removed & ~parts.is_delta, pool, parts, norms, not of_group, generator))

    def _single(self, part: Tensor) -> Tensor:
        return torch.arange(len(self.active), device=part.device) == part

    def _subsets(self, groups: Sequence[Tensor]) -> ndarray:
        """Return the curve without every combination of groups; bit i of the row's number says whether group i is removed."""
        rows = [self.curve(None)]
        for number in range(1, 2 ** len(groups)):
            rows.append(self.curve(torch.stack([group for index, group in enumerate(groups) if number >> index & 1]).any(0)))
        return np.stack(rows)


def removed_sets(parts: Parts, active: Bool[Tensor, " parts"], blocks: Sequence[str]) -> dict[str, Bool[Tensor, " parts"]]:
    """Return the sets of parts that are removed along the whole path.

    Everything; the components that are active somewhere on the path, those that never are, and Δ; and all parts, Δ too, of each site, of each
    module that has several sites (an attention, an MLP) and of each block, where more than one comes after the place.
    """
    sets = {"all": torch.ones_like(active), "active": active, "inactive": ~active & ~parts.is_delta, "Δ": parts.is_delta}
    modules = list(dict.fromkeys(path.rpartition(".")[0] for path in parts.sites))
    for kind, owners in (("block", blocks), ("module", modules), ("site", parts.sites)):
        members = {owner: [path for path in parts.sites if path == owner or path.startswith(f"{owner}.")] for owner in owners}
        members = {owner: paths for owner, paths in members.items() if paths}
        # A module with one site is that site; and a single one of a kind is everything.
        if len(members) > 1 and (kind == "site" or len(members) < len(parts.sites)):
            sets |= {f"{kind} {owner}": torch.stack([parts.of_site(path) for path in paths]).any(0) for owner, paths in members.items()}
    return sets


def grouping(sets: Sequence[str]) -> list[str]:
    """Return the sets that are removed in every combination: the modules, or the sites or blocks, where they are few enough."""
    for kind in ("module", "site", "block"):
        names = [name for name in sets if name.startswith(f"{kind} ")]
        if 2 <= len(names) <= MOST_GROUPS:
            return names
    return []
