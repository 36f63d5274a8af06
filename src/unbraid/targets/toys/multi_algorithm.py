"""A small transformer in which one token chooses among algorithms: add modulo p, maximum, copy, and the maximum of a sum, which uses two.

What is planted: the neurons of two MLPs are cut into blocks, "add" in the first, "max" and "copy" in the second, and an operation uses
only its own. A network that is merely trained need not keep to that, so this one is trained with strict interchange interventions (Geiger
et al. 2022; Gupta et al. 2024, InterpBench): a block that two inputs both use is swapped between them and must give the answer that
its swapped result would, and a block that an operation does not use must not matter to it. The latter is asked for as silence:
what a block writes is read out linearly, so that one which spoke could not be ignored. The adder must do the same in both of
the operations that use it; without that its neurons fire differently in them, and less is shared than the labels say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from unbraid.core.errors import UserError
from unbraid.targets.matrices import weight_of
from unbraid.targets.panel import Panel
from unbraid.targets.toy import Check, Toy, Trained, toys
from unbraid.targets.toy_kit.calculator import (
    ADD,
    BLOCKS,
    BOTH,
    LAYERS,
    OPERATIONS,
    Calculator,
    Questions,
    Run,
    answer,
    reordered,
    results,
    uses,
)
from unbraid.targets.toy_kit.class_panel import class_panel
from unbraid.targets.truth import SiteTruth, Truth

EXAMPLES = 8192
IDLE = 1e-4
"""A neuron that writes less than this share of what its block writes, in squared length, belongs to no module."""
SILENCE = 5.0
"""Weight of silence in training."""
MARGIN = 0.1
"""How far below zero training pushes the neurons of blocks that are not used."""


@toys.register
class MultiAlgorithm(Toy):
    """Four operations on numbers below p, with a shared adder."""

    kind: Literal["multi-algorithm"] = "multi-algorithm"
    p: int = Field(default=7, ge=3)
    """Numbers run from 0 to p - 1."""
    composed: float = Field(default=0.25, gt=0, lt=1)
    """Share of the data that asks for the maximum of a sum; the other operations have the rest in equal parts."""
    d_model: PositiveInt = 32
    """Width of the stream."""
    n_heads: PositiveInt = 4
    """Heads that gather the operands."""
    neurons: tuple[PositiveInt, PositiveInt, PositiveInt] = (12, 12, 8)
    """Neurons of the blocks add, max and copy."""
    weight_decay: NonNegativeFloat = 0.1
    """AdamW's weight decay in training."""
    awake: NonNegativeFloat = 0.1
    """Weight in training of how far below zero neurons are in operations that use them: with it a block works as a whole, and a module
    shows in what is needed together; without it most neurons fire on few operands, and blocks look like several modules."""
    smoothing: float = Field(default=0.1, ge=0, lt=1)
    """Label smoothing in training: answers of a moderate confidence are ones that every used part has a say in."""

    summary: ClassVar[str] = "a transformer with 3 blocks of neurons, for sums, maxima and copies; a fourth operation uses two of them"
    lesson: ClassVar[str] = "a token chooses the circuit, and circuits share parts: the adder is one module though two operations need it"
    sites: ClassVar[tuple[str, ...]] = tuple(f"{layer}.{name}" for layer in LAYERS for name in ("mlp_in", "mlp_out"))
    behaviour: ClassVar[Literal["mse", "kl"]] = "kl"
    hidden_sites: ClassVar[tuple[str, str] | None] = ("second.mlp_in", "second.mlp_out")
    training_steps: ClassVar[int] = 3000
    training_batch: ClassVar[int] = 512
    recipe: ClassVar[Mapping[str, Any]] = {
        "steps": 3000,
        "batch_size": 1024,
        "components": 32,
        # Two blocks of one MLP never speak at once, so a piece that serves both costs nothing more; Gaussian starts end with such pieces.
        "initialisation": {"kind": "nonlinearity-aligned"},
        # Of 2, 4 and 8 units the first two left pieces on in operations that do not use them.
        "importance": {"kind": "layerwise-mlp", "hidden": 8},
        "prune": {"at": 0.7, "below": 0.2},
        "losses": {
            "stochastic": {"routing": "subset"},
            "faithfulness": {"coefficient": 1e-2, "relative": True},
            "minimality": {"coefficient": 1e-4},
        },
        "optimizer": {"factors": {"learning_rate": 3e-3}, "importance": {"learning_rate": 3e-3}},
    }

    def build(self) -> Calculator:
        """Return an untrained model."""
        module = Calculator(self.p, self.d_model, self.n_heads, self.neurons)
        with torch.no_grad():
            for embedding in (module.embed, module.place):
                embedding.weight.mul_(0.5)
        return module

    def data(self) -> Questions:
        """Return random operations and operands."""
        return Questions(self.p, self.composed)

    def operation(self, inputs: Int[Tensor, "batch 4"]) -> Int[Tensor, " batch"]:
        """Return each input's operation."""
        return inputs[:, -1] - self.p

    def wanted(self, inputs: Tensor) -> Tensor:
        """Return the number that is asked for."""
        return answer(self.operation(inputs), results(inputs, self.p))

    def naive(self, inputs: Tensor) -> Tensor:
        """Return the logits of somebody who knows the operation but not the operands: how often each number is its answer."""
        every = self.data().all()
        counts = torch.zeros(len(OPERATIONS), self.p).index_put_(
            (self.operation(every), self.wanted(every)), torch.tensor(1.0), accumulate=True
        )
        return counts.log().to(inputs.device)[self.operation(inputs)]

    def train(self, seed: int = 0) -> Trained:
        """Train on the answers, on the answers after a block was swapped, on silence of unused blocks, and on one way to add.

        Raises:
            UserError: Some operation is not learned.
        """
        generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):  # torch draws its layers' weights from the global stream
            torch.manual_seed(seed)
            module = self.build()
        optimizer = torch.optim.AdamW(module.parameters(), lr=5e-3, betas=(0.9, 0.98), weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=self.training_steps, pct_start=0.1)
        data = self.data()
        for step in range(self.training_steps):
            x = data.batch(step, self.training_batch, generator)
            # Answers are asked for with unused blocks silent, so that nothing is gained by what they say.
            mute = ~uses(self.operation(x))
            run = module.run(x, mute=mute)
            order = torch.randperm(len(x), generator=generator)
            swap = self._shared_block(x, order, generator)
            hybrid = module.run(x, reordered(run, order), swap, mute).logits
            # Order sets in once blocks have something to say; from the start it leaves them dead.
            late = min(1.0, max(0.0, 2 * step / self.training_steps - 0.3))
            disorder = SILENCE * self._noise(module, x, run) + self._two_ways(module, x)
            asked = ((run.logits, self.wanted(x)), (hybrid, self._hybrid(x, order, swap)))
            loss = sum((F.cross_entropy(*each, label_smoothing=self.smoothing) for each in asked), torch.zeros(()))
            optimizer.zero_grad()
            (loss + late * (disorder + self.awake * self._sleep(module, x, run))).backward()
            optimizer.step()
            schedule.step()
        self._bury(module)
        trained = self.measure(module)
        unlearned = [OPERATIONS[index] for index in trained.unlearned(share=0.15)]
        if unlearned:
            raise UserError(f"Training {self.kind} with seed {seed} left {unlearned} unlearned.", "Train again with another --seed.")
        return trained

    def _shared_block(self, x: Tensor, order: Tensor, generator: torch.Generator) -> Bool[Tensor, "batch 3"]:
        """Choose one block that each input and its partner both use; none where there is none."""
        both = uses(self.operation(x)) & uses(self.operation(x[order]))
        chosen = (both + torch.rand(both.shape, generator=generator)).argmax(1)
        return both & F.one_hot(chosen, len(BLOCKS)).bool()

    def _hybrid(self, x: Tensor, order: Tensor, swap: Tensor) -> Int[Tensor, " batch"]:
        """Return the right answer where some blocks found what they find on another input."""
        return answer(self.operation(x), results(x, self.p, results(x, self.p)[order], swap))

    def _noise(self, module: Calculator, x: Tensor, run: Run) -> Tensor:
        """Return how far neurons of unused blocks are from being silent, with a margin."""
        used = uses(self.operation(x))
        above = [(before + MARGIN).relu().square() * ~used[:, owner] for before, owner in zip(run.before, module.owners, strict=True)]
        return torch.stack([each.sum(1).mean() for each in above]).sum()

    def _sleep(self, module: Calculator, x: Tensor, run: Run) -> Tensor:
        """Return how far neurons of used blocks are from firing, with a margin."""
        used = uses(self.operation(x))
        below = [(MARGIN - before).relu() * used[:, owner] for before, owner in zip(run.before, module.owners, strict=True)]
        return torch.stack([each.sum(1).mean() for each in below]).sum()

    def _two_ways(self, module: Calculator, x: Tensor) -> Tensor:
        """Return how differently the adder's neurons fire on the same operands in the two operations that use it."""
        alone, composed = self._adders(module, x[: len(x) // 4])
        return (alone - composed).square().sum(1).mean()

    def _adders(self, module: Calculator, x: Tensor) -> tuple[Float[Tensor, "batch w"], Float[Tensor, "batch w"]]:
        first = module.first
        asked = [torch.cat([x[:, :-1], torch.full_like(x[:, -1:], self.p + operation)], dim=1) for operation in (ADD, BOTH)]
        alone, composed = (first.relu(first.mlp_in(module.gathered(each))) for each in asked)
        return alone, composed

    def measure(self, module: nn.Module) -> Trained:
        """Return the cross-entropy of each operation over all questions, beside that of knowing only the operation."""
        x = self.data().all()
        with torch.no_grad():
            loss = F.cross_entropy(module(x), self.wanted(x), reduction="none")
        naive = F.cross_entropy(self.naive(x), self.wanted(x), reduction="none")
        return Trained(module, *(self._by_operation(x, each) for each in (loss, naive)))

    def _by_operation(self, x: Tensor, values: Tensor) -> Float[Tensor, " operations"]:
        return torch.stack([values[self.operation(x) == index].float().mean() for index in range(len(OPERATIONS))])

    def truth(self, module: nn.Module) -> Truth:
        """Return one piece per neuron in each matrix, labelled with its block; a piece is on where its neuron fires."""
        model = as_calculator(module)
        sites: dict[str, SiteTruth] = {}
        for layer, (name, kept) in enumerate(zip(LAYERS, self._kept(model), strict=True)):
            mlp = model.get_submodule(name)
            M_in, M_out = (weight_of(mlp.get_submodule(site)) for site in ("mlp_in", "mlp_out"))
            units, owner = torch.eye(M_in.shape[1])[:, kept], model.owners[layer][kept]
            needed = self._needed(model, layer, kept, owner)
            on = self._on(owner)
            names = tuple(BLOCKS[block] for block in owner.tolist())
            for site, V, U in (("mlp_in", M_in[:, kept], units.T), ("mlp_out", units, M_out[kept])):
                sites[f"{name}.{site}"] = SiteTruth(V, U, "sparse", on=on, needed=needed, modules=names, any_basis=True)
        return Truth(sites=sites, bars={f"l0/{site}": (None, None) for site in sites})

    def _kept(self, model: Calculator) -> tuple[Int[Tensor, " kept"], Int[Tensor, " kept2"]]:
        """Return the neurons of both MLPs that write something."""
        with torch.no_grad():
            active = model.run(self.data().all()).neurons
        kept: list[Tensor] = []
        for layer, (name, owner) in enumerate(zip(LAYERS, model.owners, strict=True)):
            written = active[layer].square().mean(0) * weight_of(model.get_submodule(f"{name}.mlp_out")).square().sum(1)
            block = torch.zeros(len(BLOCKS)).index_add_(0, owner, written)
            kept.append((written > IDLE * block[owner]).nonzero()[:, 0])
        return kept[0], kept[1]

    def _bury(self, module: Calculator) -> None:
        """Set neurons that write nothing to zero, so that no matrix holds what nothing needs."""
        with torch.no_grad():
            for name, kept in zip(LAYERS, self._kept(module), strict=True):
                read, write = (module.get_parameter(f"{name}.{site}.weight") for site in ("mlp_in", "mlp_out"))
                alive = torch.zeros(len(read)).index_fill_(0, kept, 1.0)
                read.mul_(alive[:, None])
                write.mul_(alive)

    def _on(self, owner: Int[Tensor, " kept"]) -> Callable[[Tensor], Tensor]:
        """Return the oracle's importance: a block's pieces are on where its operation is asked for."""
        return lambda inputs: uses(self.operation(inputs))[:, owner.to(inputs.device)].float()

    def _needed(self, model: Calculator, layer: int, kept: Tensor, owner: Tensor) -> Callable[[Tensor], Tensor]:
        """Return where a piece must be important: never in other operations, and where its neuron fires clearly."""

        def needed(inputs: Tensor) -> Tensor:
            with torch.no_grad():
                active = model.run(inputs).neurons[layer][:, kept]
            clear = active > 0.5 * active.amax(0)
            return torch.where(self._on(owner)(inputs) == 0, 0.0, torch.where(clear, 1.0, torch.nan))

        return needed

    def checks(self, module: nn.Module) -> tuple[Check, ...]:
        """Return whether the operations are solved, and solved by the blocks that the truth names."""
        model, generator = as_calculator(module), torch.Generator().manual_seed(3)
        x = self.data().batch(0, EXAMPLES, generator)
        order = torch.randperm(EXAMPLES, generator=generator)
        operation, used, wanted = self.operation(x), uses(self.operation(x)), self.wanted(x)
        swap = self._shared_block(x, order, generator)
        added = torch.zeros_like(swap)
        added[:, ADD] = used[:, ADD] & used[order, ADD]
        with torch.no_grad():
            run = model.run(x)
            # Unused blocks take what they hold on another input whose operation has no use for them either.
            answers = [run.logits, *(model.run(x, reordered(run, order), each).logits for each in (swap, ~used & ~used[order], added))]
            alone, composed = self._adders(model, x)
        clean, swapped, strict, summed = (logits.argmax(1) for logits in answers)
        crossed = added[:, ADD] & (operation != operation[order])
        broken = added[:, ADD] & (operation == BOTH)
        hybrid_of_sum = self._hybrid(x, order, added)
        chance = 1.1 * _share((hybrid_of_sum == wanted)[broken])
        idle = max(float((active * ~used[:, owner]).max()) for active, owner in zip(run.neurons, model.owners, strict=True))
        largest = max(float(active.max()) for active in run.neurons)
        split = float((alone - composed).square().sum() / (alone.square().sum() + composed.square().sum()).clamp(min=1e-12))
        return (
            Check("accuracy of the worst operation", float(self._by_operation(x, clean == wanted).min()), 0.99, None, "it is not learned"),
            Check(
                "accuracy after swapping the worst block",
                min(_share((swapped == self._hybrid(x, order, swap))[swap[:, block]]) for block in range(len(BLOCKS))),
                0.95,
                None,
                "results do not lie in their blocks",
            ),
            Check(
                "accuracy of the worst operation, unused blocks resampled",
                float(self._by_operation(x, strict == wanted).min()),
                0.99,
                None,
                "an operation uses a block that it should not",
            ),
            Check("largest activation of an unused block, of all", idle / largest, None, 0.05, "blocks work in other operations too"),
            Check("accuracy after swapping sums between operations", _share((summed == hybrid_of_sum)[crossed]), 0.95, None, "two adders"),
            Check("share of the adder that differs between operations", split, None, 0.05, "the adder is split between operations"),
            Check("accuracy of maxima of sums, the adder resampled", _share((summed == wanted)[broken]), None, chance, "it is bypassed"),
        )

    def panel(self, module: nn.Module) -> Panel:
        """Return the cross-entropy by operation."""
        return class_panel(self, module, self.operation, OPERATIONS, word="operation")


def as_calculator(module: nn.Module) -> Calculator:
    """Return the model as what it must be.

    Raises:
        UserError: It is not this toy's.
    """
    if not isinstance(module, Calculator):
        raise UserError(f"The model is a {type(module).__name__}.", "Give the model that the toy's build() or load() returns.")
    return module


def _share(right: Bool[Tensor, " n"]) -> float:
    return float(right.float().mean())
