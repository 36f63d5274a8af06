"""Universal AND, trained: all pairwise ANDs by fewer neurons than pairs. A negative control: the planted claim is false.

Constructions of universal AND give each pair a few neurons of its own. Trained networks find a dense solution, in which many neurons
serve each output and each neuron many outputs. The truth declared here is the wrong one, a piece of each layer for each pair, and a
decomposition must not confirm it: an input needs several times as many pieces as pairs are true.

Sources: Hänni et al. 2024 (arXiv 2408.05451) for the construction; Newgas 2025 for what training finds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from unbraid.core.errors import UserError
from unbraid.targets.data import SparseFeatures
from unbraid.targets.panel import Panel
from unbraid.targets.toy import Check, Toy, Trained, toys
from unbraid.targets.toy_kit.feature_panel import feature_panel
from unbraid.targets.toy_kit.mlp import MLP, seeded_mlp
from unbraid.targets.truth import SiteTruth, Truth


@toys.register
class UniversalAnd(Toy):
    """Every AND of two of several sparse booleans, by a trained perceptron."""

    kind: Literal["u-and"] = "u-and"
    n_features: int = Field(default=16, ge=3)
    """Number of booleans; there are n (n - 1) / 2 pairs."""
    neurons: PositiveInt = 40
    """Hidden neurons; fewer than pairs."""
    probability: float = Field(default=0.05, gt=0, le=1)
    """Chance that a boolean is true."""

    summary: ClassVar[str] = "negative control: 120 ANDs by 40 neurons, with the false claim of a piece for each pair in each layer"
    lesson: ClassVar[str] = "a construction shows that a sparse solution exists, not that training finds it"
    sites: ClassVar[tuple[str, ...]] = ("linear1", "linear2")
    negative_control: ClassVar[bool] = True
    training_steps: ClassVar[int] = 2500
    training_batch: ClassVar[int] = 1024
    recipe: ClassVar[Mapping[str, Any]] = {
        "steps": 3000,
        "batch_size": 1024,
        "components": {"linear1": 160, "linear2": 160},
        "importance": {"kind": "layerwise-mlp", "hidden": 96},
        "prune": {"at": 0.7, "below": 0.05},
        "losses": {
            "stochastic": {"routing": "subset"},
            "faithfulness": {"coefficient": 1e-3, "relative": True},
            "minimality": {"coefficient": 1e-5},
        },
        "optimizer": {"factors": {"learning_rate": 3e-3}, "importance": {"learning_rate": 3e-3}},
    }

    @property
    def pairs(self) -> Int[Tensor, "pairs 2"]:
        """The two booleans of every output."""
        return torch.combinations(torch.arange(self.n_features))

    def build(self) -> MLP:
        """Return an untrained model of the right shape."""
        return MLP((self.n_features, self.neurons, len(self.pairs)), bias=True)

    def data(self) -> SparseFeatures:
        """Return sparse booleans, 0 or 1."""
        return SparseFeatures(self.n_features, self.probability, low=1.0, high=1.0)

    def wanted(self, inputs: Tensor) -> Tensor:
        """Return the AND of every pair."""
        first, second = self.pairs.unbind(1)
        return inputs[..., first] * inputs[..., second]

    def naive(self, inputs: Tensor) -> Tensor:
        """Return what a neuron each for the first pairs answers; the others go without."""
        return self.wanted(inputs) * (torch.arange(len(self.pairs)) < self.neurons)

    def weighted_loss(self, answer: Float[Tensor, "*batch pairs"], wanted: Float[Tensor, "*batch pairs"]) -> Float[Tensor, "*batch"]:
        """Return the squared error with ANDs that are true weighing an eighth of the number of pairs.

        The read-out is linear, so fewer neurons than outputs must interfere; without the weight, answering nothing would be nearly as good.
        A nonlinear read-out would make the hidden layer idle: an AND is a threshold of a linear function of the inputs.
        """
        return (torch.where(wanted > 0, max(1.0, len(self.pairs) / 8), 1.0) * (answer - wanted).square()).sum(dim=-1)

    def train(self, seed: int = 0) -> Trained:
        """Train on the weighted squared error with Adam, the rate falling as a cosine.

        Raises:
            UserError: Some pair is not learned.
        """
        generator = torch.Generator().manual_seed(seed)
        module = seeded_mlp((self.n_features, self.neurons, len(self.pairs)), bias=True, seed=seed)
        data = self.data()
        optimizer = torch.optim.Adam(module.parameters(), lr=5e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.training_steps)
        for step in range(self.training_steps):
            drawn = data.distinct(step, self.training_batch, generator)
            optimizer.zero_grad()
            (self.weighted_loss(module(drawn.inputs), self.wanted(drawn.inputs)) @ drawn.weights).backward()
            optimizer.step()
            schedule.step()
        trained = self.measure(module.requires_grad_(False))
        unlearned = trained.unlearned(share=0.5)
        if unlearned:
            raise UserError(f"Training {self.kind} with seed {seed} left {len(unlearned)} pairs unlearned.", "Train with another seed.")
        return trained

    @property
    def both(self) -> Float[Tensor, "pairs n_features"]:
        """Inputs with both booleans of a pair true and nothing else."""
        return F.one_hot(self.pairs, self.n_features).sum(dim=1).float()

    def measure(self, module: nn.Module) -> Trained:
        """Return the weighted squared error with both booleans of a pair true, beside that of answering nothing."""
        wanted = self.wanted(self.both)
        with torch.no_grad():
            answer = module(self.both)
        return Trained(module, self.weighted_loss(answer, wanted), self.weighted_loss(torch.zeros_like(answer), wanted))

    def and_parts(self, module: nn.Module) -> Float[Tensor, "pairs neurons"]:
        """Return what each neuron gives to each output's AND: its own second difference in the two booleans, as the output reads it.

        The four answers to neither, one, the other and both are combined as `f(1, 1) - f(1, 0) - f(0, 1) + f(0, 0)`; summed over the
        neurons this is what the output answers to the AND alone.
        """
        read, bias = module.get_parameter("linear1.weight").detach(), module.get_parameter("linear1.bias").detach()
        first, second = (read.T[side] for side in self.pairs.unbind(1))
        bend = F.relu(first + second + bias) - F.relu(first + bias) - F.relu(second + bias) + F.relu(bias)
        return bend * module.get_parameter("linear2.weight").detach()

    def checks(self, module: nn.Module) -> tuple[Check, ...]:
        """Ask whether the ANDs are computed, and whether the claim of neurons for each pair is as false as it is meant to be."""
        parts = self.and_parts(module)
        with torch.no_grad():
            own = module(self.both).argmax(dim=1) == torch.arange(len(parts))
            one = float(module(torch.eye(self.n_features)).abs().max())
        per_output, per_neuron = float(participation(parts).median()), float(participation(parts.T).median())
        sparse = "neurons are few to a pair, so the claim would not be false"
        return (
            Check("pairs whose AND is the largest answer when both are true", float(own.float().mean()), low=0.95, why="no ANDs computed"),
            Check("largest answer to a single boolean", one, high=0.25, why="the answers are sums, not ANDs"),
            Check(f"neurons that take part in an AND, of {self.neurons}; claimed: 1", per_output, low=self.neurons / 10, why=sparse),
            Check(f"ANDs that a neuron takes part in, of {len(parts)}; claimed: 1", per_neuron, low=len(parts) / 10, why=sparse),
        )

    def truth(self, module: nn.Module) -> Truth:
        """Return the false claim: for each pair a piece of either layer that is needed exactly when both of its booleans are true."""
        read, write = (module.get_parameter(f"linear{layer}.weight").detach().T for layer in (1, 2))
        both = self.both.T.contiguous()
        names = tuple(f"{i} and {j}" for i, j in self.pairs.tolist())
        reading = SiteTruth(V=both, U=torch.linalg.pinv(both) @ read, pattern="sparse", on=self.wanted, needed=self.wanted, modules=names)
        writing = SiteTruth(
            V=write.contiguous(), U=torch.eye(len(names)), pattern="sparse", on=self.wanted, needed=self.wanted, modules=names
        )
        return Truth(sites={"linear1": reading, "linear2": writing})

    def panel(self, module: nn.Module) -> Panel:
        """Return the sceptic's panel; a feature alone has nothing to answer, so the cross-terms are what counts."""
        panel = feature_panel(self, module, torch.tensor([0.0, 1.0]))
        note = (
            "The squared error here is unweighted;"
            " training weighs ANDs that are true by an eighth of the number of pairs, and the rest is interference."
        )
        return replace(panel, notes=(*panel.notes, note))


def participation(parts: Float[Tensor, "rows columns"]) -> Float[Tensor, " rows"]:
    """Return how many columns take part in each row: `(Σ |a|)² / Σ a²`, 1 for a single one and all of them for equal ones."""
    return parts.abs().sum(dim=1).square() / parts.square().sum(dim=1).clamp(min=1e-12)
