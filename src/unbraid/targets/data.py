"""Where do a target's inputs come from? A source draws a batch for a step from a generator, so that its place can be saved."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unbraid.core.errors import UserError

Batch = Tensor | Mapping[str, Tensor] | tuple[Tensor, ...]


@runtime_checkable
class Data(Protocol):
    """A source of inputs that holds no state of its own: the same step and generator give the same batch."""

    def batch(self, step: int, size: int, generator: torch.Generator) -> Batch:
        """Return the batch of a step."""
        ...


@dataclass(frozen=True)
class Weighted:
    """A batch in which equal inputs stand once.

    Attributes:
        inputs: The distinct inputs.
        weights: The share of the batch that each stands for, [rows]; they sum to 1.
        size: How many inputs they stand for together.
    """

    inputs: Tensor
    weights: Float[Tensor, " rows"]
    size: int


@runtime_checkable
class SharesEqual(Protocol):
    """A source that can give a batch with equal inputs standing once."""

    def distinct(self, step: int, size: int, generator: torch.Generator) -> Weighted:
        """Return the batch of a step as its distinct inputs and their weights."""
        ...


@runtime_checkable
class PutsNoise(Protocol):
    """A source that puts noise on its inputs, and can also give inputs without it."""

    def clean(self, size: int, generator: torch.Generator) -> Tensor:
        """Draw inputs without the noise."""
        ...


@dataclass(frozen=True)
class SparseFeatures:
    """Independent sparse features: each is uniform on [low, high] with the given probability and 0 otherwise.

    Source: Elhage et al. 2022, "Toy Models of Superposition"; Bushnaq et al. 2025 (SPD), section 3.
    """

    n_features: int
    probability: float
    low: float = 0.0
    high: float = 1.0

    def batch(self, step: int, size: int, generator: torch.Generator) -> Float[Tensor, "batch n_features"]:
        """Draw `size` inputs; `step` plays no part, since the generator holds the place."""
        x = torch.zeros(size * self.n_features, device=generator.device)
        on = bernoulli_positions(x.numel(), self.probability, generator)
        x[on] = torch.rand(on.numel(), generator=generator, device=generator.device).mul_(self.high - self.low).add_(self.low)
        return x.view(size, self.n_features)

    def distinct(self, step: int, size: int, generator: torch.Generator) -> Weighted:
        """Draw the same inputs as `batch`, with those that have no feature on, which are all alike, standing once.

        Nothing changes in expectation or in the value of any mean over inputs, and sparse features cost only the rows that say something.
        """
        x = self.batch(step, size, generator)
        # A matrix product finds the rows with something in them several times faster than `any`.
        rows = (x.abs() @ x.new_ones(self.n_features)).nonzero()[:, 0]
        if len(rows) == size:
            return Weighted(x, x.new_full((size,), 1 / size), size)
        weights = x.new_full((len(rows) + 1,), 1 / size)
        weights[0] = (size - len(rows)) / size
        return Weighted(torch.cat([x.new_zeros(1, self.n_features), x[rows]]), weights, size)


def bernoulli_positions(count: int, probability: float, generator: torch.Generator) -> Int[Tensor, " on"]:
    """Return which of `count` independent trials succeed, by drawing the gaps between successes (geometric) rather than every trial.

    For rare features this draws a hundredth of the random numbers.
    """
    if not 0 < probability < 1:
        if probability <= 0:
            return torch.zeros(0, dtype=torch.int64, device=generator.device)
        return torch.arange(count, device=generator.device)
    expected = count * probability
    draws, last, found = int(expected + 6 * math.sqrt(expected) + 8), -1, list[Tensor]()
    while last < count:
        u = torch.rand(draws, generator=generator, device=generator.device, dtype=torch.float64)
        gaps = torch.log1p(-u).div_(math.log1p(-probability)).floor_().long() + 1
        positions = gaps.cumsum(0) + last
        found.append(positions)
        last = int(positions[-1])
    positions = torch.cat(found)
    return positions[positions < count]


@dataclass(frozen=True)
class Batches:
    """Batches that somebody else made, taken in order and again from the start."""

    batches: Sequence[Batch]

    def batch(self, step: int, size: int, generator: torch.Generator) -> Batch:
        """Return batch number `step` modulo their count; its size is the one it was made with."""
        return self.batches[step % len(self.batches)]


@dataclass(frozen=True)
class Drawn:
    """Batches drawn by a function `(size, generator) -> batch`."""

    draw: Callable[[int, torch.Generator], Batch]

    def batch(self, step: int, size: int, generator: torch.Generator) -> Batch:
        """Draw the batch with the run's own generator."""
        return self.draw(size, generator)


def as_data(source: object) -> Data:
    """Accept a source, a sequence of batches, or a function `(size, generator) -> batch`.

    Raises:
        UserError: It is none of these, an empty sequence, or its batches hold something else than tensors.
    """
    if isinstance(source, Data):
        return source
    if callable(source):
        return Drawn(cast("Callable[[int, torch.Generator], Batch]", source))
    if isinstance(source, Tensor):
        source = [source]
    if isinstance(source, Sequence) and len(cast("Sequence[object]", source)) > 0:
        return Batches([_as_batch(batch) for batch in cast("Sequence[object]", source)])
    given = "an empty sequence" if isinstance(source, Sequence) else type(source).__name__
    raise UserError(
        f"The data is {given}.", "Give a list of batches (use list(...) on a loader), or a function (size, generator) -> batch."
    )


def _as_batch(value: object) -> Batch:
    """Accept a batch as a loader gives it, which may be a list."""
    if isinstance(value, Tensor):
        return value
    packed = isinstance(value, (tuple, list, Mapping))
    parts: list[object] = list(cast("Mapping[str, object]", value).values() if isinstance(value, Mapping) else value) if packed else [value]
    wrong = [type(part).__name__ for part in parts if not isinstance(part, Tensor)]
    if wrong:
        raise UserError(f"A batch of the data holds {wrong[0]}.", "A batch is a tensor, or a tuple or keyword mapping of tensors.")
    return cast("Mapping[str, Tensor]", value) if isinstance(value, Mapping) else tuple(cast("list[Tensor]", parts))


def check_finite(batch: Batch) -> None:
    """Raise a UserError when a floating-point tensor of the batch holds NaN or infinity."""
    tensors = [batch] if isinstance(batch, Tensor) else batch.values() if isinstance(batch, Mapping) else batch
    for tensor in tensors:
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise UserError("The data holds NaN or infinity.", "Clean the batches before giving them to the target.")


def move(batch: Batch, device: torch.device) -> Batch:
    """Put every tensor of a batch on a device."""
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {name: tensor.to(device) for name, tensor in batch.items()}
    return tuple(tensor.to(device) for tensor in batch)


def draw(
    data: Data, step: int, size: int, generator: torch.Generator, every_input: bool = False
) -> tuple[Batch, Tensor | None, int | None]:
    """Draw a step's batch onto the generator's device.

    Args:
        data: The source.
        step: The step's number.
        size: How many inputs.
        generator: Draws them.
        every_input: Whether equal inputs must stand as often as they occur.

    Returns:
        The batch; and where equal inputs stand once, their weights [rows] and how many inputs they stand for, else None twice.
    """
    device = generator.device
    if isinstance(data, SharesEqual) and not every_input:
        weighted = data.distinct(step, size, generator)
        return move(weighted.inputs, device), weighted.weights.to(device), weighted.size
    return move(data.batch(step, size, generator), device), None, None
