"""What would a sceptic ask of a toy first? Its loss by feature and by crowding, its response, and its cross-terms, beside dumb and ideal answers.

A toy can look right for the wrong reason. Four measurements tell: the loss of each feature, the response to one feature alone and with
others on, the loss against how much is on at once, and how far two features' effects fail to add up. The naive answer lacks the mechanism;
the oracle's is the planted mechanism's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Response:
    """What one output says while one feature goes through its values, everything else off or as the data has it.

    Attributes:
        feature: Which feature, as a place in the panel's list.
        label: Why this one: "typical" (median loss) or "worst".
        output: Which output: the one that should move most.
        values: The feature's values.
        wanted: The right answer with nothing else on.
        alone: The model's answer with nothing else on.
        others_wanted: The mean right answer where other features are on too, as the data has them; None where it never has.
        others_mean: The model's mean answer on the same inputs.
        others_low: Its tenth percentile.
        others_high: Its ninetieth percentile.
        others_n: How many settings of the others.
    """

    feature: int
    label: str
    output: int
    values: Float[Tensor, " grid"]
    wanted: Float[Tensor, " grid"]
    alone: Float[Tensor, " grid"]
    others_wanted: Float[Tensor, " grid"] | None = None
    others_mean: Float[Tensor, " grid"] | None = None
    others_low: Float[Tensor, " grid"] | None = None
    others_high: Float[Tensor, " grid"] | None = None
    others_n: int = 0


@dataclass(frozen=True)
class Losses:
    """The loss beside the naive and the oracle's on the same inputs.

    Attributes:
        loss: The model's mean loss.
        error: Half the width of its 95 % interval over inputs.
        naive: The naive answer's.
        oracle: The oracle's.
        n: How many inputs.
        count: How much is on at once; None for all inputs together.
    """

    loss: float
    error: float
    naive: float
    oracle: float
    n: int
    count: int | None = None


@dataclass(frozen=True)
class Panel:
    """What a sceptic asks for first.

    Attributes:
        target: Which toy.
        unit: The unit of every loss.
        word: What a row of the per-feature losses is: "feature", "frequency", "operation" …
        features: Their names.
        loss_per_feature: The model's loss on inputs that ask for this one only.
        naive_per_feature: The naive answer's.
        oracle_per_feature: The oracle's.
        responses: Input-output responses of the typical and of the worst feature; none for classes.
        count_word: What `loss_by_active` counts: "active features", "distractors" …
        loss_by_active: Losses on inputs from the data, by how much is on at once.
        on_data: Losses over all those inputs.
        cross_features: Which features stand in the cross-terms.
        cross_terms: `|f(i, j) - f(i) - f(j) + f()|`, mean over their values and their two outputs; NaN on the diagonal.
        wanted_cross_terms: The same of the right answer.
        notes: What was left out or chosen, in sentences.
    """

    target: str
    unit: str
    word: str
    features: tuple[str, ...]
    loss_per_feature: Float[Tensor, " features"]
    naive_per_feature: Float[Tensor, " features"]
    oracle_per_feature: Float[Tensor, " features"]
    on_data: Losses
    responses: tuple[Response, ...] = ()
    count_word: str = ""
    loss_by_active: tuple[Losses, ...] = ()
    cross_features: tuple[int, ...] = ()
    cross_terms: Float[Tensor, "chosen chosen"] | None = None
    wanted_cross_terms: Float[Tensor, "chosen chosen"] | None = None
    notes: tuple[str, ...] = ()

    def tree(self) -> dict[str, Any]:
        """Return everything as JSON-ready values: numbers to five digits, what is not a number as null."""
        return {name: _plain(getattr(self, name)) for name in self.__dataclass_fields__}


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (Losses, Response)):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value


def losses_by_count(
    loss: Float[Tensor, " inputs"],
    naive: Float[Tensor, " inputs"],
    oracle: Float[Tensor, " inputs"],
    count: Float[Tensor, " inputs"],
    least: int = 20,
) -> tuple[Losses, ...]:
    """Return the mean losses for each count that at least `least` inputs have."""
    found: list[Losses] = []
    for value in count.unique().tolist():
        rows = count == value
        if int(rows.sum()) >= least:
            found.append(mean_losses(loss[rows], naive[rows], oracle[rows], count=int(value)))
    return tuple(found)


def mean_losses(
    loss: Float[Tensor, " inputs"], naive: Float[Tensor, " inputs"], oracle: Float[Tensor, " inputs"], count: int | None = None
) -> Losses:
    """Return mean losses; the interval is 1.96 standard errors of the mean over inputs."""
    n = loss.numel()
    error = 1.96 * float(loss.double().std()) / math.sqrt(n) if n > 1 else 0.0
    return Losses(_mean(loss), error, _mean(naive), _mean(oracle), n, count)


def _mean(values: Tensor) -> float:
    return float(values.double().mean())


def chunked(function: Callable[[Tensor], Tensor], inputs: Tensor, rows: int = 8192) -> Tensor:
    """Apply a function to many inputs without holding all its intermediate values at once."""
    with torch.no_grad():
        return torch.cat([function(part) for part in inputs.split(rows)])
