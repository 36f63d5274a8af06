"""What do the parts do along one path? Every curve, importance and ablation that is asked of one pair."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from unbraid.stability.distances import Read
from unbraid.stability.exchanged import DecomposedCarrier, Exchanged
from unbraid.stability.explain_config import ExplainConfig
from unbraid.stability.importance_path import flips, gate_signs, jaccard_changes
from unbraid.stability.parts import Parts, draw_alike
from unbraid.stability.sufficiency import KINDS, kept_sets
from unbraid.stability.widths import two_sided, width_of

FLOOR = 1e-4
"""A curve whose ends are nearer to each other than this share of the model's own is rounding, and undefined."""
CHECKED_POINTS = 11
UNTESTED = ("all", "inactive", "Δ")
"""Sets that no random set is like."""
RAGGED = ("parts", "importance", "singles")
"""What has one row or column for each component that is active somewhere on the path, the highest importance first."""


@dataclass(frozen=True)
class Path:
    """One path through a decomposed model.

    Attributes:
        carrier: The prompt, and where the activation is exchanged.
        points: The path, [n, d].
        t: Where its points are, [n].
        read: What is read of the answers.
    """

    carrier: DecomposedCarrier
    points: Float[Tensor, "n d"]
    t: Float[Tensor, " n"]
    read: Read


def measure_pair(path: Path, blocks: Sequence[str], config: ExplainConfig, generator: torch.Generator) -> dict[str, ndarray]:
    """Return the raw arrays of one pair; those of every pair have the same shapes, but for `RAGGED`."""
    run = path.carrier.along(path.points)
    own = run.answers(what=path.read.what)
    active = run.importance > config.threshold
    order = run.importance.amax(0).argsort(descending=True, stable=True)
    ever = order[active.any(0)[order]]
    found = {
        "separation": np.asarray(float(path.read.distance(own[:1], own[-1:])[0])),
        "speed": path.read.distance(own[1:], own[:-1]).cpu().numpy(),
        "jaccard": jaccard_changes(active.cpu().numpy()),
        "active": active.sum(1).cpu().numpy(),
        "parts": ever.cpu().numpy(),
        "importance": run.importance[:, ever].cpu().numpy(),
        "gates": _gate_flips(path),
    }
    found |= _removals(path, run, own, active.any(0), ever, blocks, config, generator)
    return found | _sufficiency(path, run, own, active, generator) | _ablated(path, run.importance, own, active.any(0), config, generator)


def _removals(
    path: Path, run: Exchanged, own: Tensor, active: Tensor, ever: Tensor, blocks: Sequence[str], config: ExplainConfig, generator: torch.Generator
) -> dict[str, ndarray]:
    """Return the curve without each set of parts, without each single active component, and without random parts like them."""
    parts = path.carrier.parts
    whole = float(path.read.distance(own[:1], own[-1:])[0])
    undefined = np.full(len(own), math.nan)

    def curve(removed: Tensor | None) -> ndarray:
        if removed is not None and not bool(removed.any()):
            return undefined
        answers = own if removed is None else run.answers((~removed).float(), path.read.what)
        if not float(path.read.distance(answers[:1], answers[-1:])[0]) > FLOOR * whole:
            return undefined
        return two_sided(answers, answers[0], answers[-1], path.read.distance)

    def null(removed: Tensor, norms: bool, of_group: bool) -> ndarray:
        pool = ~parts.is_delta if of_group else ~parts.is_delta & ~active
        return curve(draw_alike(removed & ~parts.is_delta, pool, parts, norms, not of_group, generator))

    def single(part: Tensor) -> Tensor:
        return torch.arange(parts.count, device=part.device) == part

    sets = removed_sets(parts, active, blocks)
    found = {
        "curves": np.stack([curve(None), *(curve(removed) for removed in sets.values())]),
        "counts": np.asarray([int(removed.sum()) for removed in sets.values()]),
        "singles": np.stack([undefined, *(curve(single(part)) for part in ever[: config.components])])[1:],
    }
    tested = {name: removed for name, removed in sets.items() if name not in UNTESTED}
    sample = ever[torch.randint(max(len(ever), 1), (config.sampled if len(ever) else 0,), generator=generator)]
    for key, norms in (("size", False), ("norm", True)):
        found[f"null_{key}"] = np.stack(
            [[null(removed, norms, name != "active") for _ in range(config.draws)] for name, removed in tested.items()]
        )
        drawn = [null(single(part), norms, False) for part in sample]
        found[f"null_singles_{key}"] = np.stack([*drawn, *[undefined] * (config.sampled - len(drawn) + 1)])
    return found


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


def _gate_flips(path: Path) -> ndarray:
    """Return how many gates of the MLPs and their like change sign at each step; NaN where the model has none that can be seen."""
    carrier = path.carrier
    position = carrier.position if carrier.is_sequence else None

    def run() -> None:
        with carrier.exchanged(path.points):
            carrier.twin(carrier.batch(path.points))

    signs = gate_signs(carrier.twin, run, position)
    return np.full(len(path.t) - 1, math.nan) if signs is None else flips(signs.cpu().numpy()).astype(float)


def _sufficiency(path: Path, run: Exchanged, own: Tensor, active: Tensor, generator: torch.Generator) -> dict[str, ndarray]:
    """Return, under each kind of kept set: the error, the answers' place between the model's own two ends, and the curve between their own ends."""
    distance, what = path.read.distance, path.read.what
    t = path.t.cpu().numpy()
    middle = width_of(t, two_sided(own, own[0], own[-1], distance)).t50
    parts = path.carrier.parts
    chance = [draw_alike(ends, ~parts.is_delta, parts, False, True, generator) for ends in (active[0], active[-1])]
    kept = kept_sets(active, path.t, middle if math.isfinite(middle) else 0.5, (chance[0], chance[1]))
    whole = distance(own[:1], own[-1:])
    error, toward, curve = (np.zeros((len(KINDS), len(t))) for _ in range(3))
    for index, kind in enumerate(KINDS):
        answers = run.answers(kept[kind], what)
        error[index] = (distance(answers, own) / whole).cpu().numpy()
        toward[index] = two_sided(answers, own[0], own[-1], distance)
        curve[index] = two_sided(answers, answers[0], answers[-1], distance)
    return {"kept_error": error, "kept_toward": toward, "kept_curve": curve}


def _ablated(
    path: Path, importance: Tensor, own: Tensor, ever: Tensor, config: ExplainConfig, generator: torch.Generator
) -> dict[str, ndarray]:
    """Return the effect of ablating single components at some points of the path, in units of the distance between its ends, and their importance."""
    carrier, parts = path.carrier, path.carrier.parts
    at = torch.linspace(0, len(path.t) - 1, CHECKED_POINTS).round().long()
    shape = (2 * config.sampled, CHECKED_POINTS)
    effect, learned = np.full(shape, math.nan), np.full(shape, math.nan)
    chosen: list[Tensor] = []
    for pool in (ever, ~ever & ~parts.is_delta):
        members = pool.nonzero()[:, 0]
        chosen.append(members[torch.randperm(len(members), generator=generator)[: config.sampled]])
    picked = torch.cat(chosen)
    if len(picked):
        kept = torch.ones(len(picked), len(at), parts.count)
        kept[torch.arange(len(picked)), :, picked] = 0
        answers = carrier.along(path.points[at].repeat(len(picked), 1)).answers(kept.flatten(0, 1), path.read.what)
        moved = path.read.distance(answers, own[at].repeat(len(picked), 1)) / path.read.distance(own[:1], own[-1:])
        effect[: len(picked)] = moved.view(len(picked), -1).cpu().numpy()
        learned[: len(picked)] = importance[at][:, picked].T.cpu().numpy()
    return {"ablation_effect": effect, "ablation_learned": learned}
