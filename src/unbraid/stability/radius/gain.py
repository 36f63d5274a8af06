"""Does a block correct errors? By how much a small relative change of its input becomes a smaller, or larger, relative change of its output."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from unbraid.stability.engine.carrier import Carrier
from unbraid.stability.engine.places import Place, blocks_of
from unbraid.stability.radius.rays import Rays

OUTPUT = "output"


def stages_of(carrier: Carrier) -> list[str]:
    """Return what lies between the place and the end: the outputs of later blocks; the model's output where it has no blocks."""
    blocks = blocks_of(carrier.module)
    place: Place = carrier.place
    after = blocks[place.block + 1 :] if place.block is not None else ()
    return list(after) or [OUTPUT]


def relative_changes(carrier: Carrier, rays: Rays, radius: float, stages: Sequence[str]) -> Float[Tensor, "rays stages"]:
    """Return `‖Δ‖ / ‖·‖` of the activation itself, and then of what each stage gives, when the activation moves by a radius.

    Returns:
        [rays, 1 + stages]; NaN where what changes is zero to begin with.
    """
    points = torch.cat([carrier.anchor[None], rays.grid(torch.tensor([radius], dtype=torch.float64))])
    names = ["logits" if stage == OUTPUT else stage for stage in stages]
    with torch.no_grad():
        seen = carrier.read(points, names)
    values = [points, *(seen[name] for name in names)]
    changes = [(value[1:] - value[:1]).norm(dim=1) / value[0].norm() for value in values]
    return torch.stack([torch.where(change.isfinite(), change, torch.nan) for change in changes], dim=1)


def gains(changes: Float[ndarray, "*rays stages"]) -> Float[ndarray, "*rays gains"]:
    """Return κ of each stage, `(‖f(x+e) - f(x)‖ / ‖f(x)‖) / (‖e‖ / ‖x‖)`: below 1 where it corrects. Their product is the last change over the first.

    A stage meets the change as the stages before it left it.
    """
    return changes[..., 1:] / changes[..., :-1]
