"""How far may a decomposition and its groups be trusted? The scorecard of the decomposition, with the lines on modules where some are planted."""

from __future__ import annotations

from dataclasses import dataclass, replace

from unbraid.components.module_scores import ModuleScores, has_modules, module_scores
from unbraid.components.result import Modules
from unbraid.components.verb import group
from unbraid.decompose.result import Decomposition
from unbraid.decompose.scorecard import Scorecard


@dataclass(frozen=True)
class Judged:
    """A decomposition's scorecard, and what its lines on modules were measured on.

    Attributes:
        scorecard: Every line.
        modules: The groups of subcomponents; None where no modules are planted.
        scores: How they compare with the planted modules.
    """

    scorecard: Scorecard
    modules: Modules | None = None
    scores: ModuleScores | None = None


def judge(decomposition: Decomposition, modules: Modules | None = None) -> Judged:
    """Measure the scorecard, and where modules are planted group the subcomponents and compare.

    Args:
        decomposition: What was taken apart.
        modules: Its groups; by default they are made by the settings of `GroupingConfig`.
    """
    card = decomposition.scorecard()
    if not has_modules(decomposition.target.truth):
        return Judged(card)
    modules = modules or group(decomposition)
    scores = module_scores(decomposition, modules, decomposition.config.seed)
    return Judged(replace(card, lines=(*card.lines, *scores.lines())), modules, scores)


def scorecard(decomposition: Decomposition, modules: Modules | None = None) -> Scorecard:
    """Measure everything that says how far the result may be trusted; see `judge`."""
    return judge(decomposition, modules).scorecard
