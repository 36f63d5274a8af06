"""What does a model have at a place, and answer, on each of many prompts? Read from its own undisturbed pass."""

from __future__ import annotations

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from unbraid.core.errors import UserError
from unbraid.stability.places import INPUT, Place
from unbraid.targets.target import apply


@torch.no_grad()
def anchors_of(
    module: nn.Module, prompts: Shaped[Tensor, "n _"], place: Place, at_once: int = 64
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n k"]]:
    """Return the activation at the place and the model's output, both at the last position, of prompts of one length.

    The second one is what a measurement with exchanged activations must give back when nothing was exchanged.

    Raises:
        UserError: The place is not reached, or the model reads tokens and the place is its input.
    """
    found: list[Tensor] = []
    outputs: list[Tensor] = []
    for chunk in prompts.split(at_once):
        seen: list[Tensor] = []
        if place.path == INPUT:
            if not chunk.is_floating_point():
                raise UserError("The input of this model is tokens, which cannot be moved a little.", "Give a block's number, such as 0.")
            seen.append(chunk)
            outputs.append(apply(module, chunk))
        else:
            handle = module.get_submodule(place.path).register_forward_hook(
                lambda _module, _args, output: seen.append(output[0] if isinstance(output, tuple) else output)
            )
            try:
                outputs.append(apply(module, chunk))
            finally:
                handle.remove()
        if not seen:
            raise UserError(f"{place.path!r} is not used in the forward pass.", "Choose another site.")
        found.append(_last(seen[-1]))
    return torch.cat(found), torch.cat([_last(output) for output in outputs])


def relative_error(found: Float[Tensor, "n k"], own: Float[Tensor, "n k"]) -> float:
    """Return the largest difference between answers and the model's own, as a share of the own answer's norm."""
    norms = own.norm(dim=-1).clamp(min=torch.finfo(own.dtype).tiny)
    return float(((found - own).norm(dim=-1) / norms).max())


def _last(value: Tensor) -> Tensor:
    return value[:, -1] if value.dim() == 3 else value.flatten(1)
