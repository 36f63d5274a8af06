"""Which units of a model are on, on each prompt? The signs at its nonlinearities, and the important subcomponents of a decomposition."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Shaped
from numpy import ndarray
from torch import Tensor, nn

from unbraid.core.errors import UserError
from unbraid.decompose.result import ALIVE_THRESHOLD, Decomposition
from unbraid.stability.engine.anchors import last_of
from unbraid.stability.engine.places import Place, blocks_of
from unbraid.targets.target import Target, apply


@torch.no_grad()
def gate_patterns(module: nn.Module, prompts: Shaped[Tensor, "n _"], after: Place, at_once: int = 64) -> Bool[ndarray, "n units"] | None:
    """Return where the input of each activation function after a place is positive, at the last position; None where the model has none as modules."""
    before = () if after.block is None else tuple(f"{path}." for path in blocks_of(module)[: after.block + 1])
    gates = [child for path, child in module.named_modules() if _is_activation(child) and not path.startswith(before)]
    if not gates:
        return None
    seen: list[Tensor] = []

    def hook(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen.append(last_of(args[0]) > 0)

    handles = [gate.register_forward_pre_hook(hook) for gate in gates]
    parts: list[ndarray] = []
    try:
        for chunk in prompts.split(at_once):
            seen.clear()
            apply(module, chunk)
            parts.append(torch.cat(seen, dim=1).numpy())
    finally:
        for handle in handles:
            handle.remove()
    return np.concatenate(parts)


def importance_patterns(
    decomposition: Decomposition, target: Target, prompts: Shaped[Tensor, "n _"], after: Place, at_once: int = 64
) -> Bool[ndarray, "n C"]:
    """Return which subcomponents after a place are important at the last position.

    Raises:
        UserError: The decomposition is of another model, or all of its sites come before the place.
    """
    if decomposition.target.fingerprint() != target.fingerprint():
        raise UserError(f"The decomposition is of another model, {decomposition.target.name!r}.", f"Give one of {target.name!r}.")
    before = () if after.block is None else tuple(f"{path}." for path in blocks_of(target.module)[: after.block + 1])
    parts: list[ndarray] = []
    for chunk in prompts.split(at_once):
        important = decomposition.importance(chunk)
        later = [last_of(g) > ALIVE_THRESHOLD for path, g in important.items() if not path.startswith(before)]
        if not later:
            raise UserError(f"No site of the decomposition comes after {after}.", "Choose an earlier place.")
        parts.append(torch.cat(later, dim=1).cpu().numpy())
    return np.concatenate(parts)


def _is_activation(module: nn.Module) -> bool:
    """Whether a module is an activation function of torch's or transformers': one number to one number, without weights."""
    home = type(module).__module__
    return home in ("torch.nn.modules.activation", "transformers.activations") and not any(True for _ in module.parameters())
