"""A small transformer in which one token chooses among algorithms: add modulo p, maximum, copy, and the maximum of a sum, which uses both.

What is planted: the neurons of two MLPs are cut into blocks, "add" in the first, "max" and "copy" in the second, and an operation uses only
its blocks. A network that is merely trained need not keep to that, so this one is trained with interchange interventions (Geiger et al.
2022), strictly (Gupta et al. 2024, InterpBench): a block that two inputs use is swapped between them and must give the answer that
its swapped result would, and what an operation does not use must not matter to it. The last is asked for as silence: what a
block writes is read out linearly, so a block that spoke in operations which do not use it could not be ignored by them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from unbraid.core.errors import UserError
from unbraid.targets.class_panel import class_panel
from unbraid.targets.panel import Panel
from unbraid.targets.sites import weight_of
from unbraid.targets.toy import Check, Toy, Trained, toys
from unbraid.targets.transformer import Block
from unbraid.targets.truth import SiteTruth, Truth

OPERATIONS = ("add", "max", "copy", "max of sum")
BLOCKS = ("add", "max", "copy")
ADD, MAX, COPY = range(3)
USES = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]]).bool()
"""Which blocks each operation uses."""
LAYERS = ("first", "second")
LAYER_OF = (0, 1, 1)
"""In which MLP each block lies."""


@dataclass(frozen=True)
class Questions:
    """`a b c operation`: the operands are uniform, the maximum of a sum has a share of its own, the other operations share the rest alike."""

    p: int
    composed: float

    def batch(self, step: int, size: int, generator: torch.Generator) -> Int[Tensor, "batch 4"]:
        """Draw `size` questions; `step` plays no part."""
        device = generator.device
        shares = torch.tensor([(1 - self.composed) / 3] * 3 + [self.composed], device=device)
        operation = torch.multinomial(shares, size, replacement=True, generator=generator)
        operands = torch.randint(0, self.p, (size, 3), generator=generator, device=device)
        return torch.cat([operands, self.p + operation[:, None]], dim=1)


class MLP(nn.Module):
    """An MLP that adds to the stream."""

    def __init__(self, d_model: int, d_mlp: int) -> None:
        super().__init__()
        self.mlp_in = nn.Linear(d_model, d_mlp, bias=False)
        self.relu = nn.ReLU()
        self.mlp_out = nn.Linear(d_mlp, d_model, bias=False)

    def neurons(self, stream: Float[Tensor, "batch d_model"]) -> Float[Tensor, "batch d_mlp"]:
        """Return the activations."""
        return self.relu(self.mlp_in(stream))

    def forward(self, stream: Float[Tensor, "batch d_model"]) -> Float[Tensor, "batch d_model"]:
        """Return the stream after the MLP."""
        return stream + self.mlp_out(self.neurons(stream))


class Calculator(nn.Module):
    """Attention from the last token, which is the operation, to the operands, then two MLPs there.

    Args:
        p: Numbers.
        d_model: Width of the stream.
        n_heads: Heads; divides `d_model`.
        widths: Neurons of the two MLPs.
    """

    def __init__(self, p: int, d_model: int, n_heads: int, widths: tuple[int, int]) -> None:
        super().__init__()
        self.embed = nn.Embedding(p + len(OPERATIONS), d_model)
        self.place = nn.Embedding(4, d_model)
        self.gather = Block(d_model, n_heads, 0)
        self.first = MLP(d_model, widths[0])
        self.second = MLP(d_model, widths[1])
        self.unembed = nn.Linear(d_model, p, bias=False)

    def gathered(self, tokens: Int[Tensor, "batch 4"]) -> Float[Tensor, "batch d_model"]:
        """Return what the first MLP reads."""
        return self.gather(self.embed(tokens) + self.place.weight, read=slice(-1, None))[:, 0]

    def forward(self, tokens: Int[Tensor, "batch 4"]) -> Float[Tensor, "batch p"]:
        """Return the logits."""
        return self.unembed(self.second(self.first(self.gathered(tokens))))
