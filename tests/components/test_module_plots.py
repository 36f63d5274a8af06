"""Do the figures on modules show the numbers they were given, in the order of the planted modules?"""

from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from unbraid.components.calibration import Calibration
from unbraid.components.cross_talk import cross_talk
from unbraid.components.plot_calibration import plot_calibration
from unbraid.components.plot_cross_talk import cross_talk_data, plot_cross_talk
from unbraid.components.plot_modules import modules_data, plot_modules
from unbraid.components.plot_phase import draw_phase, plot_phase
from unbraid.components.plots import DRAWINGS
from unbraid.components.plots import draw as draw_named
from unbraid.core.errors import UserError
from unbraid.drawing.plot_style import THEMES, Data, Plot, draw

NAMES = ("module 10", "module 1", "module 0")
# module 0 is whole in group 7, module 1 split over groups 4 and 5, module 10 shares group 7 with module 0
MASS = {(7, 2): 2.0, (4, 1): 0.75, (5, 1): 0.25, (7, 0): 1.0}
GRID: Data = {
    "row_knob": "coupling",
    "rows": [0.0, 0.1],
    "column_knob": "d_in",
    "columns": [4, 8, 16],
    "scores": {
        "baseline: louvain": [[1.0, 0.2, None], [0.5, -0.01, 0.0]],
        "piece_coverage": [[1.0, 1.0, 1.0], [1.0, 0.9, 0.8]],
        "module_ari": [[1.0, 0.98, 0.97], [0.9, 0.8, 0.7]],
    },
}
CROSS = cross_talk(torch.tensor([[0.1, 0.0], [0.0, 0.9], [0.8, 0.1]]), ["5", "6", "9"], ["module 1", "module 0"])
COUNTED = [Calibration(0, 500, 0.0), Calibration(1, 300, 1.25), Calibration(2, 3, 2.5)]


def every(theme: Any = "light") -> dict[str, Plot]:
    return {
        "modules": plot_modules("toy", MASS, NAMES, theme),
        "cross_talk": plot_cross_talk("toy", CROSS, CROSS, theme),
        "calibration": plot_calibration("toy", COUNTED, theme),
        "phase": plot_phase("toy", GRID, theme),
    }


def cells(plot: Plot, panel: int = 0) -> list[float]:
    return np.asarray(plot.figure.axes[panel].findobj(lambda found: found.get_label() == "cells")[0].get_array()).tolist()  # type: ignore[attr-defined]


@pytest.mark.parametrize("theme", list(THEMES))
def test_every_figure_is_drawn_from_its_numbers_alone(theme: Any) -> None:
    for name, plot in every(theme).items():
        numbers = json.loads(json.dumps(plot.data, allow_nan=False))
        again = draw(draw_phase, numbers, theme) if name == "phase" else draw_named(name, numbers, theme)
        assert again.svg() == plot.svg()
        ElementTree.fromstring(plot.svg())
    assert {*DRAWINGS, "phase"} == set(every())


def test_an_unknown_figure() -> None:
    with pytest.raises(UserError, match="'module'.*'modules'"):
        draw_named("module", {})


def test_groups_stand_in_the_order_of_the_modules_that_they_match() -> None:
    data = modules_data("toy", MASS, NAMES)
    assert data["modules"] == ["module 0", "module 1", "module 10"]
    assert data["groups"] == [7, 4, None, 5]
    assert data["values"] == [[1, 0, 0, 0], [0, 0.75, 0, 0.25], [1, 0, 0, 0]]
    assert (data["matched"], data["found"]) == (2, 3)
    assert cells(plot_modules("toy", MASS, NAMES)) == np.ravel(data["values"]).tolist()


def test_nothing_found_is_drawn_as_nothing() -> None:
    plot = plot_modules("toy", {}, NAMES)
    assert plot.data["matched"] == 0 and "0 of 3 modules matched" in plot.svg()


def test_cross_talk_has_matched_groups_on_the_diagonal() -> None:
    side = cross_talk_data("toy", CROSS, None)["sides"]["output"]
    assert side["modules"] == ["module 0", "module 1"]
    assert side["groups"] == ["6", "9", "5"]
    np.testing.assert_allclose(side["values"], [[0.9, 0.1, 0.0], [0.0, 0.8, 0.1]])
    assert side["share"] == pytest.approx(1 - 1.7 / 1.9, abs=1e-4)
    plot = every()["cross_talk"]
    assert set(plot.data["sides"]) == {"output", "input"}
    np.testing.assert_allclose(cells(plot), np.ravel(side["values"]))


def test_ours_comes_first_and_missing_cells_are_marked() -> None:
    plot = plot_phase("toy", GRID)
    np.testing.assert_allclose(cells(plot, 0), np.ravel(GRID["scores"]["module_ari"]))
    np.testing.assert_allclose(cells(plot, 1), np.ravel(GRID["scores"]["piece_coverage"]))
    texts = [text.get_text() for text in plot.figure.axes[2].texts]
    assert "–" in texts and "louvain" in texts and "−0.01" in texts and "0.00" in texts
    assert [label.get_text() for label in plot.figure.axes[0].get_xticklabels()] == ["4", "8", "16"]


def test_calibration_marks_what_was_seldom_seen() -> None:
    axes = every()["calibration"].figure.axes[0]
    drawn = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}  # type: ignore[arg-type]
    assert drawn["groups"] == ([0, 1], [0, 1.25]) and drawn["rare"] == ([2], [2.5])
    assert "hollow" in every()["calibration"].svg()


def test_many_modules_stay_small() -> None:
    plot = plot_modules("toy", {(i, i): 1.0 for i in range(128)}, [f"module {i}" for i in range(128)])
    assert len(plot.svg()) < 100_000 and plot.data["matched"] == 128
