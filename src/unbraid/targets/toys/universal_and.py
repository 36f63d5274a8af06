"""Universal AND, trained: all pairwise ANDs by fewer neurons than pairs. A negative control: the planted claim is false.

Constructions of universal AND give each pair a few neurons of its own. Trained networks find another solution, in which every
neuron serves every output. The truth declared here is the wrong one, a piece of the first layer for each pair, and a decomposition must
not confirm it.

Sources: Hänni et al. 2024 (arXiv 2408.05451) for the construction; Newgas 2025 for what training finds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from unbraid.core.errors import UserError
from unbraid.targets.data import SparseFeatures
from unbraid.targets.feature_panel import feature_panel
from unbraid.targets.mlp import MLP
from unbraid.targets.panel import Panel
from unbraid.targets.toy import Check, Toy, Trained, toys
from unbraid.targets.truth import SiteTruth, Truth


class Answering(MLP):
    """A perceptron whose outputs are rectified, so that more of them than there are neurons can be right at once."""

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        """Return the output."""
        return self.relu(super().forward(x))


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

    summary: ClassVar[str] = "negative control: 120 ANDs by 40 neurons, with the false claim of a piece of the first layer for each pair"
    lesson: ClassVar[str] = "a construction shows that a sparse solution exists, not that training finds it"
    sites: ClassVar[tuple[str, ...]] = ("linear1", "linear2")
    negative_control: ClassVar[bool] = True
    training_steps: ClassVar[int] = 4000
    training_batch: ClassVar[int] = 2048
    recipe: ClassVar[Mapping[str, Any]] = {
        "steps": 3000,
        "batch_size": 1024,
        "components": {"linear1": 160, "linear2": 160},
        "importance": {"kind": "layerwise-mlp", "hidden": 96},
        "prune": {"at": 0.7, "below": 0.05},
        "losses": {"stochastic": {"routing": "subset"}, "minimality": {"coefficient": 1e-4}},
        "optimizer": {"factors": {"learning_rate": 3e-3}, "importance": {"learning_rate": 3e-3}},
    }

    @property
    def pairs(self) -> Int[Tensor, "pairs 2"]:
        """The two booleans of every output."""
        return torch.combinations(torch.arange(self.n_features))

    def build(self) -> Answering:
        """Return an untrained model of the right shape."""
        return Answering((self.n_features, self.neurons, len(self.pairs)), bias=True)

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

    def train(self, seed: int = 0) -> Trained:
        """Train on the squared error with Adam, the rate falling as a cosine.

        Raises:
            UserError: Some pair is not learned.
        """
        generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):  # torch draws its layers' weights from the global stream
            torch.manual_seed(seed)
            module = self.build()
        data = self.data()
        optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.training_steps)
        for step in range(self.training_steps):
            drawn = data.distinct(step, self.training_batch, generator)
            optimizer.zero_grad()
            ((module(drawn.inputs) - self.wanted(drawn.inputs)).square().sum(dim=1) @ drawn.weights).backward()
            optimizer.step()
            schedule.step()
        trained = self.measure(module.requires_grad_(False))
        unlearned = trained.unlearned(share=0.5)
        if unlearned:
            raise UserError(f"Training {self.kind} with seed {seed} left {len(unlearned)} pairs unlearned.", "Train with another seed.")
        return trained

    def measure(self, module: nn.Module) -> Trained:
        """Return the squared error with both booleans of a pair true and nothing else, beside that of answering nothing."""
        inputs = F.one_hot(self.pairs, self.n_features).sum(dim=1).float()
        wanted = self.wanted(inputs)
        with torch.no_grad():
            loss = (module(inputs) - wanted).square().sum(-1)
        return Trained(module, loss, wanted.square().sum(-1))

    def and_parts(self, module: nn.Module) -> Float[Tensor, "pairs neurons"]:
        """Return what each neuron gives to each output's AND: its own second difference in the two booleans, as the output reads it.

        The four answers to neither, one, the other and both are combined as `f(1, 1) - f(1, 0) - f(0, 1) + f(0, 0)`; summed over the
        neurons this is 1 where the AND is right.
        """
        read, bias = module.get_parameter("linear1.weight").detach(), module.get_parameter("linear1.bias").detach()
        first, second = (read.T[side] for side in self.pairs.unbind(1))
        bend = F.relu(first + second + bias) - F.relu(first + bias) - F.relu(second + bias) + F.relu(bias)
        return bend * module.get_parameter("linear2.weight").detach()

    def checks(self, module: nn.Module) -> tuple[Check, ...]:
        """Ask whether the ANDs are computed, and whether the claim of neurons for each pair is as false as it is meant to be."""
        parts = self.and_parts(module)
        trained = self.measure(module)
        worst = float((trained.loss_per_feature / trained.naive_per_feature).max())
        per_output, per_neuron = participation(parts).median(), participation(parts.T).median()
        total = float((parts.sum(dim=1) - 1).abs().median())
        sparse = "a few neurons serve each pair, so the claim would not be false"
        return (
            Check("worst pair's error / that of answering nothing", worst, high=0.5, why="the ANDs are not computed"),
            Check("neurons' parts in an AND miss 1 by (median)", total, high=0.1, why="the parts do not explain the answer"),
            Check(f"neurons that take part in an output, of {self.neurons} (median)", float(per_output), low=self.neurons / 4, why=sparse),
            Check(f"outputs that a neuron serves, of {len(parts)} (median)", float(per_neuron), low=len(parts) / 4, why=sparse),
        )

    def truth(self, module: nn.Module) -> Truth:
        """Return the false claim: for each pair a piece of either layer that is needed exactly when both of its booleans are true."""
        read, write = (module.get_parameter(f"linear{layer}.weight").detach().T for layer in (1, 2))
        both = F.one_hot(self.pairs, self.n_features).sum(dim=1).float().T.contiguous()
        names = tuple(f"{i} and {j}" for i, j in self.pairs.tolist())
        reading = SiteTruth(V=both, U=torch.linalg.pinv(both) @ read, pattern="sparse", on=self.wanted, needed=self.wanted, modules=names)
        writing = SiteTruth(
            V=write.contiguous(), U=torch.eye(len(names)), pattern="sparse", on=self.wanted, needed=self.wanted, modules=names
        )
        return Truth(sites={"linear1": reading, "linear2": writing})

    def panel(self, module: nn.Module) -> Panel:
        """Return the sceptic's panel; a feature alone has nothing to answer, so the cross-terms are what counts."""
        return feature_panel(self, module, torch.tensor([0.0, 1.0]))


def participation(parts: Float[Tensor, "rows columns"]) -> Float[Tensor, " rows"]:
    """Return how many columns take part in each row: `(Σ |a|)² / Σ a²`, 1 for a single one and all of them for equal ones."""
    return parts.abs().sum(dim=1).square() / parts.square().sum(dim=1).clamp(min=1e-12)
