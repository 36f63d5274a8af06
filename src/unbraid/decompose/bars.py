"""Where do the scorecard's bars stand, and why there? One place for every number that decides pass or fail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from unbraid.decompose.scorecard import Bar
from unbraid.targets.target import Target

if TYPE_CHECKING:
    from unbraid.decompose.score import Measured

# Published anchors: recovery (Bushnaq et al. 2025, table 1) and the identity and dense errors of its target patterns.
MMCS, ML2R = Bar(low=0.99, why="published 1.000"), Bar(0.95, 1.05, why="published 0.99 – 1.03")
PIECE_COSINE = Bar(low=0.98, why="calibrated")
FAITHFULNESS = Bar(high=1e-3, why="‖Δ‖² is a thousandth of ‖W‖²")
DECIDED = Bar(low=0.95, why="at least 95 % of what is on is fully on")
UNMASKED = Bar(high=0.01, why="Δ may be left out")
CO_ACTIVE = Bar(high=0.02, why="calibrated")
NEEDED = Bar(high=0.05, why="at most one in twenty of what is clearly needed")
# Factors on what the planted truth itself loses under the same masks: calibration runs reach 2.1 and 2.4, nulls start at 16.
STOCHASTIC_FACTOR, ADVERSARIAL_FACTOR = 3.0, 3.0
# Where the truth loses next to nothing (residual MLP), runs that found it lose 0.014 and 0.044, nulls 0.38 and more.
STOCHASTIC_FLOOR, ADVERSARIAL_FLOOR = 0.03, 0.1
# A weak input needs less than its feature's presence says, so L0 may be well below the truth's count, but hardly above it.
L0_LOW, L0_HIGH = 0.4, 1.1


# Nats above the model's own cross-entropy, for a language model: what the published 67M model loses ("Interpreting Language Model Parameters").
CROSS_ENTROPY: Mapping[str, tuple[str, float | None]] = {
    "unmasked": ("without Δ", 0.01),
    "stoch_masked": ("random ablation", 0.13),
    "ci_masked": ("importances as masks", None),
    "rounded_masked": ("rounded at 0.1", 0.28),
    "random_masked": ("importance ignored", None),
    "zero_masked": ("everything ablated", None),
}
ADVERSARIAL_KL = 1.0
L0_SHARE = 1 / 3


@dataclass(frozen=True)
class LineSpec:
    """How a line is announced: its metric, its words and its bar."""

    key: str
    title: str
    group: Literal["truth", "behaviour", "minimality", "faithfulness"]
    bar: Bar | None = None
    note: str = ""


def bars_for(target: Target, oracle: Mapping[str, float | None], measured: Measured) -> list[LineSpec]:
    """Return the scorecard's lines in order, with the bars that this target allows."""
    ladder = sorted(
        (key for key in measured.values if key.startswith("pgd_") and key != "pgd_ratio"), key=lambda key: int(key.split("_")[1])
    )
    lines = [
        *_truth_lines(target),
        *_behaviour_lines(oracle, ladder),
        *(_language_lines(ladder) if "ce_target" in measured.values else []),
        *_minimality_lines(target, oracle, measured),
        *_faithfulness_lines(),
    ]
    own = target.truth.bars if target.truth else {}
    return [replace(line, bar=_own_bar(*own[line.key])) if line.key in own else line for line in lines]


def _own_bar(low: float | None, high: float | None) -> Bar | None:
    """Return the bar that a toy asks for; without a limit the line is for reading only."""
    return None if low is None and high is None else Bar(low, high, why="this toy's own")


def _truth_lines(target: Target) -> list[LineSpec]:
    if target.truth is None:
        return []
    errors = Bar(high=target.truth.identity_error_bar, why="wrong entries over all sparse sites")
    one_hot, co_active = target.truth.one_hot, target.truth.co_active
    probes = "fresh inputs" if one_hot is None or co_active is None else f"{len(one_hot)} one-hot and {len(co_active)} co-active probes"
    return [
        LineSpec("mmcs", "MMCS, worst site", "truth", MMCS, "best cosine per planted piece, alive subcomponents only"),
        LineSpec("ml2r", "ML2R, worst site", "truth", ML2R, "length ratio at that match"),
        LineSpec("piece_cosine", "whole-piece cosine, worst site", "truth", PIECE_COSINE, "read and write directions together"),
        LineSpec("identity_error", "identity error", "truth", errors, "one-hot probes, tolerance 0.1"),
        *_site_errors(target.truth.bars),
        LineSpec("dense_error", "dense error", "truth", Bar(high=0, why="exactly the planted rank is always on"), probes),
        LineSpec("co_active_error", "wrong entries on co-active probes", "truth", CO_ACTIVE, "as a share of the entries that are needed"),
        LineSpec("needed_error", "wrong entries on fresh inputs", "truth", NEEDED, "as a share of the entries that are needed"),
    ]


def _site_errors(bars: Mapping[str, tuple[float | None, float | None]]) -> list[LineSpec]:
    """Return the identity error of each site for which a toy asks; a sum over sites could hide that one of them has all the errors."""
    keys = [key for key in bars if key.startswith("identity_error/")]
    return [LineSpec(key, f"identity error of {key.removeprefix('identity_error/')}", "truth", note="one-hot probes") for key in keys]


def _behaviour_lines(oracle: Mapping[str, float | None], ladder: list[str]) -> list[LineSpec]:
    def bar(key: str, factor: float, floor: float) -> Bar | None:
        known = oracle.get(key)
        return None if known is None else Bar(high=max(factor * known, floor), why=f"{factor} × what the planted truth loses, or {floor}")

    first = ladder[0]
    rungs = [LineSpec(key, f"lost to a fresh adversary, {key.removeprefix('pgd_')} steps", "behaviour") for key in ladder[1:]]
    return [
        LineSpec("unmasked", "behaviour lost without Δ", "behaviour", UNMASKED, "all subcomponents, no Δ"),
        LineSpec(
            "stoch_masked",
            "lost to random ablation",
            "behaviour",
            bar("stoch_masked", STOCHASTIC_FACTOR, STOCHASTIC_FLOOR),
            "all sites, Δ included",
        ),
        LineSpec("ci_masked", "lost with importances as masks", "behaviour", None, "for reading; never optimised"),
        LineSpec("rounded_masked", "lost with importances rounded at 0.1", "behaviour", None, "for reading; never optimised"),
        LineSpec("random_masked", "lost when importance is ignored", "behaviour", None, "for scale"),
        LineSpec(
            first,
            f"lost to a fresh adversary, {first.removeprefix('pgd_')} steps",
            "behaviour",
            bar(first, ADVERSARIAL_FACTOR, ADVERSARIAL_FLOOR),
            "shared sources",
        ),
        LineSpec(
            "pgd_ratio",
            "adversary against chance",
            "behaviour",
            None,
            f"{first} / stoch_masked; nulls have a low ratio too, so it is for reading",
        ),
        *rungs,
    ]


def _language_lines(ladder: list[str]) -> list[LineSpec]:
    """Return what is measured of language models in nats: KL to the model's own answers, and cross-entropy above its own."""
    lines = [LineSpec("ce_target", "the model's own cross-entropy", "behaviour", None, "nats per token, on the same text")]
    for name, (title, most) in CROSS_ENTROPY.items():
        bar = None if most is None else Bar(high=most, why="the published 67M model's")
        lines.append(LineSpec(f"ce_{name}", f"cross-entropy beyond it, {title}", "behaviour", bar, "nats per token"))
    lines += [LineSpec(f"kl_{name}", f"KL, {title}", "behaviour", None, "nats per token") for name, (title, _) in CROSS_ENTROPY.items()]
    lines += [
        LineSpec(f"recovered_{name}", f"training compute recovered, {title}", "behaviour", None, "share, along the model's own training")
        for name, (title, _) in CROSS_ENTROPY.items()
    ]
    for index, key in enumerate(ladder):
        bar = Bar(high=ADVERSARIAL_KL, why="the published 67M model has 0.83") if index == 0 and key == "pgd_20" else None
        lines.append(LineSpec(f"kl_{key}", f"KL, fresh adversary of {key.removeprefix('pgd_')} steps", "behaviour", bar, "nats per token"))
    return lines


def _minimality_lines(target: Target, oracle: Mapping[str, float | None], measured: Measured) -> list[LineSpec]:
    lines: list[LineSpec] = []
    for site in target.sites:
        known = oracle.get(f"l0/{site.path}")
        truth = target.truth.sites[site.path] if target.truth else None
        rank = truth.rank if truth else None
        # Being on for an input with no feature costs an always-on map nothing and harms nothing, so its rank is the limit.
        most = float(truth.rank) if truth and truth.pattern == "always_on" else known
        l0 = None if known is None or most is None else Bar(L0_LOW * known, L0_HIGH * most, why="the truth's own count, less weak inputs")
        alive = None if rank is None or (truth and truth.any_basis) else _alive_bar(rank)
        lines.append(LineSpec(f"l0/{site.path}", f"L0 of {site.path}", "minimality", l0, "mean count of importances above 0.1"))
        lines.append(
            LineSpec(
                f"alive/{site.path}",
                f"alive in {site.path}",
                "minimality",
                alive,
                "importance above 0.1 on at least one input in a thousand",
            )
        )
    if "ce_target" in measured.values:
        ranks = sum(min(site.d_in, site.d_out) for site in target.sites)
        third = Bar(high=L0_SHARE * ranks, why=f"a third of the summed ranks, {ranks}")
        lines.insert(0, LineSpec("l0_total", "L0 of all sites", "minimality", third, "mean count of importances above 0.1, per position"))
    if "decided" in measured.values:
        lines.append(LineSpec("decided", "importances on probes that are fully on", "minimality", DECIDED, "of those above 0.05"))
    return lines


def _alive_bar(rank: int) -> Bar:
    """Ask for as many alive subcomponents as pieces are planted, give or take one in fifty."""
    off = max(1, rank // 50) if rank > 100 else 1
    return Bar(rank - off, rank + off, why=f"{rank} planted pieces")


def _faithfulness_lines() -> list[LineSpec]:
    return [LineSpec("faithfulness", "Δ as a share of the weights", "faithfulness", FAITHFULNESS, "mean over sites of ‖Δ‖² / ‖W‖²")]
