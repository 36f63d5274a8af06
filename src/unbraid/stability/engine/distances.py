"""How far apart are two answers of a model? What is read of it downstream, and the distance that is taken there."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from unbraid.core.errors import unknown

Distance = Callable[[Float[Tensor, "*batch k"], Float[Tensor, "*batch k"]], Float[Tensor, "*batch"]]


def euclidean(a: Float[Tensor, "*batch k"], b: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch"]:
    """Return the Euclidean distance, from the differences themselves."""
    return (a - b).norm(dim=-1)


def divergence_bits(a: Float[Tensor, "*batch k"], b: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch"]:
    """Return the Jensen-Shannon divergence between the distributions that two rows of logits stand for, in bits, within [0, 1]."""
    log_a, log_b = F.log_softmax(a, dim=-1), F.log_softmax(b, dim=-1)
    log_middle = torch.logaddexp(log_a, log_b) - math.log(2)
    each = (log_a.exp() * (log_a - log_middle) + log_b.exp() * (log_b - log_middle)).sum(-1) / 2
    return (each / math.log(2)).clamp(0, 1)


def root_divergence(a: Float[Tensor, "*batch k"], b: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch"]:
    """Return the square root of the Jensen-Shannon divergence, which is a metric (Endres and Schindelin 2003), in √bits."""
    return divergence_bits(a, b).sqrt()


@dataclass(frozen=True)
class Read:
    """What is read of a model's answer.

    Attributes:
        name: How settings call it.
        what: "logits" for the model's output, "final" for that of the last block.
        distance: How far apart two of them are.
        title: How a figure calls it.
    """

    name: str
    what: str
    distance: Distance
    title: str


READS = {
    read.name: read
    for read in (
        Read("logits", "logits", euclidean, "logits, L2"),
        Read("final", "final", euclidean, "last block, L2"),
        Read("distribution", "logits", root_divergence, "next-token distribution, √JSD"),
    )
}


def read_named(name: str) -> Read:
    """Return the read-out of that name; a module's path reads that module's output, by Euclidean distance.

    Raises:
        UserError: There is none of that name and it is no path (paths have a dot).
    """
    if name in READS:
        return READS[name]
    if "." not in name:
        raise unknown("read-out", name, READS)
    return Read(name, name, euclidean, f"{name}, L2")
