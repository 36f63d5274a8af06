"""Compressed computation and its critique: does a network with fewer neurons than features compute them all, or is it the labels?

In a residual MLP with a fixed random embedding `W_E` the MLP has to answer `ReLU(x) + M x` with `M = I - W_E W_Eᵀ`, the noise
that the embedding's overlaps bring in. With M in the labels the loss falls below that of a dedicated neuron for each of as many
features as there are neurons; without M it does not. `loss_power=4` punishes
outliers, and then no feature is ignored.

Sources: Braun et al. 2025 (arXiv 2501.14926) for the toy; Bhagat et al. 2026 (arXiv 2606.14673) for the critique.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from unbraid.targets.data import SparseFeatures
from unbraid.targets.panel import Panel
from unbraid.targets.toy import Check, Toy, Trained, toys
from unbraid.targets.toy_kit.compressed_computation import links_of, reading_truth, writing_truth
from unbraid.targets.toy_kit.feature_panel import feature_panel
from unbraid.targets.toy_kit.mlp import MLP, seeded_mlp
from unbraid.targets.toy_kit.probes import co_active_probes, one_hot_probes
from unbraid.targets.truth import SiteTruth, Truth, any_on, feature_on

IGNORED = 0.9
"""A feature counts as ignored when its error is above this share of that of not answering it at all."""


@toys.register
class CompressedComputation(Toy):
    """`ReLU(x)` of more features than there are neurons, with or without the noise in the labels that looks like a gain."""

    kind: Literal["compressed-computation"] = "compressed-computation"
    n_features: PositiveInt = 100
    """Number of sparse features."""
    d_mlp: PositiveInt = 50
    """Number of neurons."""
    confound: bool = False
    """Whether the labels hold the noise M of a random embedding."""
    loss_power: Literal[2, 4] = 2
    """The power of the error that training minimises: 2 leaves features out, 4 punishes outliers."""
    d_model: PositiveInt = 1000
    """Width of the stream whose random embedding gives M; only matters with the confound."""
    probability: float = Field(default=0.01, gt=0, le=1)
    """Chance that a feature is on."""

    summary: ClassVar[str] = "100 sparse features and 50 neurons, clean labels: 50 features learned by a neuron each, the others ignored"
    lesson: ClassVar[str] = "a loss that looks like computation in superposition can come from the labels; compare with the naive solution"
    sites: ClassVar[tuple[str, ...]] = ("linear1", "linear2")
    training_steps: ClassVar[int] = 8000
    first_l1: ClassVar[float] = 1e-4
    l1_until: ClassVar[float] = 0.95
    training_batch: ClassVar[int] = 1024
    recipe: ClassVar[Mapping[str, Any]] = {
        "steps": 3000,
        "starts": {"count": 2, "until": 0.5},
        "batch_size": 1024,
        "components": {"linear1": 120, "linear2": 100},
        "importance": {"kind": "layerwise-mlp", "hidden": 96},
        "prune": {"at": 0.7, "below": 0.2},
        "losses": {
            "stochastic": {"routing": "subset"},
            "faithfulness": {"coefficient": 1e-3, "relative": True},
            "minimality": {"coefficient": 4e-5},
        },
        "optimizer": {"factors": {"learning_rate": 3e-3}, "importance": {"learning_rate": 3e-3}, "epsilon": 1e-11},
    }

    @model_validator(mode="after")
    def _fewer_neurons(self) -> CompressedComputation:
        if self.d_mlp >= self.n_features:
            raise ValueError("d_mlp must be below n_features: with a neuron for each feature nothing is left out")
        return self

    @property
    def naive_loss(self) -> float:
        """The squared error per active feature of a neuron each for as many features as there are: `(n - m) / n / 6`."""
        return (self.n_features - self.d_mlp) / self.n_features / 6

    @property
    def noise(self) -> Float[Tensor, "n_features n_features"]:
        """`M = I - W_E W_Eᵀ` for random unit embedding vectors; zeros without the confound."""
        if not self.confound:
            return torch.zeros(self.n_features, self.n_features)
        generator = torch.Generator().manual_seed(self.seed)
        directions = F.normalize(torch.randn(self.n_features, self.d_model, generator=generator), dim=1)
        return torch.eye(self.n_features) - directions @ directions.T

    def build(self) -> MLP:
        """Return an untrained model of the right shape."""
        return MLP((self.n_features, self.d_mlp, self.n_features))

    def data(self) -> SparseFeatures:
        """Return sparse features of both signs."""
        return SparseFeatures(self.n_features, self.probability, low=-1.0, high=1.0)

    def wanted(self, inputs: Tensor) -> Tensor:
        """Return the labels, with the noise where the confound is on."""
        return F.relu(inputs) + inputs @ self.noise

    def naive(self, inputs: Tensor) -> Tensor:
        """Return what a dedicated neuron for each of the first `d_mlp` features answers."""
        return F.relu(inputs) * (torch.arange(self.n_features) < self.d_mlp)

    def oracle_answer(self, inputs: Tensor) -> Tensor:
        """Return what the planted mechanism answers: with clean labels and squared error it is the naive one."""
        return self.naive(inputs) if self.is_dedicated else self.wanted(inputs)

    @property
    def is_dedicated(self) -> bool:
        """Whether training should end with a neuron for each learned feature."""
        return self.loss_power == 2 and not self.confound

    def train(self, seed: int = 0) -> Trained:
        """Train on the labels with Adam, the rate falling as a cosine.

        By squared error, sharing a neuron among k features costs as much, with one feature on, as giving it to one of them: k - 1 features'
        worth. With clean labels an L1 norm that falls to nothing decides between such solutions. It costs no loss: without it the
        loss is the same, and half of the features are half learned.
        """
        generator = torch.Generator().manual_seed(seed)
        module = seeded_mlp((self.n_features, self.d_mlp, self.n_features), bias=False, seed=seed)
        data, noise = self.data(), self.noise
        weights = list(module.parameters())
        optimizer = torch.optim.Adam(weights, lr=1e-2)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.training_steps)
        for step in range(self.training_steps):
            drawn = data.distinct(step, self.training_batch, generator)
            error = module(drawn.inputs) - F.relu(drawn.inputs) - drawn.inputs @ noise
            loss = (error**self.loss_power).sum(dim=1) @ drawn.weights / (self.n_features * self.probability)
            pressure = self.is_dedicated * self.first_l1 * max(0.0, 1 - step / (self.l1_until * self.training_steps))
            if pressure > 0:
                loss = loss + pressure * torch.stack([weight.abs().sum() for weight in weights]).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        return self.measure(module.requires_grad_(False))

    def measure(self, module: nn.Module) -> Trained:
        """Return the squared error with one feature on, averaged over its values, beside that of answering nothing."""
        values = torch.linspace(-1.0, 1.0, 41)
        inputs = torch.eye(self.n_features)[:, None] * values[None, :, None]
        wanted = self.wanted(inputs)
        with torch.no_grad():
            loss = (module(inputs) - wanted).square().sum(-1).mean(1)
        return Trained(module, loss, wanted.square().sum(-1).mean(1))

    def loss_over_naive(self, module: nn.Module, clean: bool = False, batches: int = 160, size: int = 8192) -> float:
        """Return the squared error on fresh data over that of a dedicated neuron each, against clean labels if asked.

        The naive loss is taken on the same inputs, averaged over which features have the neurons: that removes most of the chance in how
        many features are on, and how far. In expectation it is `naive_loss` per active feature.
        """
        generator, data, noise = torch.Generator().manual_seed(self.seed + 1), self.data(), self.noise
        found, naive = 0.0, 0.0
        with torch.no_grad():
            for step in range(batches):
                drawn = data.distinct(step, size, generator)
                answer = F.relu(drawn.inputs)
                wanted = answer if clean else answer + drawn.inputs @ noise
                found += float((module(drawn.inputs) - wanted).square().sum(dim=1) @ drawn.weights)
                naive += float(answer.square().sum(dim=1) @ drawn.weights) * (self.n_features - self.d_mlp) / self.n_features
        return found / naive

    def checks(self, module: nn.Module) -> tuple[Check, ...]:
        """Ask whether the loss is the naive one, whether a gain is the labels', and whether features are ignored."""
        found = self.loss_over_naive(module)
        number = f"{found * self.naive_loss:.4f} / {self.naive_loss:.4f} per active feature"
        if self.confound:
            cleaned = self.loss_over_naive(module, clean=True)
            return (
                Check(f"loss / naive loss with the noise M in the labels ({number})", found, high=0.95, why="there is no gain to explain"),
                Check("the same model's loss / naive loss once M is taken out of the labels", cleaned, low=1.0, why="the gain is not M's"),
            )
        ignored = float(len(self.measure(module).unlearned(IGNORED)))
        if self.loss_power == 4:
            return (Check("features ignored under the fourth power", ignored, high=0, why="it leaves features out as the square does"),)
        more = "more is computed than a neuron each for as many features as there are can, or training fell short"
        least = (self.n_features - self.d_mlp) / 2
        return (
            Check(f"loss / naive loss with clean labels ({number})", found, 0.99, 1.01, why=more),
            Check("features ignored under the square", ignored, low=least, why="neurons are shared, not dedicated"),
        )

    def truth(self, module: nn.Module) -> Truth:
        """Return the links of the dedicated neurons; where neurons are shared, a reading piece per feature and one full writing map."""
        if self.is_dedicated:
            links = links_of(module)
            return Truth(sites={"linear1": reading_truth(module, links), "linear2": writing_truth(module, links)})
        return self._shared_truth(module)

    def _shared_truth(self, module: nn.Module) -> Truth:
        """Return the truth where every neuron serves many features: a piece of `linear1` per feature, and `linear2` as one map.

        How many directions of `linear2` one input needs is not planted, so its lines are for reading.
        """
        eye = torch.eye(self.n_features)
        read, write = (module.get_parameter(f"linear{layer}.weight").detach().T.contiguous() for layer in (1, 2))
        return Truth(
            sites={
                "linear1": SiteTruth(V=eye, U=read, pattern="per_feature", on=feature_on, needed=feature_on),
                "linear2": SiteTruth(
                    V=torch.eye(self.d_mlp),
                    U=write,
                    pattern="always_on",
                    on=any_on(self.d_mlp),
                    needed=any_on(self.d_mlp),
                    any_basis=True,
                ),
            },
            one_hot=one_hot_probes(self.n_features),
            co_active=co_active_probes(self.n_features),
            identity_error_bar=2,
            bars={"dense_error": (None, None), "l0/linear2": (None, None)},
        )

    def panel(self, module: nn.Module) -> Panel:
        """Return the sceptic's panel over the range of a feature; the naive answer is a dedicated neuron for each of the first features."""
        return feature_panel(self, module, torch.linspace(-1.0, 1.0, 21))
