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
        distance: `(clean [..., d], other [..., d], weights) -> scalar`, zero when they agree; `weights` [...] sum to 1 over
            positions, and None weighs them equally.
    """

    name: str
    unit: str
    distance: Callable[[Tensor, Tensor, Tensor | None], Tensor]


def mse(
    clean: Float[Tensor, "*batch d"], other: Float[Tensor, "*batch d"], weights: Float[Tensor, "*batch"] | None = None
) -> Float[Tensor, ""]:
    """Mean squared difference over output elements, averaged over positions."""
    if weights is None:
        return F.mse_loss(other, clean)
    return (other - clean).square().flatten(0, -2).T.mv(weights.flatten()).mean()


def kl(
    clean: Float[Tensor, "*batch d"], other: Float[Tensor, "*batch d"], weights: Float[Tensor, "*batch"] | None = None
) -> Float[Tensor, ""]:
    """KL(softmax(clean) ‖ softmax(other)) in nats, averaged over positions (Bushnaq et al. 2025, reconstruction loss)."""
    reference, log_other = F.log_softmax(clean, dim=-1), F.log_softmax(other, dim=-1)
    if weights is None:
        return F.kl_div(log_other, reference, log_target=True, reduction="sum") / (clean.numel() // clean.shape[-1])
    return (F.kl_div(log_other, reference, log_target=True, reduction="none").sum(-1) * weights).sum()


BEHAVIOURS = {"mse": Behaviour("mse", "squared output", mse), "kl": Behaviour("kl", "nats", kl)}


def behaviour_named(name: str) -> Behaviour:
    """Return the behaviour called `name`.

    Raises:
        UserError: There is none of that name.
    """
    if name not in BEHAVIOURS:
        raise unknown("behaviour", name, BEHAVIOURS)
    return BEHAVIOURS[name]
