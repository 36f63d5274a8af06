"""Which of two ways of cutting up a model needs fewer parts at the same loss of behaviour? Pareto fronts over the pressure to be minimal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Point:
    """What one run needs and loses.

    Attributes:
        parts: Parts that an input needs on average (L0).
        lost: What their ablation costs, in the unit of the behaviour.
        label: Which run it is.
    """

    parts: float
    lost: float
    label: str = ""


@dataclass(frozen=True)
class Comparison:
    """Two fronts at one loss: how many parts each needs."""

    lost: float
    ours: float
    theirs: float


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other one beats in both parts and loss, fewest parts first."""
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point.parts, point.lost)):
        if not front or point.lost < front[-1].lost:
            front.append(point)
    return front


def parts_at(front: Sequence[Point], lost: float) -> float | None:
    """Return how many parts a front needs at a loss, between two of its points on logarithmic scales; None outside what it reaches.

    A loss above that of the front's cheapest point is reached with the parts of that point: nothing forces a run to lose more.
    """
    if not front or lost < front[-1].lost:
        return None
    if lost >= front[0].lost:
        return front[0].parts
    for fewer, more in pairwise(front):
        if more.lost <= lost <= fewer.lost:
            share = math.log(fewer.lost / lost) / math.log(fewer.lost / more.lost)
            return math.exp(math.log(fewer.parts) + share * math.log(more.parts / fewer.parts))
    return None


def compare_fronts(ours: Sequence[Point], theirs: Sequence[Point]) -> list[Comparison]:
    """Compare two sets of runs at every loss that one of their points has and both fronts reach."""
    first, second = pareto_front(ours), pareto_front(theirs)
    compared: list[Comparison] = []
    for lost in sorted({point.lost for point in (*first, *second)}):
        both = parts_at(first, lost), parts_at(second, lost)
        if both[0] is not None and both[1] is not None:
            compared.append(Comparison(lost, both[0], both[1]))
    return compared


def beats(ours: Sequence[Point], theirs: Sequence[Point]) -> bool:
    """Return whether ours needs fewer parts at every loss that both reach, and reaches every loss that theirs does.

    Without a loss that both reach nothing is shown, which is no.
    """
    compared = compare_fronts(ours, theirs)
    lowest = min((point.lost for point in ours), default=math.inf) <= min((point.lost for point in theirs), default=-math.inf)
    return bool(compared) and lowest and all(each.ours < each.theirs for each in compared)
