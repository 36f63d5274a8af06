"""Which pictures show the modules of a decomposition? Every figure by name: what it measures, and how that is drawn in either theme."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.figure import Figure

from unbraid.components.measure import factors_of, sort_subcomponents
from unbraid.components.module_scores import ModuleScores
from unbraid.components.plot_calibration import calibration_data, draw_calibration
from unbraid.components.plot_cross_talk import cross_talk_data, draw_cross_talk
from unbraid.components.plot_modules import draw_modules, modules_data
from unbraid.components.result import Modules
from unbraid.decompose.result import Decomposition
from unbraid.drawing.plot_style import Data, Plot, Theme, ThemeName, draw_named

DRAWINGS: dict[str, Callable[[Data, Theme], Figure]] = {
    "modules": draw_modules,
    "cross_talk": draw_cross_talk,
    "calibration": draw_calibration,
}


def draw(name: str, data: Data, theme: ThemeName = "light") -> Plot:
    """Draw a figure again from its numbers.

    Raises:
        UserError: There is no figure or theme of that name.
    """
    return draw_named(DRAWINGS, name, data, theme)


def module_figures(decomposition: Decomposition, modules: Modules, scores: ModuleScores) -> dict[str, Data]:
    """Return the numbers of every figure on modules that this decomposition allows.

    Args:
        decomposition: What was taken apart; its target has planted modules.
        modules: Its groups.
        scores: What was measured on them.
    """
    found: dict[str, Data] = {}
    truth, name = decomposition.target.truth, scores.target
    if truth is not None:
        mass = sort_subcomponents(factors_of(decomposition.model), modules.labels, truth).mass()
        if mass:
            found["modules"] = modules_data(name, mass, scores.names)
    if scores.found.output_side is not None or scores.found.input_side is not None:
        found["cross_talk"] = cross_talk_data(name, scores.found.output_side, scores.found.input_side)
    if scores.calibration:
        found["calibration"] = calibration_data(name, scores.calibration)
    return found
