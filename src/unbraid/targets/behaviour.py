"""How far apart are two outputs of a model, and in which unit? That distance is what a decomposition must preserve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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
        distance: `(clean [..., d], other [..., d]) -> scalar`, zero when they agree.
    """

    name: str
    unit: str
    distance: Callable[[Tensor, Tensor], Tensor]


def mse(clean: Float[Tensor, "*batch d"], other: Float[Tensor, "*batch d"]) -> Float[Tensor, ""]:
    """Mean squared difference over all output elements."""
    return F.mse_loss(other, clean)


def kl(clean: Float[Tensor, "*batch d"], other: Float[Tensor, "*batch d"]) -> Float[Tensor, ""]:
    """KL(softmax(clean) ‖ softmax(other)) in nats, averaged over positions (Braun et al. 2025, reconstruction loss)."""
    reference = F.log_softmax(clean, dim=-1)
    divergence = F.kl_div(F.log_softmax(other, dim=-1), reference, log_target=True, reduction="sum")
    return divergence / (clean.numel() // clean.shape[-1])


BEHAVIOURS = {"mse": Behaviour("mse", "squared output", mse), "kl": Behaviour("kl", "nats", kl)}


def behaviour_named(name: str) -> Behaviour:
    """Return the behaviour called `name`.

    Raises:
        UserError: There is none of that name.
    """
    if name not in BEHAVIOURS:
        raise unknown("behaviour", name, BEHAVIOURS)
    return BEHAVIOURS[name]
