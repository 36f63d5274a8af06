"""How well can modules be told at all? Two models trained on one task from different starts, their neurons matched, their labels compared.

No method that looks at one trained model can be asked to agree with the labels of another one better than this.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor


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
    ari = rand_index(first_labels[rows], second_labels[columns])
    return Ceiling(ari, len(rows), float(correlation[rows, columns].mean()))


def rand_index(first: Int[Tensor, " n"], second: Int[Tensor, " n"]) -> float:
    """Return the adjusted Rand index of two partitions (Hubert & Arabie 1985): 1 for equal ones, 0 on average for unrelated ones."""
    _, a = first.unique(return_inverse=True)
    _, b = second.unique(return_inverse=True)
    table = torch.zeros(int(a.max()) + 1, int(b.max()) + 1, dtype=torch.float64)
    table.index_put_((a, b), torch.ones(len(a), dtype=torch.float64), accumulate=True)
    both, rows, columns = (_pairs(counts) for counts in (table, table.sum(1), table.sum(0)))
    chance = rows * columns / max(_pairs(table.sum()), 1.0)
    most = (rows + columns) / 2
    return 1.0 if most == chance else (both - chance) / (most - chance)


def _pairs(counts: Float[Tensor, "..."]) -> float:
    """Return how many pairs lie within the same cell."""
    return float((counts * (counts - 1) / 2).sum())


def _standard(x: Float[Tensor, "batch n"]) -> Float[Tensor, "batch n"]:
    """Return columns of mean 0 and variance 1; a constant column becomes 0."""
    centred = x - x.mean(0)
    return centred / centred.square().mean(0).sqrt().clamp(min=1e-12)
