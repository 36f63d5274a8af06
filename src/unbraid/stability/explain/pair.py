"""What do the parts do along one path? Every curve, importance and ablation that is asked of one pair."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from unbraid.stability.explain.config import ExplainConfig
from unbraid.stability.explain.exchanged import Exchanged
from unbraid.stability.explain.importance_path import flips, gate_signs, jaccard_changes
from unbraid.stability.explain.parts import draw_alike
from unbraid.stability.explain.removals import Path, Removals
from unbraid.stability.explain.sufficiency import KINDS, kept_sets
from unbraid.stability.explain.widths import two_sided, width_of

CHECKED_POINTS = 11
RAGGED = ("parts", "importance", "singles")
"""What has one row or column for each component that is active somewhere on the path, the highest importance first."""


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
    found |= Removals(path, run, own, active.any(0), ever).measure(blocks, config, generator)
    return found | _sufficiency(path, run, own, active, generator) | _ablated(path, run.importance, own, active.any(0), config, generator)


def _gate_flips(path: Path) -> ndarray:
    """Return how many gates of the MLPs and their like change sign at each step; NaN where the model has none that can be seen."""
    carrier = path.carrier
    position = carrier.position if carrier.is_sequence else None

    points = path.points.clone()  # another tensor, so that nothing is given from memory past its gate

    def run() -> None:
        with carrier.exchanged(points):
            carrier.twin(carrier.batch(points))

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
