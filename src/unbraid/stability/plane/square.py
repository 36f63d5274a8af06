"""What does a model answer over the plane through three activations? The plane, the answers over it, and how thin their boundaries are.

    X(a, b) = A + a (B - A) + b (C - P),      P the foot of C on the line through A and B    (Janiak et al. 2024)

Nothing here knows models: an answer is a function of points, so that read-outs whose boundaries are known can be put in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from unbraid.core.errors import UserError
from unbraid.stability.engine.distances import Distance

Answers = Callable[[Float[Tensor, "n d"]], tuple[Float[Tensor, "n k"], Float[Tensor, "n v"]]]
"""Points → what is read of them, and the logits whose largest is the prediction."""

_FLAT = 1e-5
"""Three points are on one line where the third is nearer to it than this share of the first two's distance."""


@dataclass(frozen=True)
class Plane:
    """The plane through three points.

    Attributes:
        origin: A.
        along: B - A.
        across: C - P, perpendicular to it.
        foot: Where P lies: P = A + foot (B - A).
    """

    origin: Float[Tensor, " d"]
    along: Float[Tensor, " d"]
    across: Float[Tensor, " d"]
    foot: float

    def points(self, a: Float[Tensor, " n"], b: Float[Tensor, " n"]) -> Float[Tensor, "n d"]:
        """Return the points at coordinates (a, b): A is (0, 0), B is (1, 0), C is (foot, 1)."""
        return self.origin + a[:, None] * self.along + b[:, None] * self.across


def plane_through(a: Float[Tensor, " d"], b: Float[Tensor, " d"], c: Float[Tensor, " d"]) -> Plane:
    """Return the plane through three points.

    Raises:
        UserError: Two of them are equal, or all are on one line.
    """
    found = _plane(a, b, c)
    if found is None:
        raise UserError("The three activations lie on one line, so that there is no plane through them.", "Choose other prompts.")
    return found


def spans(a: Float[Tensor, " d"], b: Float[Tensor, " d"], c: Float[Tensor, " d"]) -> bool:
    """Whether there is a plane through three points."""
    return _plane(a, b, c) is not None


def _plane(a: Tensor, b: Tensor, c: Tensor) -> Plane | None:
    along = b - a
    length = along.norm()
    if not float(length) > 0:
        return None
    foot = (c - a) @ along / length.square()
    across = c - a - foot * along
    return Plane(a, along, across, float(foot)) if float(across.norm()) > _FLAT * float(length) else None


def axes_of(plane: Plane, resolution: int, margin: float) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Return the grid's coordinates: from -margin to 1 + margin, and further along a where C lies outside of A and B."""
    low, high = min(0.0, plane.foot), max(1.0, plane.foot)
    return torch.linspace(low - margin, high + margin, resolution), torch.linspace(-margin, 1 + margin, resolution)


@dataclass(frozen=True)
class Sweep:
    """Answers over a grid, rows by b and columns by a.

    Attributes:
        distance: From the own anchor's answer, [n, n].
        others: The same at the other two anchors.
        label: The prediction, [n, n].
        steps_a: From each point to the next one along a, [n, n - 1].
        steps_b: From each point to the next one along b, [n - 1, n].
    """

    distance: Float[ndarray, "n n"]
    others: Float[ndarray, " 2"]
    label: Int[ndarray, "n n"]
    steps_a: Float[ndarray, "n m"]
    steps_b: Float[ndarray, "m n"]


def sweep(
    answers: Answers, distance: Distance, plane: Plane, grid: tuple[Float[Tensor, " n"], Float[Tensor, " n"]], anchors: Float[Tensor, "3 d"]
) -> Sweep:
    """Read a model over a grid, in the frozen context of the first anchor.

    Args:
        answers: Points → answers, in that context.
        distance: How far apart two answers are.
        plane: Through the three anchors, in whatever order.
        grid: Coordinates along a and b.
        anchors: The own anchor, then the other two.
    """
    a, b = grid
    at_anchors, _ = answers(anchors)
    own = at_anchors[:1]
    rows: list[Tensor] = []
    labels: list[Tensor] = []
    steps_a: list[Tensor] = []
    steps_b: list[Tensor] = []
    before: Tensor | None = None
    for height in b:  # a row at a time: answers over a vocabulary are large, and only two rows are compared
        found, logits = answers(plane.points(a.to(anchors.dtype), height.to(anchors.dtype).expand(len(a))))
        rows.append(distance(found, own.expand_as(found)))
        labels.append(logits.argmax(-1))
        steps_a.append(distance(found[1:], found[:-1]))
        if before is not None:
            steps_b.append(distance(found, before))
        before = found

    def stacked(parts: list[Tensor]) -> ndarray:
        return torch.stack(parts).double().numpy()

    return Sweep(
        stacked(rows),
        distance(at_anchors[1:], own.expand(2, -1)).double().numpy(),
        torch.stack(labels).numpy(),
        stacked(steps_a),
        stacked(steps_b),
    )


def concentration(steps: Float[ndarray, "*grid"]) -> float:
    """Return the smallest share of the steps that holds half of all the change: 0.5 where every step is alike, as along a line; NaN without change.

    On a grid it says how much of the plane the boundaries take, wherever they run. It is the area's likeness of the shortest interval that
    holds half of a path's length.
    """
    sizes = np.sort(steps.ravel())[::-1]
    total = float(sizes.sum())
    if not total > 0 or not np.isfinite(total):
        return float("nan")
    shares = np.concatenate([[0.0], np.cumsum(sizes) / total])
    return float(np.interp(0.5, shares, np.linspace(0, 1, len(shares))))


def sharpness(steps_a: Float[ndarray, "n m"], steps_b: Float[ndarray, "m n"]) -> float:
    """Return the mean concentration of the steps along both axes, whose lengths differ."""
    return (concentration(steps_a) + concentration(steps_b)) / 2


def closeness(distance: Float[ndarray, "*grid"], others: Float[ndarray, " 2"]) -> Float[ndarray, "*grid"]:
    """Return 1 where the answer is the anchor's own, and 0 where it is as far from it as the other two anchors' answers are on average, or further.

    The scale is what the anchors answer and not what is in the picture, so that pictures of several checkpoints can be compared. NaN where
    the other anchors give the same answer.
    """
    scale = float(np.mean(others))
    return np.full_like(distance, np.nan) if not scale > 0 else 1 - np.clip(distance / scale, 0, 1)
