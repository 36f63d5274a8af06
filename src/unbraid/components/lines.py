"""Which lines do modules add to the scorecard, and where do their bars stand?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from unbraid.components.coverage import MATCHED
from unbraid.components.cross_talk import CrossTalk
from unbraid.components.measure import Measured
from unbraid.core.statistics import Estimate, bootstrap_mean
from unbraid.decompose.scorecard import Bar, Line

if TYPE_CHECKING:
    from unbraid.components.module_scores import ModuleScores


@dataclass(frozen=True)
class ModuleLine:
    """How a line on modules is announced, and where its values are found; a line without values is left out."""

    key: str
    title: str
    values: Callable[[Measured], list[float]]
    bar: Bar | None = None
    note: str = ""


def module_lines(scores: ModuleScores) -> tuple[Line, ...]:
    """Return the lines for which there is a value, with the toy's own bars where it has some."""
    lines: list[Line] = []
    for spec in _specs(len(scores.names)):
        values = spec.values(scores.found)
        if not values:
            continue
        nulls = {"random": spec.values(scores.random), "untrained": spec.values(scores.untrained)}
        if spec.key.startswith(("piece_", "module_share", "group_count")):
            del nulls["random"]  # does not depend on how subcomponents are grouped
        oracle = spec.values(scores.oracle)
        lines.append(
            Line(
                key=spec.key,
                title=spec.title,
                group="modules",
                value=_estimate(values),
                bar=_bar(spec, scores),
                nulls={name: float(np.mean(each)) for name, each in nulls.items() if each},
                oracle=float(np.mean(oracle)) if oracle else None,
                note=spec.note,
            )
        )
    return tuple(lines)


def _estimate(values: list[float]) -> Estimate:
    return bootstrap_mean(values)


def _bar(spec: ModuleLine, scores: ModuleScores) -> Bar | None:
    if spec.key not in scores.bars:
        return spec.bar
    low, high = scores.bars[spec.key]
    return None if low is None and high is None else Bar(low, high, why="the toy's own")


def _specs(modules: int) -> list[ModuleLine]:
    planted = f"{modules} planted modules"
    return [
        ModuleLine(
            "module_ari", "groups against modules, ARI", lambda m: [m.agreement.ari], Bar(low=0.95, why=planted), "grouped subcomponents"
        ),
        ModuleLine("module_nmi", "groups against modules, NMI", lambda m: [m.agreement.nmi]),
        ModuleLine("module_homogeneity", "groups do not mix modules", lambda m: [m.agreement.homogeneity], note="homogeneity"),
        ModuleLine("module_completeness", "modules are not split", lambda m: [m.agreement.completeness], note="completeness"),
        ModuleLine("module_ari_weighted", "the same ARI, by size", lambda m: [m.weighted.ari], note="subcomponents count by their norm"),
        ModuleLine("module_share", "subcomponents within one module", lambda m: [m.share], note="share of their squared length, by norm"),
        ModuleLine("group_count_ratio", "groups per planted module", lambda m: [m.groups / modules], note=planted),
        ModuleLine(
            "modules_found",
            "modules with a group of their own",
            lambda m: [len(m.recognised) / modules],
            note="most of the module, and mostly it",
        ),
        ModuleLine(
            "group_stability",
            "groups at half and twice the α",
            lambda m: [] if m.stability is None else [m.stability],
            note="least ARI with these",
        ),
        *_truth_specs(),
        *_ablation_specs(),
    ]


def _truth_specs() -> list[ModuleLine]:
    def pieces(m: Measured) -> list[float]:
        return [cosine for match in m.pieces.values() for cosine in match.cosines]

    def overlap(m: Measured) -> list[float]:
        return [value for match in m.subspaces for value in (match.read, match.write)]

    return [
        ModuleLine(
            "piece_coverage",
            "planted pieces found",
            lambda m: [float(np.mean([cosine >= MATCHED for cosine in pieces(m)]))] if pieces(m) else [],
            Bar(low=1.0, why="every planted piece"),
            f"one to one, at cos u · cos v ≥ {MATCHED}",
        ),
        ModuleLine("piece_match", "cosine of planted pieces", pieces, note="one to one, mean over pieces"),
        ModuleLine("piece_worst", "cosine of the worst planted piece", lambda m: [min(pieces(m))] if pieces(m) else []),
        ModuleLine("subspace_overlap", "overlap with planted subspaces", overlap, note="each module's group, read and write side"),
    ]


def _ablation_specs() -> list[ModuleLine]:
    def share(talk: CrossTalk | None) -> list[float]:
        return [] if talk is None else [talk.share]

    def margin(talk: CrossTalk | None) -> list[float]:
        return [] if talk is None else [talk.margin]

    def worth(name: str) -> Callable[[Measured], list[float]]:
        return lambda m: [float(getattr(each, name)) for each in m.worth]

    alone = "inputs that need one module alone"
    return [
        ModuleLine(
            "cross_talk_out", "cross-talk, groups ablated", lambda m: share(m.output_side), note=f"share of losses elsewhere; {alone}"
        ),
        ModuleLine("cross_talk_out_margin", "own group's loss beyond any other's", lambda m: margin(m.output_side), note="worst module"),
        ModuleLine("cross_talk_in", "cross-talk, inputs resampled", lambda m: share(m.input_side), note="share of changes elsewhere"),
        ModuleLine("cross_talk_in_margin", "own inputs' change beyond any other's", lambda m: margin(m.input_side), note="worst module"),
        ModuleLine("sufficiency", "kept by a module's group alone", worth("sufficiency"), note=f"all else and Δ ablated; {alone}"),
        ModuleLine("necessity", "lost without a module's group", worth("necessity"), note=alone),
        ModuleLine("sufficiency_stochastic", "kept when all else is ablated at random", worth("sufficiency_stochastic"), note=alone),
        ModuleLine("necessity_stochastic", "lost without it, all else ablated at random", worth("necessity_stochastic"), note=alone),
        ModuleLine(
            "sufficiency_pgd_20", "kept when an adversary ablates all else", worth("sufficiency_pgd_20"), note="20 steps, shared sources"
        ),
    ]
