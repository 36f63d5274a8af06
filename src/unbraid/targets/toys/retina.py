"""A retina that looks for a left and a right object, under goals that change: L AND R, then L OR R, and so on (Kashtan & Alon 2005).

Evolved networks became modular under changing goals. Here gradient descent trains, each period begins with a fresh random
combiner, and a cost on connections helps (Clune et al. 2013). By gradient the effect is weak: of seeds 0 to 4 every one learned the
goal, but only seed 2 formed objects that the combiner reads, and none did without changing goals. So nothing is claimed to be planted
but what intervention finds: which neurons only one side of the retina moves, and which both do, the combiner's. Resampling tells
the sides apart; necessity does not, since L AND R is 0 without either, so parts that are found by what inputs need are one module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from unbraid.core.errors import UserError
from unbraid.targets.functional import IDLE, MIXED, input_effects, labels_of
from unbraid.targets.mlp import MLP, as_mlp, seeded_mlp
from unbraid.targets.toy import Check, Toy, Trained, toys
from unbraid.targets.truth import SiteTruth, Truth

SIDES = (range(4), range(4, 8))
CODE = 6
"""Neurons of the second hidden layer, which the combiner reads."""


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
    seed: NonNegativeInt = 2
    """Which instance; 2 is the one of seeds 0 to 4 in which training formed left and right objects, and so passes every check."""
    width: PositiveInt = 24
    """Neurons of the first hidden layer."""
    switching: bool = True
    """Whether the goal changes and the combiner starts afresh in every period."""
    connection_cost: NonNegativeFloat = 3e-5
    """Weight of the L1 norm of the first two matrices in training."""
    probability: float = Field(default=0.5, gt=0, le=1)
    """Chance that a side of the retina is active; a blank side needs nothing."""

    summary: ClassVar[str] = "8 pixels, a left and a right object, L AND R: neurons by the side that moves them, the rest is the combiner"
    lesson: ClassVar[str] = "changing goals reward modules, but gradient descent rewards them weakly: measure, do not assume"
    sites: ClassVar[tuple[str, ...]] = ("linear1", "linear2", "linear3")
    periods: ClassVar[int] = 12
    period_steps: ClassVar[int] = 400
    training_batch: ClassVar[int] = 512
    recipe: ClassVar[Mapping[str, Any]] = {
        "steps": 4000,
        "prune": {"at": 0.7, "below": 0.05},
        "batch_size": 1024,
        "components": {"linear1": 60, "linear2": 40, "linear3": 24},
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
        return (8, self.width, CODE, 8, 1)

    def build(self) -> nn.Module:
        """Return an untrained model."""
        return MLP(self._widths, bias=True)

    def data(self) -> Retinas:
        """Return retinas of which each side is active now and then."""
        return Retinas(self.probability)

    def wanted(self, inputs: Tensor) -> Tensor:
        """Return the goal with which training ends, L AND R, as 0 or 1."""
        return objects(inputs).prod(1, keepdim=True)

    def naive(self, inputs: Tensor) -> Tensor:
        """Return how often the goal is met: a model that sees nothing."""
        return torch.full_like(self.wanted(inputs), (self.probability / 2) ** 2)

    def train(self, seed: int = 0) -> Trained:
        """Train through the periods, of which the last is longer and has the goal L AND R.

        Raises:
            UserError: The goal is not learned.
        """
        generator = torch.Generator().manual_seed(seed)
        module = seeded_mlp(self._widths, True, seed)
        for period in range(self.periods):
            if self.switching and period > 0:
                fresh = seeded_mlp(self._widths, True, seed + 1000 * period)
                for layer in (3, 4):
                    module.get_submodule(f"linear{layer}").load_state_dict(fresh.get_submodule(f"linear{layer}").state_dict())
            either = self.switching and (self.periods - 1 - period) % 2 == 1
            self._train_period(module, either, generator, last=period == self.periods - 1)
        trained = self.measure(module)
        if trained.unlearned(share=0.1):
            raise UserError(f"Training {self.kind} with seed {seed} did not learn the goal.", "Train again with another --seed.")
        return trained

    def _train_period(self, module: MLP, either: bool, generator: torch.Generator, last: bool) -> None:
        """Train towards L OR R or L AND R, under the cost on connections."""
        steps = self.period_steps * (3 if last else 1)
        optimizer = torch.optim.Adam(module.parameters(), lr=3e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=0.0 if last else 3e-3)
        matrices = [module.get_parameter(f"linear{layer}.weight") for layer in (1, 2)]
        data = self.data()
        for step in range(steps):
            x = data.batch(step, self.training_batch, generator)
            seen = objects(x)
            goal = seen.amax(1, keepdim=True) if either else seen.prod(1, keepdim=True)
            optimizer.zero_grad()
            cost = torch.stack([matrix.abs().sum() for matrix in matrices]).sum()
            (F.mse_loss(module(x), goal) + self.connection_cost * cost).backward()
            optimizer.step()
            schedule.step()
            if last:  # what is not used may then be ablated: a neuron without its piece is silent
                with torch.no_grad():
                    for layer in (1, 2, 3):
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
        """Return rank-one pieces by neuron: what the first layer's neurons read and write, and what the combiner reads of the second's."""
        model = as_mlp(module)
        weights = [model.get_parameter(f"linear{layer}.weight").detach().T for layer in (1, 2, 3)]
        labels = [self.labels(model, layer) for layer in (1, 2)]
        kept = [(label != IDLE).nonzero()[:, 0] for label in labels]

        def neurons(layer: int) -> Callable[[Tensor], Tensor]:
            def activity(inputs: Tensor) -> Tensor:
                with torch.no_grad():
                    return model.hidden(inputs, layer)[:, kept[layer - 1]]

            return activity

        wide, code = torch.eye(self.width), torch.eye(CODE)
        return Truth(
            sites={
                "linear1": _site(weights[0][:, kept[0]], wide[kept[0]], labels[0][kept[0]], neurons(1)),
                "linear2": _site(wide[:, kept[0]], weights[1][kept[0]], labels[0][kept[0]], neurons(1)),
                "linear3": _site(code[:, kept[1]], weights[2][kept[1]], labels[1][kept[1]], neurons(2)),
            },
            # Where one object is missing the answer is 0 whatever the rest does: left, right and combiner are needed together or not at all.
            unresolvable=(frozenset({"left", "right", "combiner"}),),
            module_inputs={"left": tuple(SIDES[0]), "right": tuple(SIDES[1]), "combiner": tuple(range(8))},
            bars={**{f"l0/linear{layer}": (None, None) for layer in (1, 2, 3)}, "module_ari": (None, None)},
        )

    def checks(self, module: nn.Module) -> tuple[Check, ...]:
        """Return whether the goal is met, both objects can be read off where the combiner looks, and neurons serve one side each."""
        model, x = as_mlp(module), self._examples()
        effects = self._effects(model, 1)
        mixed = effects[:, labels_of(effects) == MIXED].sum() / effects.sum()
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
            Check(
                "share of the effects on first-layer neurons that one side moves",
                float(1 - mixed),
                low=0.8,
                why="there is no left and right",
            ),
        )


def _site(V: Tensor, U: Tensor, labels: Tensor, activity: Callable[[Tensor], Tensor]) -> SiteTruth:
    """Return neurons' pieces, needed where the neuron fires."""

    def on(inputs: Tensor) -> Tensor:
        return (activity(inputs) > 0.02).to(inputs.dtype)

    def needed(inputs: Tensor) -> Tensor:
        h = activity(inputs)
        return torch.where(h > 0.5, 1.0, torch.where(h == 0, 0.0, torch.nan))

    names = tuple({0: "left", 1: "right"}.get(label, "combiner") for label in labels.tolist())
    return SiteTruth(V=V, U=U, pattern="sparse", on=on, needed=needed, modules=names, any_basis=True)
