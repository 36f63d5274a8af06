"""Which real activations is a question asked at, and on what scale? Anchors that are moved, and a pool of others that directions are made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from unbraid.stability.engine.carrier import Carrier
from unbraid.stability.engine.distances import Distance, Read, root_divergence
from unbraid.stability.engine.places import Place
from unbraid.stability.radius.rays import Response

AT_ONCE = 256


@dataclass(frozen=True)
class Threshold:
    """When an answer counts as another one.

    Attributes:
        name: How reports call it.
        read: What is read, and the distance.
        tau: The distance.
    """

    name: str
    read: Read
    tau: float


@dataclass(frozen=True)
class Anchors:
    """Real activations at one place.

    Attributes:
        carriers: The prompts whose activation is moved.
        pool: Activations of other prompts, [pool, d].
        answers: What is read → the answers of all of them, anchors first, [anchors + pool, k].
    """

    carriers: tuple[Carrier, ...]
    pool: Float[Tensor, "pool d"]
    answers: Mapping[str, Float[Tensor, "n k"]]

    @property
    def activations(self) -> Float[Tensor, "n d"]:
        """The activations of all, anchors first."""
        return torch.cat([torch.stack([carrier.anchor for carrier in self.carriers]), self.pool])

    def pair_distances(self, what: str, distance: Distance) -> Float[Tensor, " pairs"]:
        """Return how far apart the answers of disjoint pairs of prompts are, so that each pair is independent of the others."""
        return distance(*_pairs(self.answers[what]))

    def pair_spans(self, turns: bool) -> Float[Tensor, " pairs"]:
        """Return the angles between the activations of disjoint pairs in degrees, or their distances."""
        a, b = _pairs(self.activations)
        if not turns:
            return (a - b).norm(dim=1)
        a, b = torch.nn.functional.normalize(a, dim=1), torch.nn.functional.normalize(b, dim=1)
        return 2 * torch.atan2((a - b).norm(dim=1), (a + b).norm(dim=1)) * (180 / math.pi)


def _pairs(rows: Float[Tensor, "n k"]) -> tuple[Float[Tensor, "pairs k"], Float[Tensor, "pairs k"]]:
    """Return disjoint pairs of rows; the rows come in an order that says nothing about them."""
    half = len(rows) // 2
    return rows[:half], rows[half : 2 * half]


def gather(
    module: nn.Module,
    prompts: Shaped[Tensor, "n _"],
    count: int,
    place: Place,
    what: Sequence[str],
    tick: Callable[[str], None] = lambda text: None,
) -> Anchors:
    """Run every prompt once; the first `count` of them become anchors."""
    carriers: list[Carrier] = []
    pool: list[Tensor] = []
    answers: dict[str, list[Tensor]] = {name: [] for name in what}
    for index, prompt in enumerate(prompts):
        carrier = Carrier(module, prompt, place, at_once=AT_ONCE)
        for name, value in carrier.read(carrier.anchor[None], what).items():
            answers[name].append(value)
        if index < count:
            carriers.append(carrier)
        else:
            pool.append(carrier.anchor)
        if index % 32 == 0:
            tick(f"prompt {index} of {len(prompts)}")
    return Anchors(tuple(carriers), torch.stack(pool), {name: torch.cat(rows) for name, rows in answers.items()})


class Probe:
    """One anchor, asked how far its answer has moved.

    Args:
        carrier: The anchor's prompt.
        thresholds: What counts as another answer.
    """

    def __init__(self, carrier: Carrier, thresholds: Sequence[Threshold]) -> None:
        self.carrier, self.thresholds = carrier, tuple(thresholds)
        self.whats = tuple(dict.fromkeys(threshold.read.what for threshold in thresholds))
        with torch.no_grad():
            self.base = carrier.read(carrier.anchor[None], self.whats)

    def response(self, read: Read) -> Response:
        """Return the function from points to answers."""
        return lambda points: self.carrier.read(points, [read.what])[read.what]

    def distance(self, read: Read) -> Callable[[Float[Tensor, "n d"]], Float[Tensor, " n"]]:
        """Return the function from points to distances from the anchor's answer."""
        response = self.response(read)

        def distance(points: Tensor) -> Tensor:
            return torch.cat([self._moved(read, response(chunk)) for chunk in points.split(AT_ONCE)])

        return distance

    def progress(self, points: Float[Tensor, "n d"]) -> Float[Tensor, "n thresholds"]:
        """Return the distances from the anchor's answer in units of each threshold."""
        rows: list[Tensor] = []
        for chunk in points.split(AT_ONCE):  # answers over a vocabulary are large, distances are not
            answers = self.carrier.read(chunk, self.whats)
            each = [self._moved(t.read, answers[t.read.what]) / t.tau for t in self.thresholds]
            rows.append(torch.stack(each, dim=1))
        return torch.cat(rows)

    def _moved(self, read: Read, answers: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
        return read.distance(answers, self.base[read.what].expand_as(answers))

    def floor(self) -> float:
        """Return the progress that rounding alone makes: the anchor itself among a full batch."""
        rows = self.carrier.anchor.expand(AT_ONCE, -1).contiguous()
        return float(self.progress(rows).max())

    def coordinates(self, threshold: Threshold) -> tuple[Response, float]:
        """Return the answer in coordinates whose Euclidean distance is the threshold's near the anchor, and the threshold in those.

        √JSD in √bits is `|d(2√p)| / √(8 ln 2)` for small moves: JSD is an eighth of the Fisher metric.
        """
        response = self.response(threshold.read)
        if threshold.read.distance is root_divergence:
            return (lambda points: 2 * response(points).softmax(-1).sqrt()), threshold.tau * math.sqrt(8 * math.log(2))
        return response, threshold.tau
