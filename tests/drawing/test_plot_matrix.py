"""Do matrices of every size show their numbers without weighing much?"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from unbraid.drawing.plot_matrix import draw_matrices
from unbraid.drawing.plot_style import Data, Plot, Theme, draw, rounded


def drawing(data: Data, theme: Theme) -> Figure:
    return draw_matrices(data["panels"], ["a note"] * len(data["panels"]), ("share", "row", "column"), theme)


def matrix(values: torch.Tensor) -> Plot:
    columns = list(range(values.shape[1]))
    panel = {"site": "s", "columns": columns, "own": 0, "values": rounded(values, 4), "wrong": []}
    return draw(drawing, {"panels": [panel]})


def random(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def test_few_cells_carry_their_numbers() -> None:
    plot = matrix(torch.tensor([[1.0, 0.25], [0.0, -0.5]]))
    texts = {text.get_text() for text in plot.figure.axes[0].texts}
    assert {"1.00", "0.25", "−0.50"} <= texts and "0.00" not in texts


@pytest.mark.parametrize(("values", "picture"), [(torch.eye(40), False), (torch.ones(40, 23), True), (random(100, 120), True)])
def test_only_a_full_matrix_becomes_a_picture(values: torch.Tensor, picture: bool) -> None:
    plot = matrix(values)
    cells = plot.figure.axes[0].findobj(lambda found: found.get_label() == "cells")[0]
    shown = np.asarray(cells.get_array())  # type: ignore[attr-defined]
    if picture:
        np.testing.assert_array_equal(shown, plot.data["panels"][0]["values"])
    else:
        np.testing.assert_array_equal(shown, values[values > 0])
    assert (shown.ndim == 2) is picture is ("data:image/png" in plot.svg())
    assert len(plot.svg()) < 100_000
    assert plot.svg() == matrix(values).svg()


@pytest.mark.parametrize("size", [13, 23, 84, 160])
def test_ticks_are_neither_crowded_nor_missing(size: int) -> None:
    axes = matrix(torch.eye(size)).figure.axes[0]
    assert 3 <= len(axes.get_xticks()) <= 8
    assert 2 <= len(axes.get_yticks()) <= 5
