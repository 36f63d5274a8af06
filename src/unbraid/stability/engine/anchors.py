"""What does a model have at a place, and answer, on each of many prompts? Read from its own undisturbed pass."""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from unbraid.core.errors import UserError
from unbraid.stability.engine.places import INPUT, Place
from unbraid.targets.target import apply


@torch.no_grad()
def anchors_of(
    module: nn.Module, prompts: Shaped[Tensor, "n _"], place: Place, position: int = -1, at_once: int = 64
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n k"]]:
    """Return the activation at the place and one position, and the model's output at the last one, of prompts of one length.

    The second one is what a measurement with exchanged activations must give back when nothing was exchanged.

    Raises:
        UserError: The place is not reached, or the model reads tokens and the place is its input.
    """
    if place.path == INPUT:
        if not prompts.is_floating_point():
            raise UserError("The input of this model is tokens, which cannot be moved a little.", "Give a block's number, such as 0.")
        return prompts, torch.cat([last_of(apply(module, chunk)) for chunk in prompts.split(at_once)])
    seen: list[Tensor] = []

    def hook(_module: nn.Module, _args: object, output: object) -> None:
        first = cast("tuple[object, ...]", output)[0] if isinstance(output, tuple) else output
        seen.append(one_of(cast(Tensor, first), position))

    handle = module.get_submodule(place.path).register_forward_hook(hook)
    try:
        outputs = [last_of(apply(module, chunk)) for chunk in prompts.split(at_once)]
    finally:
        handle.remove()
    if len(seen) != len(outputs):
        raise UserError(f"{place.path!r} is used {len(seen) // len(outputs)} times in a forward pass.", "Choose a site that is used once.")
    return torch.cat(seen), torch.cat(outputs)


def one_of(value: Tensor, position: int) -> Float[Tensor, "n k"]:
    """Return one position of [n, pos, k]; what has no positions as rows."""
    return value[:, position] if value.dim() == 3 else value.flatten(1)


def last_of(value: Tensor) -> Float[Tensor, "n k"]:
    """Return the last position of [n, pos, k]; what has no positions as rows."""
    return one_of(value, -1)


def relative_error(found: Float[Tensor, "n k"], own: Float[Tensor, "n k"]) -> float:
    """Return the largest difference between answers and the model's own, as a share of the own answer's norm."""
    norms = own.norm(dim=-1).clamp(min=torch.finfo(own.dtype).tiny)
    return float(((found - own).norm(dim=-1) / norms).max())
