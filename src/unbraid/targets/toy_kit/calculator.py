"""How does a small transformer calculate, and what should it answer? Its model, its questions, and the algorithm that they ask for.

A question is `a b c operation`. The operations are a + b modulo p, the larger of a and b, a itself, and the larger of c and a + b modulo p,
which uses the sum. Attention brings the operands to the operation's position, and two MLPs calculate there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from unbraid.targets.toy_kit.transformer import Block

OPERATIONS = ("add", "max", "copy", "max of sum")
BLOCKS = ("add", "max", "copy")
ADD, MAX, COPY, BOTH = range(4)
LAYERS = ("first", "second")
LAYER_OF = (0, 1, 1)
"""The MLP in which each block of neurons lies: the sum must be there before its maximum is taken."""


@dataclass(frozen=True)
class Questions:
    """Uniform operands; the maximum of a sum has a share of its own, and the other operations have the rest in equal parts."""

    p: int
    composed: float

    def batch(self, step: int, size: int, generator: torch.Generator) -> Int[Tensor, "batch 4"]:
        """Draw `size` questions; `step` plays no part."""
        device = generator.device
        shares = torch.tensor([(1 - self.composed) / 3] * 3 + [self.composed], device=device)
        operation = torch.multinomial(shares, size, replacement=True, generator=generator)
        operands = torch.randint(0, self.p, (size, 3), generator=generator, device=device)
        return torch.cat([operands, self.p + operation[:, None]], dim=1)

    def all(self) -> Int[Tensor, "questions 4"]:
        """Return every question once."""
        numbers = torch.arange(self.p)
        return torch.cartesian_prod(numbers, numbers, numbers, self.p + torch.arange(len(OPERATIONS)))


def uses(operation: Int[Tensor, " batch"]) -> Bool[Tensor, "batch 3"]:
    """Return which blocks each operation uses."""
    both = operation == BOTH
    return torch.stack([(operation == ADD) | both, (operation == MAX) | both, operation == COPY], dim=1)


def results(
    tokens: Int[Tensor, "batch 4"], p: int, given: Int[Tensor, "batch 3"] | None = None, swap: Bool[Tensor, "batch 3"] | None = None
) -> Int[Tensor, "batch 3"]:
    """Return what each block should find; those of `swap` are given, and what follows from them follows."""
    a, b, c, last = tokens.unbind(1)

    def chosen(block: int, own: Tensor) -> Tensor:
        return own if given is None or swap is None else torch.where(swap[:, block], given[:, block], own)

    total = chosen(ADD, (a + b).remainder(p))
    largest = chosen(MAX, torch.where(last - p == BOTH, torch.maximum(total, c), torch.maximum(a, b)))
    return torch.stack([total, largest, chosen(COPY, a)], dim=1)


def answer(operation: Int[Tensor, " batch"], found: Int[Tensor, "batch 3"]) -> Int[Tensor, " batch"]:
    """Return which of the blocks' results is asked for."""
    return found.gather(1, torch.where(operation == BOTH, MAX, operation)[:, None])[:, 0]


class MLP(nn.Module):
    """An MLP that adds to the stream."""

    def __init__(self, d_model: int, d_mlp: int) -> None:
        super().__init__()
        self.mlp_in = nn.Linear(d_model, d_mlp, bias=False)
        self.relu = nn.ReLU()
        self.mlp_out = nn.Linear(d_mlp, d_model, bias=False)

    def forward(self, stream: Float[Tensor, "batch d_model"]) -> Float[Tensor, "batch d_model"]:
        """Return what is added."""
        return self.mlp_out(self.relu(self.mlp_in(stream)))


@dataclass(frozen=True)
class Run:
    """What a calculator computes on the way.

    Attributes:
        before: What the neurons of both MLPs receive.
        neurons: Their activations.
        logits: The answers.
    """

    before: tuple[Float[Tensor, "batch w"], Float[Tensor, "batch w2"]]
    neurons: tuple[Float[Tensor, "batch w"], Float[Tensor, "batch w2"]]
    logits: Float[Tensor, "batch p"]


class Calculator(nn.Module):
    """Attention from the operation to the operands, then two MLPs at that one position, without biases.

    Args:
        p: Numbers.
        d_model: Width of the stream.
        n_heads: Heads; divides `d_model`.
        neurons: Neurons of each block.
    """

    def __init__(self, p: int, d_model: int, n_heads: int, neurons: Sequence[int]) -> None:
        super().__init__()
        self.neurons = tuple(neurons)
        self.embed = nn.Embedding(p + len(OPERATIONS), d_model)
        self.place = nn.Embedding(4, d_model)
        self.gather = Block(d_model, n_heads, 0)
        widths = [sum(n for n, layer in zip(neurons, LAYER_OF, strict=True) if layer == index) for index in range(2)]
        self.first, self.second = (MLP(d_model, width) for width in widths)
        self.unembed = nn.Linear(d_model, p, bias=False)

    @property
    def owners(self) -> tuple[Int[Tensor, " w"], Int[Tensor, " w2"]]:
        """The block of each neuron of both MLPs."""
        first, second = (
            torch.cat([torch.full((n,), block) for block, n in enumerate(self.neurons) if LAYER_OF[block] == layer]) for layer in range(2)
        )
        return first, second

    def forward(self, tokens: Int[Tensor, "batch 4"]) -> Float[Tensor, "batch p"]:
        """Return the logits."""
        stream = self.gathered(tokens)
        stream = stream + self.first(stream)
        return self.unembed(stream + self.second(stream))

    def gathered(self, tokens: Int[Tensor, "batch 4"]) -> Float[Tensor, "batch d_model"]:
        """Return what the first MLP reads."""
        return self.gather(self.embed(tokens) + self.place.weight, read=slice(-1, None))[:, 0]

    def run(
        self,
        tokens: Int[Tensor, "batch 4"],
        given: Run | None = None,
        swap: Bool[Tensor, "batch 3"] | None = None,
        mute: Bool[Tensor, "batch 3"] | None = None,
    ) -> Run:
        """Calculate, with some blocks put out of action; what follows from them is computed anew.

        Args:
            tokens: The questions.
            given: Another run.
            swap: Blocks that take their activations from it.
            mute: Blocks whose neurons are zero, whatever they receive.
        """
        stream = self.gathered(tokens)
        before: list[Tensor] = []
        after: list[Tensor] = []
        for layer, (mlp, owner) in enumerate(zip((self.first, self.second), self.owners, strict=True)):
            before.append(mlp.mlp_in(stream))
            active = mlp.relu(before[-1])
            if given is not None and swap is not None:
                active = torch.where(swap[:, owner], given.neurons[layer], active)
            if mute is not None:
                active = active * ~mute[:, owner]
            after.append(active)
            stream = stream + mlp.mlp_out(active)
        return Run((before[0], before[1]), (after[0], after[1]), self.unembed(stream))


def reordered(run: Run, order: Int[Tensor, " batch"]) -> Run:
    """Return a run with its inputs in another order."""
    (b1, b2), (n1, n2) = run.before, run.neurons
    return Run((b1[order], b2[order]), (n1[order], n2[order]), run.logits[order])
