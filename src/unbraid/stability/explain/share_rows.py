"""Which shares of the plateau follow from the raw curves? One row per set of parts, one per single component, and what they leave of 1."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy import ndarray

from unbraid.stability.engine.curve import LINEAR_WIDTH
from unbraid.stability.explain.removals import UNTESTED, grouping
from unbraid.stability.explain.shares import Interval, mean_of, null_share, residual, shapley, share, share_above
from unbraid.stability.explain.widths import Width, width_of

ONE = "one active component"


@dataclass(frozen=True)
class Share:
    """What a set of parts builds of the plateau.

    Attributes:
        name: The set.
        parts: How many parts it has, on average over pairs.
        share: Its share.
        size: The share of random components of the same number; None for a set that none is like.
        norm: The same with each of nearly the same norm.
        above_size: By how much the share exceeds that of random sets of its size, paired.
        above_norm: The same with equal norms.
    """

    name: str
    parts: float
    share: Interval
    size: Interval | None = None
    norm: Interval | None = None
    above_size: Interval | None = None
    above_norm: Interval | None = None

    @property
    def beats_null(self) -> bool | None:
        """Whether it builds more than every kind of random set beside it, all intervals being above 0; None where that is not known."""
        above = [value for value in (self.above_size, self.above_norm) if value is not None]
        if not above or min(value.n for value in above) < 2:
            return None
        return all(value.low > 0 for value in above)

    def tree(self) -> dict[str, Any]:
        """Return it as JSON-ready values."""
        intervals = {
            "share": self.share,
            "size": self.size,
            "norm": self.norm,
            "above_size": self.above_size,
            "above_norm": self.above_norm,
        }
        trees = {name: None if value is None else value.tree() for name, value in intervals.items()}
        return {"name": self.name, "parts": self.parts, "beats_null": self.beats_null, **trees}


@dataclass(frozen=True)
class Single:
    """One component.

    Attributes:
        part: Its number in the row of parts.
        share: Its share, over the pairs on which it is active.
    """

    part: int
    share: Interval


@dataclass(frozen=True)
class Shares:
    """The widths that the raw curves have, and the shares that follow.

    Attributes:
        arrays: The raw curves; see `measure_pair`.
        sets: The names of the sets that were removed.
    """

    arrays: Mapping[str, ndarray]
    sets: Sequence[str]

    @property
    def pairs(self) -> int:
        """How many pairs there are."""
        return len(self.arrays["curves"])

    @cached_property
    def widths(self) -> list[Width]:
        """Where each pair's own curve crosses its levels."""
        return [width_of(self.arrays["t"], curve) for curve in self.arrays["curves"][:, 0]]

    @cached_property
    def whole(self) -> ndarray:
        """Each pair's own width, NaN where it has none."""
        return np.asarray([width.value for width in self.widths])

    @property
    def silent(self) -> ndarray:
        """On which pairs the model has one answer throughout when every part is removed."""
        return np.asarray(np.isnan(self.arrays["curves"][:, 1 + self.sets.index("all")]).all(1))

    @cached_property
    def bare(self) -> ndarray:
        """Each pair's width with every part removed; that of a straight line where it is silent then."""
        return np.where(self.silent, LINEAR_WIDTH, self._width(self.arrays["curves"][:, 1 + self.sets.index("all")]))

    @property
    def widening(self) -> Interval:
        """By how much the change widens without any part: what there is to be shared out."""
        return mean_of(self.bare - self.whole)

    @cached_property
    def rows(self) -> tuple[Share, ...]:
        """The share of each set, and of a single active component on average."""
        tested = [name for name in self.sets if name not in UNTESTED]
        found: list[Share] = []
        for index, name in enumerate(self.sets):
            without, parts = self._without(name), float(self.arrays["counts"][:, index].mean())
            if name in UNTESTED:
                found.append(Share(name, parts, share(without, self.whole, self.bare)))
            else:
                nulls = [self._width(self.arrays[key][:, tested.index(name)]) for key in ("null_size", "null_norm")]
                found.append(self._row(name, parts, without, nulls))
            if name == "active":
                nulls = [self._width(self.arrays[key]) for key in ("null_singles_size", "null_singles_norm")]
                means = np.asarray([_mean(widths) for widths in self.single_widths])
                found.append(self._row(ONE, 1.0, means, nulls))
        return tuple(found)

    def _row(self, name: str, parts: float, without: ndarray, nulls: Sequence[ndarray]) -> Share:
        chance = [null_share(null, self.whole, self.bare) for null in nulls]
        above = [share_above(without, null, self.whole, self.bare) for null in nulls]
        return Share(name, parts, share(without, self.whole, self.bare), chance[0], chance[1], above[0], above[1])

    @cached_property
    def single_widths(self) -> list[ndarray]:
        """Per pair, the width without each single component that is active somewhere on the path."""
        return [self._width(self.arrays[f"singles.{pair}"]) for pair in range(self.pairs)]

    @cached_property
    def singles(self) -> tuple[Single, ...]:
        """Every component that was removed alone, the largest widening over all pairs first."""
        widenings: dict[int, ndarray] = {}
        for pair, widths in enumerate(self.single_widths):
            for part, width in zip(self.arrays[f"parts.{pair}"], widths, strict=False):
                widenings.setdefault(int(part), np.full(self.pairs, math.nan))[pair] = width
        order = sorted(widenings, key=lambda part: -float(np.nansum(widenings[part] - self.whole)))
        return tuple(Single(part, share(widenings[part], self.whole, self.bare)) for part in order)

    @cached_property
    def fair(self) -> tuple[Share, ...]:
        """The share of each group where a group's widening is averaged over the orders of removal, which add up to 1; and of a random one of its size."""
        names = grouping(self.sets)
        if not names:
            return ()
        own, null = (self._width(self.arrays[key]) for key in ("subsets", "null_subsets"))
        own[:, -1], null[:, -1] = self.bare, self.bare
        widened, chance = shapley(own), shapley(null)
        found: list[Share] = []
        for index, name in enumerate(names):
            without, drawn = self.whole + widened[:, index], (self.whole + chance[:, index])[:, None]
            size, above = null_share(drawn, self.whole, self.bare), share_above(without, drawn, self.whole, self.bare)
            parts = float(self.arrays["counts"][:, self.sets.index(name)].mean())
            found.append(Share(name, parts, share(without, self.whole, self.bare), size, None, above))
        return tuple(found)

    @cached_property
    def residuals(self) -> dict[str, Interval]:
        """Per way of dividing the parts: what the shares leave of 1. Ways with a single set are left out."""
        found: dict[str, Interval] = {}
        for kind in ("block", "module", "site"):
            names = [name for name in self.sets if name.startswith(f"{kind} ")]
            if names:
                found[f"{kind}s"] = self._left(np.stack([self._without(name) for name in names], 1))
        thirds = np.stack([self._without(name) for name in ("active", "inactive", "Δ")], 1)
        found["active, inactive, Δ"] = self._left(thirds)
        # Each active component alone; a pair on which some were not removed or have no width is left out.
        alone = np.asarray(
            [
                (widths - whole).sum() if len(widths) == len(self.arrays[f"parts.{pair}"]) else math.nan
                for pair, (widths, whole) in enumerate(zip(self.single_widths, self.whole, strict=True))
            ]
        )
        found["single active components, inactive, Δ"] = self._left(np.column_stack([alone + self.whole, thirds[:, 1:]]))
        return found

    def _left(self, without: ndarray) -> Interval:
        return residual(without, self.whole, self.bare)

    def _without(self, name: str) -> ndarray:
        """Return each pair's width without a set; as before where the set is empty."""
        index = self.sets.index(name)
        if name == "all":
            return self.bare
        return np.where(self.arrays["counts"][:, index] == 0, self.whole, self._width(self.arrays["curves"][:, 1 + index]))

    def _width(self, curves: ndarray) -> ndarray:
        """Return the width of curves [..., n]."""
        flat = curves.reshape(-1, curves.shape[-1])
        return np.asarray([width_of(self.arrays["t"], curve).value for curve in flat]).reshape(curves.shape[:-1])


def _mean(values: ndarray) -> float:
    seen = values[np.isfinite(values)]
    return float(seen.mean()) if len(seen) else math.nan
