from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from unbraid.stability.engine.distances import READS
from unbraid.stability.engine.paths import path_between
from unbraid.stability.path.sampled import sample


class Planted:
    """A read-out that is known: any function of the points."""

    def __init__(self, answer: Callable[[Tensor], Tensor]) -> None:
        self.answer = answer
        self.points = 0

    def read(self, points: Tensor, what: Sequence[str] = ("logits",)) -> dict[str, Tensor]:
        self.points += len(points)
        return {name: self.answer(points) for name in what}


def along() -> Callable[[Tensor], Tensor]:
    start, end = torch.zeros(3, dtype=torch.float64), torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    return path_between("linear", start, end)


@pytest.mark.parametrize(("place", "scale"), [(0.5, 0.1), (0.3, 0.03), (0.8, 0.008), (0.611, 0.002)])
def test_a_known_boundary_and_its_width_are_measured(place: float, scale: float) -> None:
    """Location within 2 %, width within 5 %, from 51 points and 12 more."""
    planted = Planted(lambda points: torch.tanh((points[:, :1] - place) / (2 * scale)) * torch.ones(1, 4, dtype=torch.float64))

    found = sample(planted, along(), [READS["logits"]], points=51, extra=12)
    measures = found.measures("logits")

    ends = torch.tensor([-place, 1 - place], dtype=torch.float64).div(2 * scale).tanh()
    levels = [float(ends[0] + share * (ends[1] - ends[0])) for share in (0.1, 0.5, 0.9)]
    t10, t50, t90 = (place + 2 * scale * math.atanh(level) for level in levels)
    assert measures.t50 == pytest.approx(t50, rel=0.02)
    assert measures.width == pytest.approx(t90 - t10, rel=0.05)
    assert planted.points == 51 + 1 + 12


def test_a_linear_model_has_width_0_8_and_no_plateau() -> None:
    matrix = torch.randn(3, 5, dtype=torch.float64)

    measures = sample(Planted(lambda points: points @ matrix), along(), [READS["logits"]], 51, 12).measures("logits")

    assert measures.width == pytest.approx(0.8, abs=0.001)
    assert not measures.lenient
    assert measures.boundaries == ()


def test_a_read_out_that_never_answers_gives_nothing() -> None:
    measures = sample(Planted(lambda points: torch.ones(len(points), 2)), along(), [READS["logits"]], 21, 4).measures("logits")

    assert math.isnan(measures.width)
    assert measures.separation == 0


def test_distances_of_distributions_are_in_root_bits_and_norms_are_those_of_the_path() -> None:
    def answer(points: Tensor) -> Tensor:
        return torch.cat([1e3 * (points[:, :1] > 0.5), 1e3 * (points[:, :1] <= 0.5)], dim=1).to(torch.float64)

    found = sample(Planted(answer), along(), [READS["distribution"]], 51, 0)

    assert found.to_start["distribution"][-1] == pytest.approx(1.0, abs=1e-6)
    assert found.norms[[0, -1]].tolist() == pytest.approx([0.0, math.sqrt(2)])
