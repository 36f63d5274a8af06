"""A retina with a left and a right object, under goals that change: L AND R, L AND NOT R, L OR R … (Kashtan & Alon 2005).

Evolved networks became modular when their goals changed but kept asking for the same parts. Here gradient descent trains, each period
has the next goal and begins with a fresh random combiner, and connections cost (Clune et al. 2013). Of training seeds 0 to 4, all
learned L XOR R; four passed every check, and one did with that goal all the time (`switching: false`). Grouped by their firings, the
planted pieces of seeds 0 and 1 give back left and right, those of 3 and 4, whose neurons see a little of the other side, do not.
Nothing is planted but what intervention finds: which neurons only one side of the retina moves.

Why the last goal is L XOR R: each object is needed where the other one is missing. Under L AND R, which is 0 without either, what inputs
need cannot tell left from right. Why some goals treat the sides differently: the sum L + R is all that AND, OR and XOR ask for, and a
network that only ever meets those may add the objects up. The combiner reads either object or their sum at the same cost, so its
matrices decide nothing and are no sites.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
from unbraid.targets.toy_kit.functional import IDLE, MIXED, input_effects, labels_of
from unbraid.targets.toy_kit.mlp import MLP, as_mlp, seeded_mlp
from unbraid.targets.truth import SiteTruth, Truth

SIDES = (range(4), range(4, 8))
CODE, COMBINER = 6, 16
"""Neurons of the second hidden layer, which the combiner reads, and neurons of the combiner."""

Goal = Callable[[Tensor, Tensor], Tensor]
GOALS: Mapping[str, Goal] = {
    "L AND R": lambda left, right: left * right,
    "L AND NOT R": lambda left, right: left * (1 - right),
    "L OR R": torch.maximum,
    "R AND NOT L": lambda left, right: right * (1 - left),
    "L XOR R": lambda left, right: (left - right).abs(),
}
"""The goals in the order of their periods."""


@dataclass(frozen=True)
class Retinas:
    """Eight pixels, black 1 or white 0; each side of four is blank unless it is active, and else every pattern is as likely."""

    probability: float

    def batch(self, step: int, size: int, generator: torch.Generator) -> Float[Tensor, "batch 8"]:
        """Draw `size` retinas; `step` plays no part."""
        device = generator.device
        pixels = torch.randint(0, 2, (size, 2, 4), generator=generator, device=device).float()
        active = torch.rand(size, 2, 1, generator=generator, device=device) < self.probability
        return (pixels * active).flatten(1)


def object_left(pixels: Float[Tensor, "batch 4"]) -> Bool[Tensor, " batch"]:
    """Return where the left object is: three or more black pixels, or some black ones in the outer column (the first two pixels) alone."""
    outer, inner = pixels[:, :2].sum(1), pixels[:, 2:].sum(1)
    return (outer + inner >= 3) | ((outer >= 1) & (inner == 0))


def objects(inputs: Float[Tensor, "batch 8"]) -> Float[Tensor, "batch 2"]:
    """Return whether the left and the right object are there; the right one is the left one's mirror image."""
    return torch.stack([object_left(inputs[:, :4]), object_left(inputs[:, 4:].flip(1))], dim=1).float()


@toys.register
class Retina(Toy):
    """Left and right objects under changing goals."""

    kind: Literal["retina"] = "retina"
    width: PositiveInt = 24
    """Neurons of the first hidden layer."""
    switching: bool = True
    """Whether the goal changes and the combiner starts afresh in every period; else it is L XOR R all the time."""
    connection_cost: NonNegativeFloat = 1e-4
    """Weight of the L1 norm of the first two matrices in training, the second counted twice."""
    probability: float = Field(default=0.5, gt=0, le=1)
    """Chance that a side of the retina is active; a blank side needs nothing."""

    summary: ClassVar[str] = "8 pixels, a left and a right object, L XOR R after changing goals: neurons by the side that moves them"
    lesson: ClassVar[str] = (
        "goals that change but share their parts make modules; one goal alone often does not, though it is learned as well"
    )
    sites: ClassVar[tuple[str, ...]] = ("linear1", "linear2")
    rounds: ClassVar[int] = 8
    period_steps: ClassVar[int] = 150
    last_steps: ClassVar[int] = 3600
    training_batch: ClassVar[int] = 256
    recipe: ClassVar[Mapping[str, Any]] = {
        "steps": 4000,
        "prune": {"at": 0.7, "below": 0.05},
        "batch_size": 1024,
        "components": {"linear1": 60, "linear2": 40},
        "importance": {"kind": "layerwise-mlp", "hidden": 64},
        "losses": {
            "stochastic": {"routing": "subset"},
            "faithfulness": {"coefficient": 1e-2, "relative": True},
            "minimality": {"coefficient": 2e-4},
        },
        "optimizer": {"factors": {"learning_rate": 3e-3}, "importance": {"learning_rate": 3e-3}},
    }

    @property
    def _widths(self) -> tuple[int, ...]:
        return (8, self.width, CODE, COMBINER, 1)

    def build(self) -> nn.Module:
        """Return an untrained model."""
        return MLP(self._widths, bias=True)

    def data(self) -> Retinas:
        """Return retinas of which each side is active now and then."""
        return Retinas(self.probability)

    def wanted(self, inputs: Tensor) -> Tensor:
        """Return the goal with which training ends, L XOR R, as 0 or 1."""
        return _answer(GOALS["L XOR R"], inputs)

    def naive(self, inputs: Tensor) -> Tensor:
        """Return how often the goal is met: a model that sees nothing."""
        one = self.probability / 2
        return torch.full_like(self.wanted(inputs), 2 * one * (1 - one))

    def train(self, seed: int = 0) -> Trained:
        """Train through rounds of all goals; the last period, L XOR R, is longer.

        Raises:
            UserError: The goal is not learned.
        """
        generator = torch.Generator().manual_seed(seed)
        module = seeded_mlp(self._widths, True, seed)
        goals = [*GOALS.values()] * self.rounds
        for period, goal in enumerate(goals):
            if self.switching and period > 0:
                fresh = seeded_mlp(self._widths, True, seed + 1000 * period)
                for layer in (3, 4):
                    module.get_submodule(f"linear{layer}").load_state_dict(fresh.get_submodule(f"linear{layer}").state_dict())
            self._train_period(module, goal if self.switching else goals[-1], generator, last=period == len(goals) - 1)
        trained = self.measure(module)
        if trained.unlearned(share=0.1):
            raise UserError(f"Training {self.kind} with seed {seed} did not learn the goal.", "Train again with another --seed.")
        return trained

    def _train_period(self, module: MLP, goal: Goal, generator: torch.Generator, last: bool) -> None:
        """Train towards one goal under the cost on connections; the fresh combiner learns faster, to spare what it reads."""
        steps = self.last_steps if last else self.period_steps
        layers = [list(module.get_submodule(f"linear{layer}").parameters()) for layer in (1, 2, 3, 4)]
        rates = ({"params": layers[0] + layers[1], "lr": 1e-3}, {"params": layers[2] + layers[3], "lr": 5e-3})
        optimizer = torch.optim.Adam(rates)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (1 + math.cos(math.pi * step / steps)) / 2 if last else 1.0)
        first, second = (module.get_parameter(f"linear{layer}.weight") for layer in (1, 2))
        kept = [torch.ones_like(matrix) for matrix in (first, second)]
        data = self.data()
        for step in range(steps):
            x = data.batch(step, self.training_batch, generator)
            optimizer.zero_grad()
            cost = first.abs().sum() + 2 * second.abs().sum()
            (F.mse_loss(module(x), _answer(goal, x)) + self.connection_cost * cost).backward()
            optimizer.step()
            schedule.step()
            if last:
                with torch.no_grad():
                    if step == steps // 2:
                        kept = [_strong(matrix) for matrix in (first, second)]
                    first.mul_(kept[0])
                    second.mul_(kept[1])
                    for layer in (1, 2, 3):  # what is not used may then be ablated: a neuron without its piece is silent
                        module.get_parameter(f"linear{layer}.bias").clamp_(max=0)

    def measure(self, module: nn.Module) -> Trained:
        """Return the squared error of the goal over all retinas of the data, beside that of a constant."""
        x = self._examples()
        wanted = self.wanted(x)
        with torch.no_grad():
            loss = (module(x) - wanted).square().mean()
        return Trained(module, loss[None], wanted.var()[None])

    def _examples(self) -> Tensor:
        return self.data().batch(0, 8192, torch.Generator().manual_seed(1))

    def labels(self, module: MLP, layer: int) -> Int[Tensor, " width"]:
        """Return which side moves each neuron of a hidden layer: 0 left, 1 right, `MIXED` both, `IDLE` neither."""
        return labels_of(self._effects(module, layer))

    def _effects(self, module: MLP, layer: int) -> Float[Tensor, "2 width"]:
        write = module.get_parameter(f"linear{layer + 1}.weight").detach().square().sum(0)
        return input_effects(lambda inputs: module.hidden(inputs, layer), self._examples(), SIDES) * write

    def truth(self, module: nn.Module) -> Truth:
        """Return one reading piece per neuron of the first layer and one per neuron of the second; idle neurons are left out."""
        model = as_mlp(module)
        sites = {f"linear{layer}": self._site(model, layer) for layer in (1, 2)}
        columns = {"left": tuple(SIDES[0]), "right": tuple(SIDES[1]), "both": tuple(range(8))}
        found = {name for site in sites.values() for name in site.modules}
        return Truth(
            sites,
            module_inputs={name: inputs for name, inputs in columns.items() if name in found},
            bars={f"l0/{path}": (None, None) for path in sites},
        )

    def _site(self, model: MLP, layer: int) -> SiteTruth:
        """Return the pieces of the neurons that a matrix writes, each needed where its neuron fires."""
        labels = self.labels(model, layer)
        kept = (labels != IDLE).nonzero()[:, 0]
        read = model.get_parameter(f"linear{layer}.weight").detach().T

        def activity(inputs: Tensor) -> Tensor:
            with torch.no_grad():
                return model.hidden(inputs, layer)[:, kept]

        def on(inputs: Tensor) -> Tensor:
            return (activity(inputs) > 0.02).to(inputs.dtype)

        def needed(inputs: Tensor) -> Tensor:
            h = activity(inputs)
            return torch.where(h > 0.5, 1.0, torch.where(h == 0, 0.0, torch.nan))

        names = tuple({0: "left", 1: "right"}.get(label, "both") for label in labels[kept].tolist())
        return SiteTruth(read[:, kept], torch.eye(len(labels))[kept], "sparse", on, needed, modules=names, any_basis=True)

    def checks(self, module: nn.Module) -> tuple[Check, ...]:
        """Return whether the goal is met, both objects can be read off where the combiner looks, and neurons serve one side each."""
        model, x = as_mlp(module), self._examples()
        with torch.no_grad():
            met = ((model(x) > 0.5) == (self.wanted(x) > 0.5)).float().mean()
            code = torch.cat([model.hidden(x, 2), torch.ones(len(x), 1)], dim=1)
        seen = objects(x)
        rest = seen - code @ torch.linalg.lstsq(code, seen, driver="gelsd").solution
        unread = rest.square().sum(0) / (seen - seen.mean(0)).square().sum(0)
        return (
            Check("accuracy", float(met), low=0.98, why="the goal is not learned"),
            Check(
                "variance of the worse object that the second layer does not show to a linear map",
                float(unread.max()),
                high=0.25,
                why="gradient descent need not form objects: the goal may be computed across both sides at once",
            ),
            *(
                Check(
                    f"share of the effects on {name}-layer neurons that one side moves",
                    self._one_sided(model, layer),
                    low=0.8,
                    why="there is no left and right",
                )
                for layer, name in ((1, "first"), (2, "second"))
            ),
        )

    def panel(self, module: nn.Module) -> Panel:
        """Return what a sceptic asks for first: the loss by which objects are there, beside that of always answering the mean."""
        names = ("neither", "left alone", "right alone", "both")

        def which(inputs: Tensor) -> Tensor:
            return (objects(inputs) @ torch.tensor([1.0, 2.0])).long()

        def active(inputs: Tensor) -> Tensor:
            return inputs.unflatten(1, (2, 4)).any(-1).sum(1)

        return class_panel(self, module, which, names, word="objects", distractors=active, distractor_word="active sides", squared=True)

    def _one_sided(self, model: MLP, layer: int) -> float:
        effects = self._effects(model, layer)
        return float(1 - effects[:, labels_of(effects) == MIXED].sum() / effects.sum())


def _answer(goal: Goal, inputs: Float[Tensor, "batch 8"]) -> Float[Tensor, "batch 1"]:
    seen = objects(inputs)
    return goal(seen[:, :1], seen[:, 1:])


def _strong(weight: Float[Tensor, "d_out d_in"], least: float = 0.2) -> Float[Tensor, "d_out d_in"]:
    """Return 1 for each connection that is no weaker than `least` of its neuron's strongest, else 0: weak ones make sides bleed."""
    return (weight.abs() >= least * weight.abs().amax(1, keepdim=True)).to(weight.dtype)
