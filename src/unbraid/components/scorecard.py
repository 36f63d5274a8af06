"""How far may a decomposition and its groups be trusted? The scorecard of the decomposition, with the lines on modules where some are planted."""

from __future__ import annotations

from dataclasses import replace

from unbraid.components.module_scores import has_modules, module_scores
from unbraid.components.result import Modules
from unbraid.decompose.result import Decomposition
from unbraid.decompose.scorecard import Scorecard


def scorecard(decomposition: Decomposition, modules: Modules | None = None) -> Scorecard:
    """Measure everything that says how far the result may be trusted.

    Args:
        decomposition: What was taken apart.
        modules: Its groups; by default they are made by the settings of `GroupingConfig`.
    """
    card = decomposition.scorecard()
    if not has_modules(decomposition.target.truth):
        return card
    return replace(card, lines=(*card.lines, *module_scores(decomposition, modules, decomposition.config.seed).lines()))
