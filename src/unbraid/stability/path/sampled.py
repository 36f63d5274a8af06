"""How does an answer change along one path? The path is sampled evenly, and again where most happens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from unbraid.stability.engine.curve import CurveMeasures, measure_curve, two_sided, where_to_refine
from unbraid.stability.engine.distances import Read

ROUNDS = 2

Along = Callable[[Float[Tensor, " n"]], Float[Tensor, "n d"]]
"""A path: places t in [0, 1] → points."""


@runtime_checkable
class Answers(Protocol):
    """What answers when points stand at its place; see `Carrier`."""

    def read(self, points: Float[Tensor, "n d"], what: Sequence[str] = ("logits",)) -> dict[str, Float[Tensor, "n _"]]:
        """Return what is read of each point."""
        ...


@dataclass(frozen=True)
class Sampled:
    """Distances along one path.

    Attributes:
        t: Where it was sampled, rising from 0 to 1.
        norms: The norm of the activation there.
        to_start: Per read-out, the distance of each answer from the one at 0.
        to_end: The same from the one at 1.
        steps: Per read-out, the distance from each answer to the next.
        floor: Per read-out, the distance between two runs of the first point in one batch.
    """

    t: Float[ndarray, " n"]
    norms: Float[ndarray, " n"]
    to_start: Mapping[str, Float[ndarray, " n"]]
    to_end: Mapping[str, Float[ndarray, " n"]]
    steps: Mapping[str, Float[ndarray, " m"]]
    floor: Mapping[str, float]

    def measures(self, read: str) -> CurveMeasures:
        """Return the numbers of the curve of one read-out."""
        return measure_curve(self.t, self.to_start[read], self.to_end[read], self.steps[read], self.floor[read])


def sample(carrier: Answers, along: Along, reads: Sequence[Read], points: int, extra: int) -> Sampled:
    """Return the distances along a path.

    The first point is run once more as the last row of the batch, so that what a batch's shape does to rounding is known; the answers at 0 and 1,
    which all others are compared with, come from the same batch as theirs.

    Args:
        carrier: The prompt, or anything that answers.
        along: The path.
        reads: What is read; the first decides where to look closer.
        points: Points of the even grid.
        extra: Points that are put where the first read-out changes most.
    """
    what = tuple(dict.fromkeys(read.what for read in reads))
    t = np.linspace(0.0, 1.0, points)
    rows = along(torch.from_numpy(np.append(t, 0.0)))
    answers = carrier.read(rows, what)
    floor = {read.name: float(read.distance(answers[read.what][-1], answers[read.what][0])) for read in reads}
    rows, answers = rows[:-1], {name: value[:-1] for name, value in answers.items()}
    # In rounds, since what lies within one step shows only once that step is divided.
    for count in (extra * (done + 1) // ROUNDS - extra * done // ROUNDS for done in range(ROUNDS)):
        if not count:
            continue
        lead = answers[reads[0].what]
        new = where_to_refine(t, two_sided(_far(reads[0], lead, lead[0]), _far(reads[0], lead, lead[-1])), count)
        closer = along(torch.from_numpy(new))
        more = carrier.read(closer, what)
        order = np.argsort(np.concatenate([t, new]), kind="stable")
        t, rows = np.concatenate([t, new])[order], torch.cat([rows, closer])[order]
        answers = {name: torch.cat([value, more[name]])[order] for name, value in answers.items()}
    return Sampled(
        t,
        rows.norm(dim=1).double().numpy(),
        {read.name: _far(read, answers[read.what], answers[read.what][0]) for read in reads},
        {read.name: _far(read, answers[read.what], answers[read.what][-1]) for read in reads},
        {read.name: read.distance(answers[read.what][1:], answers[read.what][:-1]).double().numpy() for read in reads},
        floor,
    )


def _far(read: Read, answers: Tensor, one: Tensor) -> Float[ndarray, " n"]:
    return read.distance(answers, one.expand_as(answers)).double().numpy()
