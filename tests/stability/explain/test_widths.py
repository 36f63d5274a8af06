"""Is the width of a planted step found, and is a curve without one undefined?"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from unbraid.stability.engine.distances import euclidean
from unbraid.stability.explain.widths import two_sided, width_of

T = np.linspace(0, 1, 201)


@pytest.mark.parametrize(("scale", "at"), [(0.1, 0.5), (0.02, 0.4), (0.05, 0.6)])
def test_a_logistic_step_has_its_width_and_place(scale: float, at: float) -> None:
    rise = 1 / (1 + np.exp(-(T - at) / scale))
    d = (rise - rise[0]) / (rise[-1] - rise[0])
    width = width_of(T, d)
    exact = [at + scale * math.log(p / (1 - p)) for p in (rise[0] + level * (rise[-1] - rise[0]) for level in (0.1, 0.5, 0.9))]
    assert list(width) == pytest.approx(exact, abs=2e-3)
    assert width.value == pytest.approx(exact[2] - exact[0], rel=0.02)


def test_a_straight_line_of_answers_has_width_0_8() -> None:
    answers = torch.lerp(torch.zeros(3), torch.randn(3), torch.as_tensor(T, dtype=torch.float32)[:, None])
    assert width_of(T, two_sided(answers, answers[0], answers[-1], euclidean)).value == pytest.approx(0.8, abs=1e-3)


@pytest.mark.parametrize("d", [np.zeros(201), np.sin(20 * T), np.full(201, math.nan), 0.5 * T])
def test_a_curve_that_does_not_rise_from_end_to_end_has_none(d: np.ndarray) -> None:
    assert math.isnan(width_of(T, d).value)
