"""How well can modules be told at all? Two models trained on one task from different starts, their neurons matched, their labels compared.

What two trained models do not agree on, training left open; a method that is asked about one of them can still agree with that one's own labels
better than this.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from unbraid.core.agreement import agreement


@dataclass(frozen=True)
class Ceiling:
    """How far two trained models agree on who serves whom.

    Attributes:
        ari: Adjusted Rand index of the labels of matched neurons.
        matched: How many neurons of the smaller model were matched.
        correlation: Mean correlation of the activations of matched neurons.
    """

    ari: float
    matched: int
    correlation: float


def seed_ceiling(
    first: Float[Tensor, "batch n"],
    second: Float[Tensor, "batch m"],
    first_labels: Int[Tensor, " n"],
    second_labels: Int[Tensor, " m"],
) -> Ceiling:
    """Return how far the labels agree once neurons are matched by their activations' correlation (Hungarian).

    Args:
        first: One model's activations on some inputs, without neurons that never fire.
        second: The other one's on the same inputs.
        first_labels: Whom each neuron serves.
        second_labels: The same.
    """
    correlation = _standard(first).T @ _standard(second) / len(first)
    rows, columns = (torch.as_tensor(index) for index in linear_sum_assignment(correlation.cpu().numpy(), maximize=True))
    ari = agreement(first_labels[rows].tolist(), second_labels[columns].tolist()).ari
    return Ceiling(ari, len(rows), float(correlation[rows, columns].mean()))


def _standard(x: Float[Tensor, "batch n"]) -> Float[Tensor, "batch n"]:
    """Return columns of mean 0 and variance 1; a constant column becomes 0."""
    centred = x - x.mean(0)
    return centred / centred.square().mean(0).sqrt().clamp(min=1e-12)
