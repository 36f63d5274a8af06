"""How far apart are two outputs of a model, and in which unit? That distance is what a decomposition must preserve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from unbraid.core.errors import unknown


@dataclass(frozen=True)
class Behaviour:
    """A distance between the model's own output and another one.

    Attributes:
        name: How settings and reports call it.
        unit: The unit of its value.
        distance: `(clean [..., d], other [..., d]) -> [...]`, one number per position, zero where they agree.
    """

    name: str
    unit: str
    distance: Callable[[Tensor, Tensor], Tensor]

    def between(self, clean: Tensor, other: Tensor, weights: Float[Tensor, "*batch"] | None = None) -> Float[Tensor, ""]:
        """Return the distance averaged over positions, with their weights (which sum to 1) or equally."""
        each = self.distance(clean, other)
        return each.mean() if weights is None else torch.dot(each.flatten(), weights.flatten())


def mse(clean: Float[Tensor, "*batch d"], other: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
    """Mean squared difference over output elements."""
    return (other - clean).square().mean(-1)


def kl(clean: Float[Tensor, "*batch d"], other: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
    """KL(softmax(clean) ‖ softmax(other)) in nats (Bushnaq et al. 2025, reconstruction loss)."""
    log_clean, log_other = F.log_softmax(clean, dim=-1), F.log_softmax(other, dim=-1)
    return F.kl_div(log_other, log_clean, log_target=True, reduction="none").sum(-1)


BEHAVIOURS = {"mse": Behaviour("mse", "squared output", mse), "kl": Behaviour("kl", "nats", kl)}


def behaviour_named(name: str) -> Behaviour:
    """Return the behaviour called `name`.

    Raises:
        UserError: There is none of that name.
    """
    if name not in BEHAVIOURS:
        raise unknown("behaviour", name, BEHAVIOURS)
    return BEHAVIOURS[name]
