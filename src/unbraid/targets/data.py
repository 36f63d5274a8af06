"""Where do a target's inputs come from? A source draws a batch for a step from a generator, so that its place can be saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float
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
        # One draw serves both questions: u < p says that the feature is on, and u / p is then uniform on [0, 1).
        u = torch.rand(size, self.n_features, generator=generator, device=generator.device)
        values = (
            torch.add(u.mul(1 / self.probability), 0.0)
            if self.low == 0.0 and self.high == 1.0
            else torch.add(u.mul((self.high - self.low) / self.probability), self.low)
        )
        return torch.where(u < self.probability, values, 0.0)


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
        UserError: It is none of these, or an empty sequence.
    """
    if isinstance(source, Data):
        return source
    if callable(source):
        return Drawn(cast("Callable[[int, torch.Generator], Batch]", source))
    if isinstance(source, Tensor):
        source = [source]
    if isinstance(source, Sequence) and len(cast("Sequence[object]", source)) > 0:
        return Batches(cast("Sequence[Batch]", source))
    given = "an empty sequence" if isinstance(source, Sequence) else type(source).__name__
    raise UserError(
        f"The data is {given}.", "Give a list of batches (use list(...) on a loader), or a function (size, generator) -> batch."
    )


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
