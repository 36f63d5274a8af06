"""How does a plain perceptron compute? Linear maps of their own names with ReLUs between, so that each of them can be a site."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unbraid.core.errors import UserError


class MLP(nn.Module):
    """`linearN(… ReLU(linear1(x)))`.

    Args:
        widths: Inputs, hidden layers, outputs.
        bias: Whether the maps have biases.
    """

    def __init__(self, widths: Sequence[int], bias: bool = False) -> None:
        super().__init__()
        self.depth = len(widths) - 1
        for layer, (d_in, d_out) in enumerate(pairwise(widths), start=1):
            self.add_module(f"linear{layer}", nn.Linear(d_in, d_out, bias=bias))
        self.relu = nn.ReLU()

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        """Return the output."""
        for layer in range(1, self.depth):
            x = self.relu(self.get_submodule(f"linear{layer}")(x))
        return self.get_submodule(f"linear{self.depth}")(x)

    def hidden(self, x: Float[Tensor, "*batch d_in"], layer: int) -> Float[Tensor, "*batch width"]:
        """Return the activations of hidden layer `layer`, counted from 1."""
        for index in range(1, layer + 1):
            x = self.relu(self.get_submodule(f"linear{index}")(x))
        return x

    def after(self, hidden: Float[Tensor, "*batch width"], layer: int) -> Float[Tensor, "*batch d_out"]:
        """Return the output that follows from activations of hidden layer `layer`, which may have been changed."""
        for index in range(layer + 1, self.depth):
            hidden = self.relu(self.get_submodule(f"linear{index}")(hidden))
        return self.get_submodule(f"linear{self.depth}")(hidden)


def seeded_mlp(widths: Sequence[int], bias: bool, seed: int) -> MLP:
    """Return an MLP with torch's own starting weights, drawn from a seed without touching the global stream."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MLP(widths, bias)


def as_mlp(module: nn.Module) -> MLP:
    """Return the module as an MLP.

    Raises:
        UserError: It is something else.
    """
    if not isinstance(module, MLP):
        raise UserError(f"The model is a {type(module).__name__}.", "Give the model that the toy's build() or load() returns.")
    return module
