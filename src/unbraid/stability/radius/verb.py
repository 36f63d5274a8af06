"""The verb: how far can an activation move, in which directions, before the answer changes?"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from jaxtyping import Float, Shaped
from numpy import ndarray
from torch import Tensor

from unbraid.core.errors import UserError
from unbraid.core.seeds import Streams
from unbraid.stability.engine.distances import Read, read_named
from unbraid.stability.engine.places import Place, default_place, place_named
from unbraid.stability.engine.prompts import draw_prompts, inputs_of
from unbraid.stability.engine.untrained import untrained
from unbraid.stability.radius.config import RadiusConfig
from unbraid.stability.radius.directions import NULL, Family, families
from unbraid.stability.radius.exponent import UNDEFINED, mixture_exponent, plane_exponent
from unbraid.stability.radius.gain import relative_changes, stages_of
from unbraid.stability.radius.inradius import fisher_radius, inradius
from unbraid.stability.radius.probe import Anchors, Probe, Threshold, gather
from unbraid.stability.radius.radii import crossings, normals
from unbraid.stability.radius.rays import Rays
from unbraid.stability.radius.read_directions import read_directions
from unbraid.stability.radius.result import RadiusResult
from unbraid.stability.radius.thickness import thicknesses
from unbraid.stability.radius.units import UNITS, Unit, one_feature_more
from unbraid.targets.target import Target

Report = Callable[[str], None]
QUARTER_TURN = 90.0
_ALIKE: dict[Unit, str] = {
    "feature": "One feature more changes no answer of this model",
    "answers": "Two real inputs of this model are answered alike",
}
STARTS = 6
"""So many of the rays that crossed soonest are turned downhill to find the nearest boundary."""


def radius(target: Target, config: RadiusConfig | None = None, report: Report = lambda text: None) -> RadiusResult:
    """Measure how far real activations can move along families of directions before the answer changes.

    Args:
        target: The model, with the inputs that activations come from.
        config: The settings; see `RadiusConfig`.
        report: Told how far it is.

    Raises:
        UserError: A name is unknown, directions cannot be had, or there is too little text.
    """
    config = config or RadiusConfig()
    place = default_place(target.module) if config.site is None else place_named(target.module, config.site)
    config = config.model_copy(update={"inputs": inputs_of(target, config.inputs)})
    prompts = draw_prompts(target, config.anchors + config.pool, config.context, config.seed, config.inputs)
    found = _Study(target, place, prompts, config, target.module, report).result()
    if not config.untrained:
        return found
    try:
        fresh = untrained(target.module, config.seed)
    except UserError as error:
        return found.beside(None, str(error))
    lean = {"directions": ("random", NULL), "inradius_steps": 0, "planes": 0, "mixtures": (), "untrained": False}
    plain = RadiusConfig.parse({**config.tree(), **lean})
    try:
        return found.beside(_Study(target, place, prompts, plain, fresh, lambda text: report(f"untrained model, {text}")).result(), None)
    except UserError as error:
        return found.beside(None, str(error))


class _Study:
    """One model, measured at every anchor."""

    def __init__(
        self, target: Target, place: Place, prompts: Shaped[Tensor, "n _"], config: RadiusConfig, module: torch.nn.Module, report: Report
    ) -> None:
        self.target, self.place, self.config, self.report = target, place, config, report
        is_text = not prompts.is_floating_point()
        self.read = read_named(config.read)
        reads = [self.read, *([read_named("distribution")] if is_text else [])]
        self.anchors: Anchors = gather(module, prompts, config.anchors, place, list({read.what: None for read in reads}), report)
        self.turns = is_text if config.rays_are is None else config.rays_are == "turns"
        spans = self.anchors.pair_spans(self.turns)
        self.span = float(spans.median())
        self.furthest = config.furthest or (QUARTER_TURN if self.turns else 2 * self.span)
        self.tolerance = config.tolerance if self.turns else config.tolerance / QUARTER_TURN * self.furthest
        self.units = self._units(module, prompts)
        self.thresholds = _thresholds(self.units, config, self.read, is_text)
        self.families = families(config.directions, self.anchors.pool, lambda name: read_directions(name, target, place, prompts[0]))
        self.stages = stages_of(self.anchors.carriers[0])

    def _units(self, module: torch.nn.Module, prompts: Shaped[Tensor, "n _"]) -> dict[Unit, float]:
        """Return how far apart answers are that differ, in every unit that this target has; the one that counts first.

        Raises:
            UserError: The unit that was asked for is of planted features, and there are none; or answers do not differ by it.
        """
        asked = self.config.unit
        found: dict[Unit, Tensor] = {}
        truth = self.target.truth
        if truth is not None and truth.one_hot is not None:
            more = one_feature_more(prompts, truth.one_hot.to(prompts.dtype), Streams(self.config.seed)["one feature more"])
            answers = gather(module, more, 0, self.place, [self.read.what]).answers[self.read.what]
            found["feature"] = self.read.distance(self.anchors.answers[self.read.what], answers)
        elif asked == "feature":
            raise UserError(f"No features are planted in the inputs of {self.target.name!r}.", 'Count in "answers", or leave the unit out.')
        found["answers"] = self.anchors.pair_distances(self.read.what, self.read.distance)
        sizes: dict[Unit, float] = {unit: float(distances.median()) for unit, distances in found.items()}
        first = asked or next(iter(sizes))
        if not sizes[first] > 0:
            raise UserError(f"{_ALIKE[first]} ({self.read.title}).", "Read something else, or ask for more anchors.")
        return {first: sizes[first], **{unit: size for unit, size in sizes.items() if size > 0}}

    def result(self) -> RadiusResult:
        """Measure everything."""
        kept: dict[str, list[ndarray]] = {}
        floors: list[float] = []
        for index in range(len(self.anchors.carriers)):
            self.report(f"anchor {index + 1} of {len(self.anchors.carriers)}")
            probe = Probe(self.anchors.carriers[index], self.thresholds)
            floors.append(probe.floor())
            for name, values in self._anchor(index, probe).items():
                kept.setdefault(name, []).append(values)
        arrays = {name: np.stack(values) for name, values in kept.items()}
        arrays |= self._planes()
        return RadiusResult(
            target=self.target.name,
            config=self.config,
            place=str(self.place),
            turns=self.turns,
            furthest=self.furthest,
            span=self.span,
            units=dict(self.units),
            thresholds=tuple((t.name, t.tau, t.read.title) for t in self.thresholds),
            families=tuple(family.name for family in self.families),
            nulls={family.name: family.null for family in self.families if family.null is not None},
            stages=tuple(self.stages),
            floor=max(floors),
            arrays=arrays,
        )

    def _anchor(self, index: int, probe: Probe) -> dict[str, ndarray]:
        """Return what one anchor shows, by name: arrays that begin with [families, rays]."""
        groups = [self._drawn(family, self.config.rays, f"rays {index}") for family in self.families]
        rays = Rays.towards(probe.carrier.anchor, torch.cat(groups), self.turns)
        with torch.no_grad():
            crossed = crossings(probe.progress, rays, self.furthest, self.config.grid, self.tolerance)
        main = crossed.radii[:, 0]
        normal = torch.full_like(rays.directions, torch.nan)
        there = main.isfinite().nonzero()[:, 0]
        if len(there):
            normal[there] = normals(probe.progress, rays.points(there, main[there]))
        sizes = [len(group) for group in groups]
        found = {"radii": crossed.radii, "halfway": crossed.halfway, "normals": normal, "directions": rays.directions}
        arrays = {name: _by_family(values, sizes, self.config.rays) for name, values in found.items()}
        arrays |= self._thick(probe, rays, main, sizes)
        if self.config.inradius_steps:
            arrays["nearest"] = self._nearest(probe, rays, crossed.radii)
        if self.config.mixtures:
            arrays["mixtures"] = self._mixtures(index, probe)
        return arrays

    def _drawn(self, family: Family, count: int, purpose: str) -> Float[Tensor, "k d"]:
        """Draw directions; each family, anchor and purpose has a stream of its own, so that adding one never shifts another."""
        generator = Streams(self.config.seed)[f"directions {family.name} {purpose}"]
        return family.draw(count, generator)

    def _thick(self, probe: Probe, rays: Rays, radii: Float[Tensor, " n"], sizes: list[int]) -> dict[str, ndarray]:
        """Return the thickness of the boundary, and relative changes after each block, on the first few rays of each family."""
        count = min(self.config.thickness_rays, self.config.rays)
        if not count:
            return {}
        starts = np.cumsum([0, *sizes[:-1]])
        chosen = torch.tensor([start + i for start, size in zip(starts, sizes, strict=True) for i in range(min(count, size))])
        few = Rays(rays.anchor, rays.directions[chosen], self.turns)
        with torch.no_grad():
            thick = thicknesses(probe.response(self.read), self.read.distance, few, radii[chosen], self.furthest)
        changes = relative_changes(probe.carrier, few, self.config.gain_at * self.furthest, self.stages)
        few_sizes = [min(count, size) for size in sizes]
        return {"thickness": _by_family(thick, few_sizes, count), "changes": _by_family(changes, few_sizes, count)}

    def _nearest(self, probe: Probe, rays: Rays, radii: Float[Tensor, "n thresholds"]) -> Float[ndarray, "thresholds 2"]:
        """Return the smallest radius that was found and the Fisher radius, for each threshold."""
        rows: list[list[float]] = []
        for number, threshold in enumerate(self.thresholds):
            own = Probe(probe.carrier, [threshold])
            predicted, steepest = fisher_radius(*_swap(own, threshold), self.turns)
            soonest = radii[:, number].argsort()[:STARTS]
            starts = Rays.towards(rays.anchor, torch.cat([rays.directions[soonest], steepest[None], -steepest[None]]), self.turns)
            with torch.no_grad():
                begin = crossings(own.progress, starts, self.furthest, self.config.grid, self.tolerance).radii[:, 0]
            rows.append([inradius(own.progress, starts, begin, self.tolerance, self.config.inradius_steps)[0], predicted])
        return np.array(rows)

    def _mixtures(self, index: int, probe: Probe) -> Float[ndarray, "families sizes"]:
        drift = probe.distance(self.read)
        rows: list[list[float]] = []
        for family in self.families:
            row: list[float] = []
            for n in self.config.mixtures:
                parts = self._drawn(family, n, f"mixture {index} {n}")
                enough = len(parts) == n
                exponent = mixture_exponent(drift, probe.carrier.anchor, parts, self.turns, self.furthest) if enough else np.nan
                row.append(exponent)
            rows.append(row)
        return np.array(rows)

    def _planes(self) -> dict[str, Float[ndarray, "families planes facts"]]:
        """Return the exponents of planes, whose anchors are taken in turn."""
        if not self.config.planes:
            return {}
        rows: list[list[list[float]]] = [[] for _ in self.families]
        level = self.thresholds[0].tau if self.config.planes_at == "threshold" else None
        for index in range(self.config.planes):
            self.report(f"plane {index + 1} of {self.config.planes}")
            carrier = self.anchors.carriers[index % len(self.anchors.carriers)]
            drift = Probe(carrier, self.thresholds).distance(self.read)
            for row, family in zip(rows, self.families, strict=True):
                pair = self._pair(family, index)
                fit = UNDEFINED if pair is None else plane_exponent(drift, carrier.anchor, pair, self.turns, self.furthest, level=level)
                row.append(fit.row())
        return {"planes": np.array(rows)}

    def _pair(self, family: Family, index: int) -> Float[Tensor, "2 d"] | None:
        """Return two directions for a plane; None where the family has only one."""
        if family.size is None:
            return self._drawn(family, 2, f"plane {index}")
        every = self._drawn(family, family.size, f"plane {index}")  # principal axes come in their order, so that two of all are chosen
        order = torch.randperm(len(every), generator=Streams(self.config.seed)[f"pair {family.name} {index}"])
        return every[order[:2]] if len(every) > 1 else None


def _swap(probe: Probe, threshold: Threshold) -> tuple[Callable[[Tensor], Tensor], Tensor, float]:
    """Return what `fisher_radius` takes first."""
    coordinates, reach = probe.coordinates(threshold)
    return coordinates, probe.carrier.anchor, reach


def _thresholds(units: Mapping[Unit, float], config: RadiusConfig, read: Read, is_text: bool) -> list[Threshold]:
    """Return what counts as another answer: the share of every unit, and bits for text."""
    found = [Threshold(f"{config.share:g} × {UNITS[unit]}", read, config.share * size) for unit, size in units.items()]
    if is_text:
        found.append(Threshold(f"{config.bits:g} bits of JSD", read_named("distribution"), config.bits**0.5))
    return found


def _by_family(values: Tensor, sizes: list[int], count: int) -> ndarray:
    """Return rows of several families as [families, count, …], with NaN where a family has fewer."""
    found = np.full((len(sizes), count, *values.shape[1:]), np.nan)
    start = 0
    for row, size in zip(found, sizes, strict=True):
        row[:size] = values[start : start + size].numpy()
        start += size
    return found if values.dtype == torch.float64 else found.astype(np.float32)
