"""What is the same model before it learned anything? The same shapes with weights drawn as its makers draw them."""

from __future__ import annotations

import copy

import torch
from torch import nn

from unbraid.core.errors import UserError


def untrained(module: nn.Module, seed: int) -> nn.Module:
    """Return a copy of a model with fresh weights.

    A transformers model draws them by its own rule; elsewhere every module with `reset_parameters` draws its own.

    Args:
        module: The model; it is not changed.
        seed: Decides the weights.

    Raises:
        UserError: Some parameter belongs to no module that knows how to draw it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = getattr(module, "config", None)
        if config is not None and hasattr(module, "generate"):
            fresh = type(module)(config)
            fresh.load_state_dict({name: buffer for name, buffer in module.named_buffers() if name in fresh.state_dict()}, strict=False)
            return fresh.to(next(module.parameters()).device).eval().requires_grad_(False)
        fresh = copy.deepcopy(module)
        known: set[int] = set()
        for child in fresh.modules():
            reset = getattr(child, "reset_parameters", None)
            if callable(reset):
                reset()
                known |= {id(parameter) for parameter in child.parameters(recurse=False)}
        unknown = [name for name, parameter in fresh.named_parameters() if id(parameter) not in known]
        if unknown:
            raise UserError(
                f"Nobody knows how {unknown[0]!r} is drawn: its module has no reset_parameters.",
                "Give the untrained model yourself, or leave this control out.",
            )
        return fresh.eval().requires_grad_(False)
