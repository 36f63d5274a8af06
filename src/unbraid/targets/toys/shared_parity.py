"""Tasks that share sub-tasks: some answer the parity of a pair of bits, others the parity of two such parities.

What is planted: one module per pair of bits, at work in every task that uses it. A network that is merely trained need not share them, so
this one is trained with strict interchange interventions (Geiger et al. 2022; Gupta et al. 2024): each unit of the second hidden layer
belongs to one sub-parity, is silent in tasks that do not use it, and swapping it between two inputs must give the answer that a
swapped sub-parity would. Neurons of the first layer are free; whom they serve is measured.

Why three hidden layers: bits to sub-parities takes one, and so does the parity of two sub-parities, `s - 2 ReLU(s - 1)` of their sum s.
That combiner is one for all: reading the sum takes one piece that every task needs or one per sub-parity, at the same cost, so its
matrices decide nothing and are no sites.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from unbraid.core.errors import UserError
from unbraid.targets.panel import Panel
from unbraid.targets.toy import Check, Toy, Trained, toys
from unbraid.targets.toy_kit.class_panel import class_panel
from unbraid.targets.toy_kit.functional import IDLE, MIXED, labels_of, module_names
from unbraid.targets.toy_kit.mlp import MLP, as_mlp, seeded_mlp
from unbraid.targets.truth import SiteTruth, Truth

EXAMPLES = 8192


@dataclass(frozen=True)
class TaskBits:
    """A task, one-hot, drawn by its frequency, and then random bits."""

    frequencies: tuple[float, ...]
    n_bits: int

    def batch(self, step: int, size: int, generator: torch.Generator) -> Float[Tensor, "batch n_features"]:
        """Draw `size` inputs; `step` plays no part."""
        device = generator.device
        task = torch.multinomial(torch.tensor(self.frequencies, device=device), size, replacement=True, generator=generator)
        bits = torch.randint(0, 2, (size, self.n_bits), generator=generator, device=device)
        return torch.cat([F.one_hot(task, len(self.frequencies)), bits], dim=1).float()


@toys.register
class SharedParity(Toy):
    """Parities of bits, and parities of parities that share them."""

    kind: Literal["shared-parity"] = "shared-parity"
    n_tasks: PositiveInt = 9
    """Base and composed tasks together."""
    shared: float = Field(default=1 / 3, ge=0, lt=1)
    """Share of the tasks that are composed of two base tasks."""
    n_bits: PositiveInt = 12
    """Bits in the input; base tasks take theirs from a shuffled deck, so that with enough bits no two base tasks share one."""
    k: PositiveInt = 2
    """Bits per base task."""
    zipf: NonNegativeFloat = 0.5
    """Task number n has frequency ∝ n^-zipf."""
    width: PositiveInt = 32
    """Neurons of the first hidden layer; two per sub-parity would do."""
    connection_cost: NonNegativeFloat = 6e-4
    """Weight of the L1 norm of the first two matrices in training, reached half way."""

    summary: ClassVar[str] = "6 parities and 3 parities of parities: one module per sub-parity, shared by every task that uses it"
    lesson: ClassVar[str] = "one computation serves several tasks, so modules overlap: sorting parts by task gets them wrong"
    sites: ClassVar[tuple[str, ...]] = ("linear1", "linear2")
    training_steps: ClassVar[int] = 4000
    training_batch: ClassVar[int] = 1024
    recipe: ClassVar[Mapping[str, Any]] = {
        "steps": 4000,
        "prune": {"at": 0.7, "below": 0.05},
        "batch_size": 1024,
        "components": 60,
        "importance": {"kind": "layerwise-mlp", "hidden": 64},
        "losses": {
            "stochastic": {"routing": "subset"},
            "faithfulness": {"coefficient": 1e-2, "relative": True},
            "minimality": {"coefficient": 6e-4},
        },
        "optimizer": {"factors": {"learning_rate": 3e-3}, "importance": {"learning_rate": 3e-3}},
    }

    @property
    def n_base(self) -> int:
        """How many tasks are parities of bits."""
        return self.n_tasks - round(self.n_tasks * self.shared)

    @cached_property
    def subsets(self) -> Int[Tensor, "n_base k"]:
        """The bits of each base task."""
        generator = torch.Generator().manual_seed(self.seed)
        decks = 1 + self.n_base * self.k // self.n_bits
        cards = torch.cat([torch.randperm(self.n_bits, generator=generator)[: self.n_bits // self.k * self.k] for _ in range(decks)])
        return cards[: self.n_base * self.k].view(self.n_base, self.k)

    @cached_property
    def uses(self) -> Bool[Tensor, "n_tasks n_base"]:
        """Which sub-parities each task uses: base tasks come first, then composed ones with two each.

        Raises:
            UserError: There are fewer pairs of base tasks than composed tasks.
        """
        pairs = list(combinations(range(self.n_base), 2))
        composed = self.n_tasks - self.n_base
        if composed > len(pairs):
            raise UserError(
                f"{composed} composed tasks were asked for, but {self.n_base} base tasks make {len(pairs)} pairs.", "Lower shared."
            )
        order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(self.seed + 1))[:composed]
        table = torch.cat([torch.eye(self.n_base), torch.zeros(composed, self.n_base)]).bool()
        for row, index in enumerate(order.tolist(), start=self.n_base):
            table[row, list(pairs[index])] = True
        return table

    def build(self) -> nn.Module:
        """Return an untrained model."""
        return MLP(self._widths, bias=True)

    @property
    def _widths(self) -> tuple[int, ...]:
        return (self.n_tasks + self.n_bits, self.width, self.n_base, 16, 1)

    def data(self) -> TaskBits:
        """Return tasks by their frequency and random bits."""
        return TaskBits(tuple((n + 1) ** -self.zipf for n in range(self.n_tasks)), self.n_bits)

    def used(self, inputs: Float[Tensor, "batch n_features"]) -> Float[Tensor, "batch n_base"]:
        """Return which sub-parities each input's task uses."""
        return inputs[:, : self.n_tasks] @ self.uses.float()

    def parities(self, inputs: Float[Tensor, "batch n_features"]) -> Float[Tensor, "batch n_base"]:
        """Return each sub-parity where the task uses it, and 0 elsewhere: what the units of the second layer carry."""
        bits = inputs[:, self.n_tasks :]
        return bits[:, self.subsets].sum(-1).remainder(2) * self.used(inputs)

    def wanted(self, inputs: Tensor) -> Tensor:
        """Return the parity that the task asks for, 0 or 1."""
        return _parity(self.parities(inputs))

    def naive(self, inputs: Tensor) -> Tensor:
        """Return one half: bits taken singly say nothing about a parity."""
        return torch.full_like(self.wanted(inputs), 0.5)

    def train(self, seed: int = 0) -> Trained:
        """Train on the answers, on what the units must carry, and on the answers after units were swapped between two inputs.

        Raises:
            UserError: Some task is not learned.
        """
        generator = torch.Generator().manual_seed(seed)
        module = seeded_mlp(self._widths, True, seed)
        optimizer = torch.optim.Adam(module.parameters(), lr=3e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.training_steps)
        data = self.data()
        # Without positive biases a neuron whose piece is ablated is silent, so what a task does not use may be ablated.
        biases = [module.get_parameter(f"linear{layer}.bias") for layer in (1, 2, 3)]
        matrices = [module.get_parameter(f"linear{layer}.weight") for layer in (1, 2)]
        for step in range(self.training_steps):
            x = data.batch(step, self.training_batch, generator)
            optimizer.zero_grad()
            before = module.get_submodule("linear2")(module.hidden(x, 1))
            units = F.relu(before)
            answered = F.mse_loss(module.after(units, 2), self.wanted(x))
            # Asked before the ReLU where something must be carried, so that a dead unit learns too.
            carried = torch.where(self.parities(x) > 0, before - 1, units).square().mean()
            swapped, hybrid = self._interchange(x, units, generator)
            # The cost sets in once the tasks are learned: from the start it would leave neurons without a task.
            cost = torch.stack([matrix.abs().sum() for matrix in matrices]).sum() * min(step / self.training_steps, 0.5)
            (answered + carried + F.mse_loss(module.after(swapped, 2), hybrid) + 2 * self.connection_cost * cost).backward()
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                for bias in biases:
                    bias.clamp_(max=0)
        trained = self.measure(module)
        unlearned = trained.unlearned(share=0.02)
        if unlearned:
            raise UserError(f"Training {self.kind} with seed {seed} left tasks {unlearned} unlearned.", "Train again with another --seed.")
        return trained

    def _interchange(self, x: Tensor, units: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return units of which one per input came from an input whose task uses the same sub-parity, and the answers that should give."""
        order = torch.randperm(len(x), generator=generator)
        both = self.used(x) * self.used(x)[order]
        # One unit per input among those that both tasks use; where there is none, nothing is swapped.
        choice = (both + torch.rand(both.shape, generator=generator)).argmax(1)
        swap = F.one_hot(choice, self.n_base) * both
        carried = self.parities(x)
        return units + swap * (units[order] - units), _parity(carried + swap * (carried[order] - carried))

    def measure(self, module: nn.Module) -> Trained:
        """Return the squared error of each task over random bits, beside that of always answering one half."""
        bits = torch.randint(0, 2, (512, self.n_bits), generator=torch.Generator().manual_seed(0)).float()
        loss: list[Tensor] = []
        for task in torch.eye(self.n_tasks):
            x = torch.cat([task.expand(len(bits), -1), bits], dim=1)
            with torch.no_grad():
                loss.append((module(x) - self.wanted(x)).square().mean())
        return Trained(module, torch.stack(loss), torch.full((self.n_tasks,), 0.25))

    def labels(self, module: MLP) -> Int[Tensor, " width"]:
        """Return which sub-parity each neuron of the first layer serves: whose unit changes when the neuron alone is resampled."""
        return labels_of(self._effects(module))

    def _effects(self, module: MLP) -> Float[Tensor, "n_base width"]:
        x = self._examples(seed=1)
        with torch.no_grad():
            hidden, units = module.hidden(x, 1), module.hidden(x, 2)
            order = torch.randperm(len(x), generator=torch.Generator().manual_seed(2))
            effects: list[Tensor] = []
            for neuron in range(self.width):
                changed = hidden.clone()
                changed[:, neuron] = hidden[order, neuron]
                effects.append((F.relu(module.get_submodule("linear2")(changed)) - units).square().mean(0))
        return torch.stack(effects, dim=1)

    def _examples(self, seed: int) -> Tensor:
        return self.data().batch(0, EXAMPLES, torch.Generator().manual_seed(seed))

    def truth(self, module: nn.Module) -> Truth:
        """Return one reading piece per neuron of the first layer, one writing piece per unit, and idle neurons left out."""
        model = as_mlp(module)
        labels = self.labels(model)
        kept = (labels != IDLE).nonzero()[:, 0]
        first, second = (model.get_parameter(f"linear{layer}.weight").detach().T for layer in (1, 2))
        own, units = torch.arange(self.n_base), torch.eye(self.n_base)

        def neurons(inputs: Tensor) -> Tensor:
            with torch.no_grad():
                return model.hidden(inputs, 1)[:, kept]

        def carried(inputs: Tensor) -> Tensor:
            return self.parities(inputs)

        return Truth(
            sites={
                "linear1": self._site(first[:, kept], torch.eye(self.width)[kept], labels[kept], neurons),
                "linear2": self._site(second, units, own, carried),
            },
            bars={f"l0/linear{layer}": (None, None) for layer in (1, 2)},
        )

    def _site(self, V: Tensor, U: Tensor, labels: Tensor, activity: Callable[[Tensor], Tensor]) -> SiteTruth:
        """Return pieces that are on where the task uses their sub-parity and they carry something: a parity of 0 asks for nothing."""

        def on(inputs: Tensor) -> Tensor:
            used = torch.where(labels == MIXED, 1.0, self.used(inputs)[:, labels.clamp(min=0)])
            return used * (activity(inputs) > 0.02)

        def needed(inputs: Tensor) -> Tensor:
            return torch.where(on(inputs) == 0, 0.0, torch.where(activity(inputs) > 0.5, 1.0, torch.nan))

        names = module_names(labels, "parity")
        return SiteTruth(V=V, U=U, pattern="sparse", on=on, needed=needed, modules=names, any_basis=True)

    def checks(self, module: nn.Module) -> tuple[Check, ...]:
        """Return whether the tasks are solved, and solved through the units that the truth names."""
        model, x = as_mlp(module), self._examples(seed=3)
        effects, labels = self._effects(model), self.labels(model)
        with torch.no_grad():
            units = model.hidden(x, 2)
            swapped, hybrid = self._interchange(x, units, torch.Generator().manual_seed(4))
            idle = (units * (1 - self.used(x))).abs().max()
            pieces = self._only_used(model, x)
        mixed = effects[:, labels == MIXED].sum() / effects.sum()
        return (
            Check("accuracy", _accuracy(model.after(units, 2), self.wanted(x)), low=0.99, why="the tasks are not learned"),
            Check(
                "accuracy after swapping a unit",
                _accuracy(model.after(swapped, 2), hybrid),
                low=0.98,
                why="units do not carry sub-parities",
            ),
            Check("worst accuracy of composed tasks with one unit resampled", self._without(model, x), high=0.7, why="a unit is bypassed"),
            Check("accuracy with the pieces alone that a task uses", pieces, low=0.98, why="other modules are needed too"),
            Check("largest activation of a unit that the task does not use", float(idle), high=0.25, why="modules run in other tasks too"),
            Check("share of the effects on neurons that serve one unit", float(1 - mixed), low=0.8, why="first-layer neurons are shared"),
        )

    def panel(self, module: nn.Module) -> Panel:
        """Return what a sceptic asks for first: the loss by task, beside that of answering one half."""
        names = [f"{n}: {' + '.join(map(str, row.nonzero()[:, 0].tolist()))}" for n, row in enumerate(self.uses)]

        def which(inputs: Tensor) -> Tensor:
            return inputs[:, : self.n_tasks].argmax(1)

        def ones(inputs: Tensor) -> Tensor:
            return inputs[:, self.n_tasks :].sum(1)

        return class_panel(self, module, which, names, word="task", distractors=ones, distractor_word="bits that are 1", squared=True)

    def _only_used(self, model: MLP, x: Tensor) -> float:
        """Return the accuracy when every piece of the first two matrices is ablated that the truth does not call for."""
        hidden = x
        for path, site in self.truth(model).sites.items():
            bias = model.get_parameter(f"{path}.bias")
            hidden = F.relu((hidden @ site.V * site.on(x)) @ site.U + bias)
        return _accuracy(model.after(hidden, 2), self.wanted(x))

    def _without(self, model: MLP, x: Tensor) -> float:
        """Return the best that composed tasks still do when a unit which they use holds another input's value; chance is one half."""
        composed = x[self.used(x).sum(1) > 1]
        if len(composed) == 0:
            return 0.5
        used = self.used(composed)
        accuracies: list[float] = []
        for unit in range(self.n_base):
            rows = composed[used[:, unit] > 0]
            if len(rows) > 0:
                with torch.no_grad():
                    units = model.hidden(rows, 2)
                    units[:, unit] = units[torch.randperm(len(rows), generator=torch.Generator().manual_seed(5)), unit]
                    accuracies.append(_accuracy(model.after(units, 2), self.wanted(rows)))
        return max(accuracies)


def _parity(carried: Float[Tensor, "batch n_base"]) -> Float[Tensor, "batch 1"]:
    return carried.sum(1, keepdim=True).remainder(2)


def _accuracy(answer: Float[Tensor, "batch 1"], wanted: Float[Tensor, "batch 1"]) -> float:
    return float(((answer > 0.5) == (wanted > 0.5)).float().mean())
