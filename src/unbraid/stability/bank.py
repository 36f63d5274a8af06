"""Which activations are really there? Those of many prompts at one site, and what chance draws from their mean and covariance look like."""

from __future__ import annotations

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from unbraid.stability.places import INPUT, Place


def activations(
    module: nn.Module, prompts: Shaped[Tensor, "n _"], place: Place, position: int = -1, at_once: int = 64
) -> Float[Tensor, "n d"]:
    """Return what stands at a place when each prompt is run, at one position."""
    if place.path == INPUT:
        return prompts
    found: list[Tensor] = []
    for chunk in prompts.split(at_once):
        seen: list[Tensor] = []

        def keep(_module: nn.Module, _given: object, output: object, seen: list[Tensor] = seen) -> None:
            value = output[0] if isinstance(output, tuple) else output
            if isinstance(value, Tensor):
                seen.append(value)

        handle = module.get_submodule(place.path).register_forward_hook(keep)
        try:
            with torch.no_grad():
                module(chunk)
        finally:
            handle.remove()
        value = seen[0]
        found.append(value[:, position] if value.dim() > 2 else value.flatten(1))
    return torch.cat(found)


def drawn_alike(real: Float[Tensor, "m d"], count: int, generator: torch.Generator) -> Float[Tensor, "count d"]:
    """Draw from the Gaussian with the mean and covariance of real activations, as far as they span the space.

    A draw is a random combination of the centred activations themselves, so that no covariance is formed or inverted.
    """
    mean = real.mean(0)
    weights = torch.randn(count, len(real), generator=generator, dtype=real.dtype) / max(len(real) - 1, 1) ** 0.5
    return mean + weights @ (real - mean)
