"""Are figures the same every time, and do their texts and themes hold?"""

from __future__ import annotations

import math
from xml.etree import ElementTree

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from unbraid.drawing.plot_labels import end_labels
from unbraid.drawing.plot_style import THEMES, Data, Theme, canvas, draw, panel, power_text, rounded, spread


def line(data: Data, theme: Theme) -> Figure:
    figure = canvas(2, theme)
    axes = panel(figure, 1, 0.5, 4, 1)
    axes.set_yscale(data["scale"])
    axes.plot([0, 1], data["ends"])
    end_labels(axes, data["ends"], ["first", "second"], [theme.learned, theme.planted])
    return figure


@pytest.mark.parametrize("scale", ["log", "linear"])
def test_a_drawing_in_either_theme(scale: str) -> None:
    before = dict(mpl.rcParams)
    plots = [draw(line, {"scale": scale, "ends": [1.0, 1.001]}, theme) for theme in THEMES]
    assert plots[0].svg() != plots[1].svg()
    assert plots[0].svg() == draw(line, plots[0].data).svg()
    ElementTree.fromstring(plots[0].svg())
    first, second = (text.xy[1] for text in plots[0].figure.axes[0].texts)  # type: ignore[attr-defined]
    assert second - first > 0.1  # their values are the same to the eye, their labels are not on top of each other
    assert dict(mpl.rcParams) == before


def test_labels_are_moved_apart() -> None:
    placed = spread([1.0, 1.0, 50.0], 10)
    assert abs(placed[0] - placed[1]) == pytest.approx(10) and placed[2] == 50
    assert spread([], 10) == []


def test_numbers_on_axes() -> None:
    assert [power_text(value) for value in (1e-5, 0.01, 1, 2000, 2e-7)] == ["10⁻⁵", "0.01", "1", "2,000", "2×10⁻⁷"]


def test_rounding_keeps_significant_digits() -> None:
    assert rounded([[1.23456789, 0.0], [-9.87654321e-7, 1234567.0]], 3) == [[1.23, 0.0], [-9.88e-7, 1230000.0]]
    assert math.isnan(rounded([math.nan])[0])
