"""Toy model of superposition: n sparse features squeezed through m < n dimensions, one direction each (Elhage et al. 2022).

The model is `x̂ = ReLU(Wᵀ [I] W x + b)`. What is planted: the n columns of W, each needed exactly when its feature is on. With
a frozen identity between the two layers there is also a rank-m map that every active input needs.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from unbraid.core.errors import UserError
from unbraid.targets.data import SparseFeatures
from unbraid.targets.panel import Panel
from unbraid.targets.toy import Check, Features, Toy, Trained
from unbraid.targets.toy_kit.feature_panel import feature_panel
from unbraid.targets.toy_kit.probes import co_active_probes, one_hot_probes
from unbraid.targets.truth import SiteTruth, Truth, answered, any_on, feature_on

UNLEARNED = 0.3  # a feature with more than this share of the error of ignoring it was not learned


class TMSModule(nn.Module):
    """`ReLU(linear2(hidden(linear1(x))))`, where linear2's weight is linear1's transpose and hidden is the identity."""

    def __init__(self, n_features: int, d_hidden: int, identity: bool) -> None:
        super().__init__()
        self.linear1 = nn.Linear(n_features, d_hidden, bias=False)
        if identity:
            self.hidden = nn.Linear(d_hidden, d_hidden, bias=False)
            with torch.no_grad():
                self.hidden.weight.copy_(torch.eye(d_hidden))
        self.linear2 = nn.Linear(d_hidden, n_features)
        self.relu = nn.ReLU()

    def forward(self, x: Float[Tensor, "*batch n_features"]) -> Float[Tensor, "*batch n_features"]:
        """Reconstruct the features from the hidden layer."""
        hidden = self.linear1(x)
        if hasattr(self, "hidden"):
            hidden = self.hidden(hidden)
        return self.relu(self.linear2(hidden))


class TMS(Toy):
    """A toy model of superposition."""

    n_features: Features
    """Number of sparse features."""
    d_hidden: PositiveInt
    """Width of the hidden layer."""
    identity: bool = False
    """Whether a frozen identity stands between the two layers."""
    probability: float = Field(default=0.05, gt=0, le=1)
    """Chance that a feature is on."""

    tied: ClassVar[tuple[tuple[str, str], ...]] = (("linear1", "linear2"),)
    identity_error_bar: ClassVar[int] = 0
    training_steps: ClassVar[int] = 2000
    training_batch: ClassVar[int] = 1024
    training_restarts: ClassVar[int] = 4

    def build(self) -> nn.Module:
        """Return an untrained model of the right shape."""
        return TMSModule(self.n_features, self.d_hidden, self.identity)

    def data(self) -> SparseFeatures:
        """Return the sparse features that the model was trained on."""
        return SparseFeatures(self.n_features, self.probability)

    def train(self, seed: int = 0) -> Trained:
        """Train several restarts as one batched model and keep the best.

        A single run often ends with features unlearned, so restarts are part of the recipe.

        Raises:
            UserError: Even the best restart leaves a feature unlearned.
        """
        W, b = _train_restarts(self, seed)
        module = self.build()
        with torch.no_grad():
            module.get_parameter("linear1.weight").copy_(W)
            module.get_parameter("linear2.weight").copy_(W.T)
            module.get_parameter("linear2.bias").copy_(b)
        trained = self.measure(module)
        unlearned = trained.unlearned(UNLEARNED)
        if unlearned:
            raise UserError(
                f"Training {self.kind} with seed {seed} left features {unlearned} unlearned.", "Train again with another --seed."
            )
        return trained

    def wanted(self, inputs: Float[Tensor, "batch n_features"]) -> Float[Tensor, "batch n_features"]:
        """Return the features themselves."""
        return inputs

    def naive(self, inputs: Float[Tensor, "batch n_features"]) -> Float[Tensor, "batch n_features"]:
        """Return what a model without superposition answers: one feature per dimension exactly, and 0 for the others.

        Features are alike, so the first ones stand for the ones that are answered.
        """
        return torch.where(torch.arange(self.n_features) < self.d_hidden, inputs, 0.0)

    def checks(self, module: nn.Module) -> tuple[Check, ...]:
        """Return whether every feature is represented, and whether superposition answers more than a dimension per feature could."""
        trained, x = self.measure(module), self.data().batch(0, 8192, torch.Generator().manual_seed(0))
        worst = float((trained.loss_per_feature / trained.naive_per_feature).max())
        with torch.no_grad():
            loss, naive = (float((answer - x).square().sum()) for answer in (module(x), self.naive(x)))
        return (
            Check("worst feature's squared error alone, as a share of ignoring it", worst, None, UNLEARNED, "a feature has no direction, and no piece is planted for it"),
            Check("squared error on the data, as a share of a model's without superposition", loss / naive, None, 0.5, "superposition brings nothing"),
        )  # fmt: skip

    def panel(self, module: nn.Module) -> Panel:
        """Return the sceptic's panel on values from 0 to 1."""
        return feature_panel(self, module, torch.linspace(0.0, 1.0, 21))

    def measure(self, module: nn.Module) -> Trained:
        """Return the squared error of each feature beside that of always answering 0."""
        return Trained(module, *_loss_per_feature(module, self.n_features))

    def truth(self, module: nn.Module) -> Truth:
        """Return one piece per feature in each layer, and the identity as a rank-m map that is always on."""
        M = module.get_parameter("linear1.weight").detach().T  # [n_features, d_hidden]
        eye, hidden = torch.eye(self.n_features), torch.eye(self.d_hidden)
        sites = {"linear1": SiteTruth(V=eye, U=M, pattern="per_feature", on=feature_on, needed=feature_on)}
        if self.identity:
            sites["hidden"] = SiteTruth(V=hidden, U=hidden, pattern="always_on", on=any_on(self.d_hidden), needed=any_on(self.d_hidden))
        sites["linear2"] = SiteTruth(
            V=M.T.contiguous(), U=eye, pattern="per_feature", on=feature_on, needed=answered(module), compare="write"
        )
        return Truth(
            sites=sites,
            one_hot=one_hot_probes(self.n_features),
            co_active=co_active_probes(self.n_features),
            identity_error_bar=self.identity_error_bar,
        )


def _train_restarts(toy: TMS, seed: int) -> tuple[Tensor, Tensor]:
    """Minimise the squared error of `training_restarts` models at once; return W [d_hidden, n_features] and b of the best."""
    generator = torch.Generator().manual_seed(seed)
    data, k = toy.data(), toy.training_restarts
    W = (torch.randn(k, toy.n_features, toy.d_hidden, generator=generator) / toy.d_hidden**0.5).requires_grad_()
    b = torch.zeros(k, 1, toy.n_features, requires_grad=True)
    optimizer = torch.optim.AdamW([W, b], lr=1e-2, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, toy.training_steps)

    def losses(x: Tensor) -> Tensor:
        return (F.relu(torch.baddbmm(b, x @ W, W.mT)) - x).square().mean(dim=(1, 2))

    for step in range(toy.training_steps):
        optimizer.zero_grad()
        losses(data.batch(step, toy.training_batch, generator)).sum().backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        best = int(losses(data.batch(0, 65_536 // 8, generator)).argmin())
    return W[best].detach().T, b[best, 0].detach()


def _loss_per_feature(module: nn.Module, n_features: int) -> tuple[Tensor, Tensor]:
    """Return the squared error on x_i in (0, 1] alone, for each feature, beside that of always answering 0."""
    values = torch.linspace(0.05, 1.0, 20)
    inputs = torch.eye(n_features)[:, None] * values[None, :, None]
    with torch.no_grad():
        loss = (module(inputs) - inputs).square().sum(-1).mean(1)
    return loss, values.square().mean().expand(n_features)
